//! The faults of an attempt as lines: which were on at a moment, and which were over by then.

use serde::Serialize;

use super::story::{Broken, Story};
use super::words::{Moment, duration, moment, plain};

/// A fault, seen from a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultLine {
    /// Name in the lab.
    pub container: String,
    /// Fault with its parameters.
    pub what: String,
    /// Moment at which its effect was verified.
    pub bit: Moment,
    /// Relation to the moment, in words.
    pub relation: String,
    /// Evidence.
    pub evidence: String,
}

/// Faults that were on at this moment.
pub fn on_at(story: &Story, at_ms: f64) -> Vec<FaultLine> {
    let on = story.faults.iter().filter(|broken| broken.is_on(at_ms));
    on.map(|broken| line(broken, format!("on since {}", duration(at_ms - broken.bit_ms)))).collect()
}

/// Faults that were over at this moment, the last one first, so many at most; and how many more there were.
pub fn over_by(story: &Story, at_ms: f64, most: usize) -> (Vec<FaultLine>, usize) {
    let mut over: Vec<(f64, &Broken)> =
        story.faults.iter().filter_map(|it| Some((it.healed_ms.filter(|healed| *healed < at_ms)?, it))).collect();
    over.sort_by(|one, two| two.0.total_cmp(&one.0));
    let left_out = over.len().saturating_sub(most);
    over.truncate(most);
    let line = |(healed, broken): (f64, &Broken)| {
        let lasted = duration(healed - broken.asked_ms);
        line(broken, format!("over {} before, after {lasted}", duration(at_ms - healed)))
    };
    (over.into_iter().map(line).collect(), left_out)
}

fn line(broken: &Broken, relation: String) -> FaultLine {
    FaultLine {
        container: broken.container.clone(),
        what: broken.description.to_string(),
        bit: moment(broken.bit_ms),
        relation,
        evidence: plain(&broken.evidence, 400),
    }
}
