//! The headings under which the help puts options: the same words for the same kind, whatever the verb.

/// How cases are run.
pub const RUNNING: &str = "Running";
/// What is measured and compared.
pub const PERFORMANCE: &str = "Performance";
/// Labs that stay, and cases that are held.
pub const LOOKING_INSIDE: &str = "Looking inside";
/// Names, slots and packages on this host.
pub const MACHINE: &str = "Machine";
