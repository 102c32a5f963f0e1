//! Verdicts on samples: has work become slower? They are made so that noise alone hardly ever gives one. The crate
//! `e2e-stats` has the methods, `duet` and `committed` the two ways of judging. Pure: samples and a seed in, verdicts out. Does not know labs, scenarios, files or clocks.
//! README.md beside this file says how the verdicts were chosen.

mod committed;
mod duet;
mod verdict;

pub use committed::{CALIBRATION_RUNS, COMMITTED_SAMPLES, Kind, Series, committed};
pub use duet::{Duet, Metric, Pair, Plan, Side, Step};
pub use verdict::{Better, Decision, RUN_ALPHA, Thresholds, Verdict, hold_together};
