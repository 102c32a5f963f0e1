//! The headings under which the help puts options: the same words for the same kind, whatever the verb.

/// Which cases.
pub const CHOOSING: &str = "Choosing";
/// How they are run.
pub const RUNNING: &str = "Running";
/// What is broken on purpose.
pub const CHAOS: &str = "Chaos";
/// What is measured and compared.
pub const PERFORMANCE: &str = "Performance";
/// Labs that stay, and cases that are held.
pub const LOOKING_INSIDE: &str = "Looking inside";
/// Names, slots and packages on this host.
pub const MACHINE: &str = "Machine";
/// What every verb takes.
pub const EVERYWHERE: &str = "For every verb";
