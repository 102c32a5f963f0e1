//! Repetitions of measured operations: counts them, and decides whether another one is needed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Requested repetitions of repeatable operations, which replace those that the scenario plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeats {
    /// Minimum number of repetitions of each operation.
    pub samples: u32,
    /// Minimum time over which each operation is repeated, from the end of the first repetition.
    pub over: Duration,
    /// Minimum number of repetitions of individual operations, by name; the larger of this and `samples` applies.
    pub of: BTreeMap<String, u32>,
}

/// Repetitions done so far, by operation.
#[derive(Debug)]
pub(super) struct RepetitionPlan {
    /// Requested repetitions; `None` follows the scenario's plan.
    repeats: Option<Repeats>,
    rows: HashMap<String, Row>,
}

/// Consecutive repetitions of one operation.
#[derive(Debug)]
struct Row {
    done: u32,
    /// End of the first repetition.
    since: Instant,
}

impl RepetitionPlan {
    pub fn new(repeats: Option<Repeats>) -> Self {
        Self { repeats, rows: HashMap::new() }
    }

    /// Counts a repetition that has ended, of `planned` ones; returns true if another one is needed. The row ends with its last repetition,
    /// or with a failure; the next repetition begins a new row.
    pub fn after(&mut self, operation: &str, planned: u32, succeeded: bool, now: Instant) -> bool {
        let mut row = self.rows.remove(operation).unwrap_or(Row { done: 0, since: now });
        row.done += 1;
        let enough = match &self.repeats {
            Some(repeats) if planned > 1 => {
                let samples =
                    repeats.of.get(operation).map_or(repeats.samples, |samples| repeats.samples.max(*samples));
                row.done >= samples && now.duration_since(row.since) >= repeats.over
            }
            _ => row.done >= planned,
        };
        let more = succeeded && !enough;
        if more {
            self.rows.insert(operation.to_owned(), row);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often an operation of 10 ms is measured by an SDK that repeats it as long as it is told to.
    fn row(plan: &mut RepetitionPlan, operation: &str, planned: u32) -> u32 {
        let begun = Instant::now();
        let mut count = 1;
        while plan.after(operation, planned, true, begun + Duration::from_millis(10) * count) {
            count += 1;
        }
        count
    }

    fn repeats(samples: u32, over: Duration) -> Repeats {
        Repeats { samples, over, of: BTreeMap::from([("slow".to_owned(), 40), ("quick".to_owned(), 20)]) }
    }

    #[test]
    fn as_many_as_are_planned_or_as_the_run_needs() {
        let mut planned = RepetitionPlan::new(None);
        assert_eq!((row(&mut planned, "a", 3), row(&mut planned, "a", 3), row(&mut planned, "b", 1)), (3, 3, 1));
        let mut more = RepetitionPlan::new(Some(repeats(30, Duration::ZERO)));
        assert_eq!((row(&mut more, "a", 3), row(&mut more, "once", 1)), (30, 1));
        assert_eq!((row(&mut more, "slow", 3), row(&mut more, "quick", 3)), (40, 30));
        let mut fewer = RepetitionPlan::new(Some(repeats(1, Duration::ZERO)));
        assert_eq!(row(&mut fewer, "a", 20), 1);
    }

    #[test]
    fn for_as_long_as_the_run_needs() {
        let mut long = RepetitionPlan::new(Some(repeats(30, Duration::from_secs(2))));
        assert_eq!((row(&mut long, "a", 3), row(&mut long, "a", 3), row(&mut long, "once", 1)), (201, 201, 1));
    }

    #[test]
    fn rows_of_two_operations_do_not_mix_and_a_failure_ends_its_row() {
        let mut plan = RepetitionPlan::new(None);
        let now = Instant::now();
        assert!(plan.after("a", 2, true, now) && plan.after("b", 3, true, now));
        assert!(!plan.after("b", 3, false, now));
        assert!(!plan.after("a", 2, true, now));
        assert_eq!(row(&mut plan, "b", 3), 3);
    }
}
