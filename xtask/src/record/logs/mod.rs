//! What the machines of a case logged, read again from its folder: all lines on the run's clock, and what they come to.
//! Knows files and their forms, not labs.

mod attempt;
mod bottleneck;
mod clock;
mod digest;
mod file;
mod level;
mod line;
mod live;
mod pattern;
mod restart;
mod stamp;
mod text;

pub use digest::{Bottleneck, FirstError, LogDigest, LogGroup, Restart};
pub use level::LogLevel;
pub use line::LogLine;
pub use live::LiveLines;
pub use stamp::epoch_ms;
