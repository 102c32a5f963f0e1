//! Process of a trace in Chrome's format, which stands for an attempt at a case or the run itself: lines with spans and marks, and curves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::record::plain_text;

/// Line of a process in the trace: its position among the lines, and its name.
pub type Line = (u32, String);

/// Builder of a process of the trace.
#[derive(Debug)]
pub struct Process {
    number: u32,
    name: String,
    slices: BTreeMap<Line, Vec<Slice>>,
    marks: Vec<(Line, Mark)>,
    counts: Vec<(u64, Value)>,
}

#[derive(Debug)]
struct Slice {
    stretch: Stretch,
    name: String,
    category: &'static str,
    details: Value,
}

#[derive(Debug)]
struct Mark {
    at_us: u64,
    name: String,
    category: &'static str,
    details: Value,
}

impl Process {
    #[must_use]
    pub fn new(number: u32, name: &str) -> Self {
        let name = plain_text(name);
        Self { number, name, slices: BTreeMap::new(), marks: Vec::new(), counts: Vec::new() }
    }

    /// Adds a span to a line; its start and end are milliseconds since the run's start.
    pub fn lasted(
        &mut self,
        line: Line,
        category: &'static str,
        name: &str,
        (from_ms, to_ms): (f64, f64),
        details: Value,
    ) {
        let begin_us = microseconds(from_ms);
        let stretch = Stretch { begin_us, end_us: microseconds(to_ms).max(begin_us) };
        self.slices.entry(line).or_default().push(Slice { stretch, name: plain_text(name), category, details });
    }

    /// Adds a momentary event to a line of the timeline, at milliseconds since the run's start.
    pub fn happened(&mut self, line: Line, category: &'static str, name: &str, at_ms: f64, details: Value) {
        self.slices.entry(line.clone()).or_default();
        self.marks.push((line, Mark { at_us: microseconds(at_ms), name: plain_text(name), category, details }));
    }

    /// Adds a point to each of several curves that are drawn in one chart: `curves` names the chart, and `values` has the name and value of
    /// each curve.
    pub fn counted(&mut self, curves: &str, at_ms: f64, values: &[(&str, f64)]) {
        let values: serde_json::Map<String, Value> =
            values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let at_us = microseconds(at_ms);
        let event = json!({"ph": "C", "name": plain_text(curves), "pid": self.number, "ts": at_us, "args": values});
        self.counts.push((at_us, event));
    }

    /// Returns the process as events of Chrome's trace format: first the names of process and lines, then spans, marks and points in the
    /// order of time.
    #[must_use]
    pub fn events(self) -> Vec<Value> {
        let pid = self.number;
        let mut names = vec![
            json!({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": self.name}}),
            json!({"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}),
        ];
        let mut timed = self.counts;
        let mut first_of_line: BTreeMap<&Line, u32> = BTreeMap::new();
        let mut tid = 0_u32;
        for (line, slices) in &self.slices {
            let stretches: Vec<Stretch> = slices.iter().map(|slice| slice.stretch).collect();
            let lanes = lanes(&stretches);
            let first = tid + 1;
            first_of_line.insert(line, first);
            for lane in 0..=lanes.iter().copied().max().unwrap_or(0) {
                tid += 1;
                let name =
                    if lane == 0 { plain_text(&line.1) } else { plain_text(&format!("{} ({})", line.1, lane + 1)) };
                names.push(json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}));
                names.push(
                    json!({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}),
                );
            }
            for (slice, lane) in slices.iter().zip(lanes) {
                let Stretch { begin_us, end_us } = slice.stretch;
                let tid = first + u32::try_from(lane).unwrap_or(u32::MAX - first);
                let event = json!({"ph": "X", "name": slice.name, "cat": slice.category, "pid": pid, "tid": tid,
                    "ts": begin_us, "dur": end_us - begin_us, "args": slice.details});
                timed.push((begin_us, event));
            }
        }
        for (line, mark) in &self.marks {
            let tid = first_of_line.get(line).copied().unwrap_or(1);
            let event = json!({"ph": "i", "s": "t", "name": mark.name, "cat": mark.category, "pid": pid, "tid": tid,
                "ts": mark.at_us, "args": mark.details});
            timed.push((mark.at_us, event));
        }
        timed.sort_by_key(|(at_us, _)| *at_us);
        names.extend(timed.into_iter().map(|(_, event)| event));
        names
    }
}

fn microseconds(milliseconds: f64) -> u64 {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "not below zero; a run takes no ages")]
    let whole = (milliseconds.max(0.0) * 1e3).round() as u64;
    whole
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    pub begin_us: u64,
    pub end_us: u64,
}

/// Returns for each stretch the number (from 0) of the lane that shows it, using few lanes: two stretches in a lane do not overlap, or one
/// contains the other.
#[must_use]
fn lanes(stretches: &[Stretch]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stretches.len()).collect();
    order.sort_by_key(|index| (stretches[*index].begin_us, std::cmp::Reverse(stretches[*index].end_us)));
    let mut chosen = vec![0; stretches.len()];
    // By lane, the ends of the stretches that are open, the innermost last.
    let mut open: Vec<Vec<u64>> = Vec::new();
    for index in order {
        let Stretch { begin_us, end_us } = stretches[index];
        for ends in &mut open {
            while ends.last().is_some_and(|end| *end <= begin_us) {
                ends.pop();
            }
        }
        let fits = open.iter().position(|ends| ends.last().is_none_or(|end| end_us <= *end));
        let lane = fits.unwrap_or_else(|| {
            open.push(Vec::new());
            open.len() - 1
        });
        open[lane].push(end_us);
        chosen[index] = lane;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(stretches: &[(u64, u64)], expected: &[usize]) {
        let stretches: Vec<Stretch> =
            stretches.iter().map(|(begin_us, end_us)| Stretch { begin_us: *begin_us, end_us: *end_us }).collect();
        assert_eq!(lanes(&stretches), expected, "{stretches:?}");
    }

    #[test]
    fn what_crosses_goes_beside() {
        check(&[], &[]);
        check(&[(0, 10), (2, 5), (5, 10), (10, 12)], &[0, 0, 0, 0]);
        check(&[(0, 10), (5, 15), (11, 14), (15, 16)], &[0, 1, 0, 0]);
        check(&[(2, 3), (0, 10)], &[0, 0]);
    }

    proptest! {
        #[test]
        fn in_one_lane_nothing_crosses(pairs in prop::collection::vec((0_u64..60, 0_u64..20), 0..40)) {
            let stretches: Vec<Stretch> =
                pairs.iter().map(|(begin_us, length)| Stretch { begin_us: *begin_us, end_us: begin_us + length }).collect();
            let lanes = lanes(&stretches);
            for (one, a) in stretches.iter().enumerate() {
                for (other, b) in stretches.iter().enumerate().filter(|(other, _)| lanes[one] == lanes[*other]) {
                    let crosses = a.begin_us < b.begin_us && b.begin_us < a.end_us && a.end_us < b.end_us;
                    prop_assert!(one == other || !crosses, "{a:?} and {b:?} cross");
                }
            }
        }
    }
}
