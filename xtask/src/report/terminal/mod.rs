//! The run as it goes, on stderr, and its result, on stdout. `screen` and `story` are what the events so far come to, `frame`,
//! `scroll` and `result` the lines that people read; only `live` and `output` know that there is a terminal.

mod frame;
mod live;
mod logs;
mod output;
mod result;
#[cfg(test)]
pub(super) mod samples;
mod screen;
mod scroll;
mod stdout;
mod story;
mod style;
mod times;

pub use logs::LogClock;
pub use output::{Look, Progress, Terminal};
pub use screen::Amount;
pub use scroll::Detail;
pub(crate) use stdout::println;
pub use stdout::{check_stdout, write_line};
pub use style::Color;
