//! Logs of a case's machines, read from the case's folder: all lines with times on the run's clock, and their digest. Knows files and
//! their forms, not labs.

mod attempt;
mod bottleneck;
mod clock;
mod digest;
mod file;
mod line;
mod live;
mod pattern;
mod restart;
mod stamp;

pub use bottleneck::Bottleneck;
pub use digest::{FirstError, LogDigest, LogGroup};
pub use line::{LogLevel, LogLine};
pub use live::LiveLines;
pub use restart::Restart;
pub use stamp::epoch_ms;
