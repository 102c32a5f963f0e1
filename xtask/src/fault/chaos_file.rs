//! `chaos.json`: a schedule as planned and as played, in the folder of its case.

use serde::{Deserialize, Serialize};

use super::nemesis::Played;
use super::schedule::Schedule;

/// The file of a case's folder that holds its schedule, as planned and as played.
pub const CHAOS_FILE: &str = "chaos.json";

/// A schedule as planned and as played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChaosFile {
    /// Planned faults: the same for the same seed.
    pub schedule: Schedule,
    /// Played faults, in the same order; empty until the case has ended.
    pub played: Vec<Played>,
}
