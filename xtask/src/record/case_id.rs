//! Name of a case in a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of one case: `category/scenario:case`, and `#2` for a repetition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseId(pub String);

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CaseId {
    /// Suffix of the name of a duet's other side.
    pub const BASELINE_SIDE: &str = "@baseline";

    /// Tells whether it is the other side of a duet, which is no case of the run.
    #[must_use]
    pub fn is_baseline_side(&self) -> bool {
        self.0.ends_with(Self::BASELINE_SIDE)
    }
}
