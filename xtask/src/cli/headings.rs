//! The headings under which the help puts options: the same words for the same kind, whatever the verb.

/// Choice of cases.
pub const CHOOSING: &str = "Choosing";
/// Ways of running them.
pub const RUNNING: &str = "Running";
/// Faults on purpose.
pub const CHAOS: &str = "Chaos";
/// Measurement and comparison.
pub const PERFORMANCE: &str = "Performance";
/// Labs that stay, and cases that are held.
pub const LOOKING_INSIDE: &str = "Looking inside";
/// Names, slots and packages on this host.
pub const MACHINE: &str = "Machine";
/// Options of every verb.
pub const EVERYWHERE: &str = "For every verb";
