//! Verdicts on mutants: whether a run on a broken product shows that the suite notices the mutant.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use e2e_contract::{Check, DefectOutcome};

use crate::input;
use crate::manifest::{Mutant, MutantFate, Notice};
use crate::record::{Event, MutantResult, MutantVerdict, Outcome, PastRun, mark_seen};

/// Maximum bytes read at the end of the file in which a machine's broken code leaves marks.
const MARKS_BYTES_MAX: u64 = 1 << 20;

/// Evidence about one mutant, from the record of its run.
#[derive(Debug, Default)]
pub(super) struct MutantEvidence {
    /// Outcome of each case's last attempt.
    outcomes: Vec<Outcome>,
    /// Failures to remove the run's labs from the host, a sentence each.
    leftovers: Vec<String>,
    /// Failed checks.
    failed: Vec<Check>,
    /// Known defects that did not fail as expected, with what was seen instead.
    marks: Vec<String>,
    /// Distinct marks that the broken code has left, which prove that it was executed.
    reached: Vec<String>,
}

impl MutantEvidence {
    /// Collects the evidence of a run, without following links; `mark` is the name of the file with the marks among a machine's collected
    /// logs.
    pub fn read(run: &PastRun, mark: &str) -> anyhow::Result<Self> {
        let mut seen = Self { leftovers: run.record.cleanup_failures.clone(), ..Self::default() };
        for case in &run.record.cases {
            seen.outcomes.extend(case.attempts.last().map(|attempt| attempt.outcome.clone()));
            for attempt in &case.attempts {
                seen.add_marks(&run.folder, &attempt.folder, mark)?;
            }
        }
        let mut reader = crate::record::EventReader::open(&run.folder)?;
        while let Some(stamped) = reader.next_event()? {
            match stamped.event {
                Event::Check { check, .. } if !check.passed => seen.failed.push(check),
                Event::Defect { defect, .. } if defect.outcome != DefectOutcome::Known => {
                    seen.marks.push(format!("{}: {}", defect.defect, mark_seen(&defect)));
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    fn add_marks(&mut self, run: &Path, attempt: &str, mark: &str) -> anyhow::Result<()> {
        let machines = Path::new(attempt).join("containers");
        for machine in input::names_below(run, &machines) {
            let marks = machines.join(machine).join(mark);
            let text = match input::read_end_below(run, &marks, MARKS_BYTES_MAX) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.with_context(|| format!("reading {}", run.join(&marks).display()))?.1,
            };
            for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()) {
                if !self.reached.iter().any(|known| known == line) {
                    self.reached.push(line.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Judges an emptied function by the evidence; returns the verdict and its reason. Any failure of the product kills it: nobody said
    /// which check has to notice.
    pub fn judge_emptied(&self) -> (MutantVerdict, String) {
        if let Some(unread) = self.unread() {
            return unread;
        }
        let Some(cause) = self.cause() else { return self.survived() };
        if let Some(failed) = self.failed.first() {
            return (MutantVerdict::Killed, message(failed));
        }
        let is_of_mark = |mark: &&String| mark.split_once(": ").is_some_and(|(defect, _)| cause.contains(defect));
        match self.marks.iter().find(is_of_mark) {
            Some(mark) => (MutantVerdict::Misread, only_a_mark(mark)),
            None => (MutantVerdict::Killed, cause),
        }
    }

    /// Returns the verdict on a run that says nothing about the mutant: an infrastructure error, or no mark of the broken code.
    fn unread(&self) -> Option<(MutantVerdict, String)> {
        let infrastructure = self.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Infrastructure { message, .. } => Some(message),
            _ => None,
        });
        if let Some(message) = infrastructure {
            return Some((MutantVerdict::Misread, format!("infrastructure error: {message}")));
        }
        let cause = self.cause();
        if let (None, false) = (&cause, self.leftovers.is_empty()) {
            return Some((MutantVerdict::Misread, format!("infrastructure error: {}", self.leftovers.join("; "))));
        }
        self.reached.is_empty().then(|| {
            let also =
                cause.map_or_else(|| "all cases passed".to_owned(), |cause| format!("yet a case failed: {cause}"));
            (MutantVerdict::NotReached, format!("the broken code did not run (it left no mark); {also}"))
        })
    }

    /// Returns the cause of the first case that failed.
    fn cause(&self) -> Option<String> {
        self.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Failed { cause } => Some(cause.to_string()),
            _ => None,
        })
    }

    /// Returns the verdict on a run in which no case failed.
    fn survived(&self) -> (MutantVerdict, String) {
        match self.outcomes.as_slice() {
            [] => (MutantVerdict::Misread, "no case was run".into()),
            outcomes => (MutantVerdict::Survived, format!("{} passed", cases(outcomes.len()))),
        }
    }

    /// Judges the mutant by the evidence; returns the verdict and its reason.
    pub fn judge(&self, notice: &Notice) -> (MutantVerdict, String) {
        if let Some(unread) = self.unread() {
            return unread;
        }
        let Some(cause) = self.cause() else { return self.survived() };
        let messages: Vec<String> = self.failed.iter().map(message).collect();
        let named = self.failed.iter().zip(&messages).filter(|(check, _)| is_named(check, &notice.check));
        let mut named = named.map(|(_, message)| message);
        if let Some(message) = named.clone().find(|message| notice.says.is_match(message)) {
            return (MutantVerdict::Killed, message.clone());
        }
        if let (true, Some(mark)) = (self.failed.is_empty(), self.marks.first()) {
            return (MutantVerdict::Misread, only_a_mark(mark));
        }
        let why = match (named.next(), messages.first()) {
            (Some(message), _) => format!("the named check failed, but `says` does not match its message: {message}"),
            (None, Some(message)) => format!("another check than the named one failed: {message}"),
            (None, None) => format!("no check failed, but: {cause}"),
        };
        (MutantVerdict::KilledUnexplained, why)
    }

    /// Returns the marks that the broken code has left.
    pub fn into_reached(self) -> Vec<String> {
        self.reached
    }
}

fn only_a_mark(mark: &str) -> String {
    format!("only a known defect's expected failure changed: {mark}")
}

fn cases(count: usize) -> String {
    if count == 1 { "its case".to_owned() } else { format!("all {count} cases") }
}

/// Tells whether the condition or the meaning of a check contains `name`.
fn is_named(check: &Check, name: &str) -> bool {
    check.condition.contains(name) || check.message.as_ref().is_some_and(|meaning| meaning.contains(name))
}

/// Formats a failed check as the outcome in the record does.
fn message(check: &Check) -> String {
    let meaning = check.message.as_ref().map_or_else(String::new, |message| format!("{message}: "));
    let values = if check.values.is_empty() { String::new() } else { format!(" [{}]", check.values) };
    format!("{meaning}{}{values} at {}:{}", check.condition, check.file, check.line)
}

/// Returns the result of an equivalent mutant, which is not run; `None` for any other mutant.
pub(super) fn equivalent(mutant: &Mutant) -> Option<MutantResult> {
    let MutantFate::Equivalent(reason) = &mutant.expected else { return None };
    Some(MutantResult {
        name: mutant.name.clone(),
        breaks: mutant.breaks.clone(),
        verdict: MutantVerdict::Equivalent,
        scenario: None,
        reason: reason.clone(),
        reached: Vec::new(),
        run: None,
        duration_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cause;

    fn failed_check(meaning: &str, values: &str) -> Check {
        Check {
            passed: false,
            condition: "sum == expected".into(),
            values: values.into(),
            message: Some(meaning.into()),
            file: "main.rs".into(),
            line: 7,
        }
    }

    fn failed(message: &str) -> Outcome {
        Outcome::Failed { cause: Cause::Check { message: message.into() } }
    }

    fn check(evidence: &MutantEvidence, verdict: MutantVerdict, reason: &str) {
        let notice =
            Notice { filter: "a/b".into(), check: "the total".into(), says: regex::Regex::new("sum = 0\\b").unwrap() };
        let (judged, why) = evidence.judge(&notice);
        assert_eq!(judged, verdict, "{why}");
        assert!(why.contains(reason), "{why}\n  expected {reason}");
    }

    #[test]
    fn any_failure_of_the_product_kills_an_emptied_function_but_a_mark_alone_does_not() {
        let check = |outcome: Outcome, failed: Vec<Check>, marks: &[&str], reached: bool, verdict, reason: &str| {
            let evidence = MutantEvidence {
                outcomes: vec![Outcome::Passed, outcome],
                failed,
                marks: marks.iter().map(|mark| (*mark).to_owned()).collect(),
                reached: if reached { vec!["m:f".into()] } else { Vec::new() },
                ..MutantEvidence::default()
            };
            let (judged, why) = evidence.judge_emptied();
            assert!(judged == verdict && why.contains(reason), "{judged}: {why}\n  expected {reason}");
        };
        let failed_by = |message: &str| Outcome::Failed { cause: Cause::Error { message: message.into() } };
        let late = Outcome::Failed { cause: Cause::TimedOut { deadline_ms: 5000, doing: None } };
        let mark = ["p-1/bug: does not fail any more"];
        check(failed("x"), vec![failed_check("the total", "sum = 0")], &mark, true, MutantVerdict::Killed, "the total");
        check(failed_by("run.py ended with 1"), vec![], &[], true, MutantVerdict::Killed, "run.py ended with 1");
        check(failed_by("run.py ended with 1"), vec![], &mark, true, MutantVerdict::Killed, "run.py ended with 1");
        check(late, vec![], &[], true, MutantVerdict::Killed, "did not end within 5s");
        check(failed_by("p-1/bug fails in another way"), vec![], &mark, true, MutantVerdict::Misread, "p-1/bug");
        check(Outcome::Passed, vec![], &[], true, MutantVerdict::Survived, "all 2 cases passed");
        check(Outcome::Passed, vec![], &[], false, MutantVerdict::NotReached, "left no mark");
        check(Outcome::infrastructure("no memory"), vec![], &[], true, MutantVerdict::Misread, "no memory");
    }

    #[test]
    fn marks_of_all_machines_count_once_and_no_link_is_followed() {
        let run = tempfile::tempdir().unwrap();
        let machines = run.path().join("a/b/containers");
        for (machine, text) in [("app", Some("m:f\nm:g\n")), ("db", None), ("worker", Some("m:g\n\nm:h\n"))] {
            std::fs::create_dir_all(machines.join(machine)).unwrap();
            text.iter().for_each(|text| std::fs::write(machines.join(machine).join("reached"), text).unwrap());
        }
        let mut seen = MutantEvidence::default();
        seen.add_marks(run.path(), "a/b", "reached").unwrap();
        assert_eq!(seen.into_reached(), ["m:f", "m:g", "m:h"]);
        std::os::unix::fs::symlink(machines.join("app/reached"), machines.join("db/reached")).unwrap();
        let error = MutantEvidence::default().add_marks(run.path(), "a/b", "reached").unwrap_err();
        assert!(format!("{error:#}").contains("containers/db/reached"), "{error:#}");
    }

    #[test]
    fn only_the_named_check_with_its_words_kills() {
        let seen = |outcome: Outcome, failed: Vec<Check>, marks: &[&str], reached: &[&str]| MutantEvidence {
            outcomes: vec![Outcome::Passed, outcome],
            leftovers: Vec::new(),
            failed,
            marks: marks.iter().map(|mark| (*mark).to_owned()).collect(),
            reached: reached.iter().map(|mark| (*mark).to_owned()).collect(),
        };
        let total = || failed_check("the total of all orders", "sum = 0, expected = 5");
        let with = |failed_checks| seen(failed("x"), failed_checks, &[], &["m:f"]);
        check(
            &with(vec![total()]),
            MutantVerdict::Killed,
            "the total of all orders: sum == expected [sum = 0, expected = 5] at main.rs:7",
        );
        check(&with(vec![failed_check("the first", "x = 1"), total()]), MutantVerdict::Killed, "the total");
        check(
            &with(vec![failed_check("the total of all orders", "sum = 3, expected = 5")]),
            MutantVerdict::KilledUnexplained,
            "`says` does not match its message: the total",
        );
        check(
            &with(vec![failed_check("the first", "sum = 0")]),
            MutantVerdict::KilledUnexplained,
            "another check than the named one failed: the first",
        );
        let late = Outcome::Failed { cause: Cause::TimedOut { deadline_ms: 5000, doing: None } };
        check(
            &seen(late, vec![], &[], &["m:f"]),
            MutantVerdict::KilledUnexplained,
            "no check failed, but: the scenario did not end within 5s",
        );
        check(&seen(Outcome::Passed, vec![], &[], &["m:f"]), MutantVerdict::Survived, "all 2 cases passed");
        check(&seen(Outcome::Passed, vec![], &[], &[]), MutantVerdict::NotReached, "left no mark); all cases passed");
        check(
            &seen(failed("x"), vec![total()], &[], &[]),
            MutantVerdict::NotReached,
            "left no mark); yet a case failed: check failed: x",
        );
        let mark = "p-1/bug: it did not fail, and nothing was observed of the effect";
        check(
            &seen(failed("p-1/bug no longer fails as known"), vec![], &[mark], &["m:f"]),
            MutantVerdict::Misread,
            "known defect's expected failure changed: p-1/bug",
        );
        check(&seen(failed("x"), vec![total()], &[mark], &["m:f"]), MutantVerdict::Killed, "the total");
        check(
            &seen(Outcome::infrastructure("no memory"), vec![total()], &[], &["m:f"]),
            MutantVerdict::Misread,
            "no memory",
        );
        let left = |evidence| MutantEvidence { leftovers: vec!["a mount is left".into()], ..evidence };
        check(
            &left(seen(Outcome::Passed, vec![], &[], &["m:f"])),
            MutantVerdict::Misread,
            "infrastructure error: a mount is left",
        );
        check(&left(with(vec![total()])), MutantVerdict::Killed, "the total");
        check(
            &MutantEvidence { reached: vec!["m:f".into()], ..MutantEvidence::default() },
            MutantVerdict::Misread,
            "no case was run",
        );
    }
}
