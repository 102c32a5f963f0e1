//! One line of a log.

use serde::{Deserialize, Serialize};

use super::LogLevel;

/// One line of a log, safe to show anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, on the run's clock; nothing where that is not known.
    pub at_ms: Option<f64>,
    /// The container's name in its lab, `scenario` or `host`.
    pub machine: String,
    /// The file it stands in, such as `journal.log`; `log` for what the scenario has the engine log.
    pub source: String,
    /// How much it matters.
    pub level: LogLevel,
    /// Valid UTF-8 of bounded length, without escape codes and control characters. A time that stands at its begin in
    /// the file is left out where it became [`LogLine::at_ms`].
    pub text: String,
}

impl LogLine {
    /// The machine of what the scenario itself says.
    pub const SCENARIO: &str = "scenario";

    /// The machine of what the host's kernel says.
    pub const HOST: &str = "host";
}
