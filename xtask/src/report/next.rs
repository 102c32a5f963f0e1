//! Commands to type after an attempt that did not pass; the terminal and the page show the same commands.

use serde::Serialize;

use crate::program;
use crate::record::command_line::{PLACE, RUN, carried, quoted};
use crate::record::{Attempt, CaseId, Outcome, RunRecord, Verdict};

/// Command to type next, with its purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    pub purpose: &'static str,
    pub command: String,
}

/// Returns the commands to type after an attempt that did not pass; `run` is the name of its run in them, such as `latest`.
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

/// Returns the command that repeats a run with the seeds that the run drew; `None` for a record of an old engine, which lacks the command.
pub fn repeat_command(record: &RunRecord) -> Option<String> {
    if record.command.is_empty() {
        return None;
    }
    let mut words: Vec<String> = Vec::new();
    for word in &record.command {
        match record.shuffle_seed {
            Some(seed) if word == "--shuffle" => words.push(format!("--shuffle={seed}")),
            _ => words.push(quoted(word)),
        }
    }
    let seeded = record.command.iter().any(|word| word == "--seed" || word.starts_with("--seed="));
    let replayed = record.command.iter().any(|word| word.starts_with("--chaos-replay"));
    if let Some(seed) = record.chaos_seed.filter(|_| !seeded && !replayed) {
        words.push(format!("--seed {seed}"));
    }
    Some(format!("{} {}", program::name(), words.join(" ")))
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

    fn record(command: &[&str], chaos_seed: Option<u64>, shuffle_seed: Option<u64>) -> RunRecord {
        let text = r#"{"format_version":1,"run_id":"run-1","started_at":"","duration_ms":1,"engine_version":"","user":"u",
            "shuffle_seed":null,"layers":{},"privileged":[],"cases":[],"counts":{"passed":0,"failed":0,"flaky":0,
            "infrastructure":0,"interrupted":0,"skipped":0},"cleanup_failures":[],"exit_code":0}"#;
        let record: RunRecord = serde_json::from_str(text).unwrap();
        RunRecord {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            chaos_seed,
            shuffle_seed,
            ..record
        }
    }

    #[test]
    fn seeds_that_were_drawn_are_in_the_command() {
        let of = |command: &[&str], chaos, shuffle| repeat_command(&record(command, chaos, shuffle));
        let shown = of(&["e2e", "a b", "--chaos", "--shuffle"], Some(7), Some(8));
        assert_eq!(shown.as_deref(), Some("cargo xtask e2e 'a b' --chaos --shuffle=8 --seed 7"));
        let given = of(&["e2e", "--chaos", "--seed", "7", "--shuffle=8"], Some(7), Some(8));
        assert_eq!(given.as_deref(), Some("cargo xtask e2e --chaos --seed 7 --shuffle=8"));
        assert_eq!(of(&[], None, None), None);
    }
}
