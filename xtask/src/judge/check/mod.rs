//! The judge judged: the rules of verdicts, and those they are compared with, replayed over recorded timings of work that is
//! known to be identical, and of work that is known to be slower.

mod compare;
mod recording;

pub use compare::{Comparisons, Rate, Windows};
pub use recording::Recording;
