//! How long cases took in earlier runs: what a run that begins can be expected to take.

use std::collections::BTreeMap;
use std::path::Path;

use super::past_run::RECORD_FILE;
use super::{PastRun, RUNS_FOLDER, RunRecord};
use crate::input;

/// So many runs are looked at, the latest first.
const RUNS_MAX: usize = 8;

/// How long each of these cases took when it last passed in a run of this kind, in milliseconds; nothing unless that is known of
/// every one. A repetition (`#2`) takes as long as its case.
#[must_use]
pub fn expected_durations(
    root: &Path,
    cases: &[String],
    is_of_kind: impl Fn(&RunRecord) -> bool,
) -> Option<BTreeMap<String, f64>> {
    let folder = root.join(RUNS_FOLDER);
    // Their names begin with the time of their begin; `latest` is one of them once more.
    let mut runs = input::list(&folder).ok()?;
    // A run without a record of its own was killed, or goes on.
    runs.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        input::look_below(&folder, Path::new(name).join(RECORD_FILE)).is_ok_and(|found| found.is_file())
    });
    let records = runs.into_iter().rev().take(RUNS_MAX).filter_map(|run| Some(PastRun::read(run).ok()?.record));
    durations(records.filter(is_of_kind), cases)
}

fn durations(records: impl Iterator<Item = RunRecord>, cases: &[String]) -> Option<BTreeMap<String, f64>> {
    let base = |case: &str| case.split('#').next().unwrap_or_default().to_owned();
    let mut known: BTreeMap<String, f64> = BTreeMap::new();
    let all = |known: &BTreeMap<String, f64>| cases.iter().all(|case| known.contains_key(&base(case)));
    for record in records {
        for (case, took_ms) in record.passed_durations() {
            known.entry(case).or_insert(took_ms);
        }
        if all(&known) {
            return Some(cases.iter().map(|case| (case.clone(), known[&base(case)])).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, CaseId, CaseResult, Outcome, Verdict, outcome::tests::record};

    #[test]
    fn a_case_takes_as_long_as_when_it_last_passed() {
        let run = |cases: &[(&str, Verdict, f64)]| {
            let case = |(case, verdict, duration_ms): &(&str, Verdict, f64)| CaseResult {
                case: CaseId((*case).to_owned()),
                verdict: *verdict,
                attempts: vec![Attempt {
                    outcome: Outcome::Passed,
                    duration_ms: *duration_ms,
                    folder: String::new(),
                    faults: None,
                }],
            };
            RunRecord { cases: cases.iter().map(case).collect(), ..record() }
        };
        let runs = [
            run(&[("a/b:c", Verdict::Passed, 20.0), ("a/d:e", Verdict::Failed, 1.0)]),
            run(&[("a/b:c", Verdict::Passed, 30.0), ("a/d:e#2", Verdict::Passed, 5.0)]),
        ];
        let cases = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = |names: &[&str]| durations(runs.iter().cloned(), &cases(names));
        assert_eq!(expected(&["a/b:c"]), Some(BTreeMap::from([("a/b:c".into(), 20.0)])));
        let both = BTreeMap::from([("a/b:c#2".into(), 20.0), ("a/d:e".into(), 5.0)]);
        assert_eq!(expected(&["a/b:c#2", "a/d:e"]), Some(both));
        assert_eq!(expected(&["a/b:c", "a/new:x"]), None);
    }
}
