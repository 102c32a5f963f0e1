//! Progress of a run on stderr, and its result on stdout. `screen` and `story` collect the state from the events so far; `frame`,
//! `scroll` and `result` make lines for people from it; only `live` and `output` write to the terminal.

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
