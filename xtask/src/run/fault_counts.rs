//! Numbers of an attempt's faults: what became of them, and how late they were. Pure.

use crate::fault::{Fate, Played, Schedule};
use crate::record::{FaultCounts, Lateness};

/// Least lateness that makes another schedule of the planned one: to see that a fault bites takes some time by itself.
const DISPLACED_MS: u64 = 1000;

/// Counts the faults of a schedule by what became of them.
pub(super) fn fault_counts(schedule: Option<&Schedule>, played: &[Played]) -> FaultCounts {
    let count = |want: fn(&Fate) -> bool| counted(played.iter().filter(|one| want(&one.fate)).count());
    FaultCounts {
        planned: counted(played.len()),
        bit: count(|fate| matches!(fate, Fate::Bit { .. })),
        refused: count(|fate| matches!(fate, Fate::Refused { .. })),
        lateness: schedule.and_then(|schedule| lateness(schedule, played)),
    }
}

fn lateness(schedule: &Schedule, played: &[Played]) -> Option<Lateness> {
    let late = |one: &Played| match one.fate {
        Fate::Bit { late_ms, .. } => {
            let planned = schedule.faults.iter().find(|planned| planned.number == one.number)?;
            Some((late_ms, late_ms > planned.duration_ms.max(DISPLACED_MS)))
        }
        _ => None,
    };
    let mut all: Vec<(u64, bool)> = played.iter().filter_map(late).collect();
    all.sort_unstable();
    let displaced = counted(all.iter().filter(|(_, displaced)| *displaced).count());
    Some(Lateness { median_ms: all.get(all.len() / 2)?.0, max_ms: all.last()?.0, displaced })
}

fn counted(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(late_ms: &[u64], expected: &str) {
        let planned = |number: usize| {
            serde_json::json!({ "number": number, "at_ms": 100, "duration_ms": 2000, "container": "a",
                "fault": { "name": "node.kill" } })
        };
        let faults: Vec<_> = (1..=late_ms.len() + 1).map(planned).collect();
        let schedule = serde_json::json!({ "format_version": 1, "case": "a/b:c", "profile": "default", "length_ms": 8000,
            "faults": faults });
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        let bit = |(place, late_ms): (usize, &u64)| Played {
            number: u32::try_from(place).unwrap() + 1,
            fate: Fate::Bit {
                begun_ms: 100,
                bitten_ms: 100 + late_ms,
                healed_ms: 9000,
                recovered_ms: None,
                late_ms: *late_ms,
                evidence: String::new(),
                healed: String::new(),
            },
        };
        let not_reached = Played { number: u32::try_from(late_ms.len()).unwrap() + 1, fate: Fate::NotReached };
        let played: Vec<Played> = late_ms.iter().enumerate().map(bit).chain([not_reached]).collect();
        let counts = fault_counts(Some(&schedule), &played);
        assert_eq!((counts.planned as usize, counts.bit as usize), (late_ms.len() + 1, late_ms.len()));
        assert_eq!(counts.lateness.map_or_else(String::new, |lateness| lateness.to_string()), expected);
    }

    #[test]
    fn lateness_is_summed_up_and_another_schedule_is_called_so() {
        check(&[], "");
        check(&[300, 100, 200], "0.2 s late in the median, 0.3 s at most");
        check(
            &[90, 11_700, 120],
            "0.1 s late in the median, 11.7 s at most; 1 bit after its planned time was over, so ANOTHER SCHEDULE than the planned \
             one was played",
        );
    }
}
