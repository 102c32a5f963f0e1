//! Error rates of the rules of verdicts, and of other rules in common use: how often they are wrong about work that is known to be
//! identical or known to be slower, in recorded timings (`replay`) and in duets on this machine (`live`). For developers of the rules.

mod live;
mod recording;
mod replay;
mod rules;

pub use live::{LiveCheck, live_check};
pub use recording::Recording;
pub use replay::{Comparisons, Rate, Windows};
pub use rules::{criterion, fixed_20_percent, mann_whitney};
