//! Commands that lead on from an attempt that did not pass: the same on the terminal and on the page.

use serde::Serialize;

use crate::program;
use crate::record::command_line::{PLACE, RUN, carried, quoted};
use crate::record::{Attempt, CaseId, Outcome, RunRecord, Verdict};

/// A command with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Purpose.
    pub purpose: &'static str,
    /// Command to type.
    pub command: String,
}

/// Commands to type after an attempt that did not pass; `run` is what its run is called there.
#[must_use]
pub fn next(record: &RunRecord, case: &CaseId, attempt: &Attempt, run: &str) -> Vec<Next> {
    let program = program::name();
    let name = quoted(case.0.split('#').next().unwrap_or(&case.0));
    let all = carried(&record.command, &RUN);
    let root = carried(&record.command, &["--root"]);
    let mut next = Vec::new();
    let mut add = |purpose, command| next.push(Next { purpose, command });
    if matches!(attempt.outcome, Outcome::Infrastructure { .. }) {
        add("what this machine lacks", format!("{program} doctor{root}"));
        add("this case again", format!("{program} e2e {name}{all}"));
        return next;
    }
    if let Some(mutant) = record.mutant() {
        let place = carried(&record.command, &PLACE);
        add("the same mutant again", format!("{program} mutants {mutant}{place}"));
        add("what all machines logged, errors first", format!("{program} logs {run} --case {name} --digest{root}"));
        return next;
    }
    let has_schedule = attempt.faults.is_some();
    let replay = if has_schedule { format!(" --chaos-replay {run}") } else { String::new() };
    let again = format!("{program} e2e {name}{all}{replay}");
    add(if has_schedule { "the same faults at the same times again" } else { "this case again" }, again.clone());
    let failed: Vec<_> = record.cases.iter().filter(|case| case.verdict == Verdict::Failed).collect();
    if has_schedule && failed.iter().any(|one| one.case == *case) {
        let place = carried(&record.command, &PLACE);
        let which = if failed.len() > 1 { format!(" --case {name}") } else { String::new() };
        add("the few faults that it takes", format!("{program} shrink {run}{which}{place}"));
    }
    add("what all machines logged, errors first", format!("{program} logs {run} --case {name} --digest{root}"));
    add("again, and the machines stay for a look", format!("{again} --keep-containers"));
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::terminal::samples;

    #[test]
    fn after_a_failure_with_faults_they_are_played_again_in_its_project_and_slot() {
        let mut record = samples::record();
        record.command =
            ["--root", "elsewhere", "e2e", "--chaos", "--slot=3", "--timeout", "5s"].map(str::to_owned).to_vec();
        let case = record.cases.iter().find(|case| case.verdict == Verdict::Failed).unwrap().clone();
        let commands = |record: &RunRecord, attempt: &Attempt| -> Vec<String> {
            let id = CaseId(format!("{}#2", case.case.0));
            let id = if record.cases.len() > 1 { &case.case } else { &id };
            next(record, id, attempt, "run-1").into_iter().map(|next| next.command).collect()
        };
        let name = &case.case.0;
        let again = format!("cargo xtask e2e {name} --root elsewhere --slot 3 --timeout 5s");
        let expected = [
            format!("{again} --chaos-replay run-1"),
            "cargo xtask shrink run-1 --root elsewhere --slot 3".to_owned(),
            format!("cargo xtask logs run-1 --case {name} --digest --root elsewhere"),
            format!("{again} --chaos-replay run-1 --keep-containers"),
        ];
        assert_eq!(commands(&record, &case.attempts[0]), expected);
        record.cases.clear();
        let without = Attempt { faults: None, ..case.attempts[0].clone() };
        assert_eq!(commands(&record, &without)[0], again, "the number of a repetition is none of its name");
        let mutated = RunRecord {
            run_id: "run-1/mutants/half_upload".into(),
            command: ["mutants", "--slot", "3"].map(str::to_owned).to_vec(),
            ..record.clone()
        };
        assert_eq!(commands(&mutated, &without)[0], "cargo xtask mutants half_upload --slot 3");
        let no_lab = Attempt { outcome: Outcome::infrastructure("no memory"), ..without };
        assert_eq!(commands(&record, &no_lab), ["cargo xtask doctor --root elsewhere".to_owned(), again]);
    }
}
