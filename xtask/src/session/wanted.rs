//! How many repetitions of an operation are wanted yet.

use std::collections::HashMap;

/// Counts down, by operation.
#[derive(Debug)]
pub(super) struct Wanted {
    /// So many of each repeatable operation, instead of those that are planned.
    samples: Option<u32>,
    left: HashMap<String, u32>,
}

impl Wanted {
    pub fn new(samples: Option<u32>) -> Self {
        Self { samples, left: HashMap::new() }
    }

    /// A repetition has ended, of so many that were planned: whether another one is wanted. A failure ends the row; so does
    /// its last repetition, and the next one begins a new row.
    pub fn after(&mut self, operation: &str, planned: u32, succeeded: bool) -> bool {
        let all = if planned > 1 { self.samples.unwrap_or(planned) } else { planned };
        let left = self.left.remove(operation).unwrap_or(all).saturating_sub(1);
        let more = succeeded && left > 0;
        if more {
            self.left.insert(operation.to_owned(), left);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often an operation is measured by an SDK that goes on as long as it is told to.
    fn row(wanted: &mut Wanted, operation: &str, planned: u32) -> u32 {
        let mut count = 1;
        while wanted.after(operation, planned, true) {
            count += 1;
        }
        count
    }

    #[test]
    fn as_many_as_are_planned_or_as_the_run_needs() {
        let mut planned = Wanted::new(None);
        assert_eq!((row(&mut planned, "a", 3), row(&mut planned, "a", 3), row(&mut planned, "b", 1)), (3, 3, 1));
        let mut more = Wanted::new(Some(30));
        assert_eq!((row(&mut more, "a", 3), row(&mut more, "once", 1)), (30, 1));
        let mut fewer = Wanted::new(Some(1));
        assert_eq!(row(&mut fewer, "a", 20), 1);
    }

    #[test]
    fn rows_of_two_operations_do_not_mix_and_a_failure_ends_its_row() {
        let mut wanted = Wanted::new(None);
        assert!(wanted.after("a", 2, true) && wanted.after("b", 3, true));
        assert!(!wanted.after("b", 3, false));
        assert!(!wanted.after("a", 2, true));
        assert_eq!(row(&mut wanted, "b", 3), 3);
    }
}
