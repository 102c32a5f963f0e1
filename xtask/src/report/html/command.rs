//! What to type: to repeat a run, and to go on after a failure.

use serde::Serialize;

use crate::program;
use crate::record::{CaseId, RunRecord};

/// A command with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// What it does.
    pub purpose: &'static str,
    /// To be typed.
    pub command: String,
}

/// The command that repeats a run, with the seeds it drew; nothing in records of engines that did not keep it.
pub fn repeat(record: &RunRecord) -> Option<String> {
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

/// What to type after a case has failed. `chaos` is told by whether it was run with a schedule.
pub fn next(record: &RunRecord, case: &CaseId, has_schedule: HasSchedule) -> Vec<Next> {
    let (program, run) = (program::name(), &record.run_id);
    let case = quoted(case.0.split('#').next().unwrap_or(&case.0));
    let mut next = Vec::new();
    let mut add = |purpose, command| next.push(Next { purpose, command });
    match has_schedule {
        HasSchedule::Yes => {
            add("the same faults at the same times again", format!("{program} e2e {case} --chaos-replay {run}"));
            add("the few faults that it takes", format!("{program} shrink {run} --case {case}"));
        }
        HasSchedule::No => add("this case again", format!("{program} e2e {case}")),
    }
    add("what all machines logged, errors first", format!("{program} logs {run} --case {case} --digest"));
    let again = if has_schedule == HasSchedule::Yes { format!(" --chaos-replay {run}") } else { String::new() };
    add("again, and the machines stay for a look", format!("{program} e2e {case}{again} --keep-containers"));
    next
}

/// Whether a case was run with a schedule of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasSchedule {
    /// Its chaos.json is there.
    Yes,
    /// Its faults, if any, are the scenario's own.
    No,
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let of = |command: &[&str], chaos, shuffle| repeat(&record(command, chaos, shuffle));
        let shown = of(&["e2e", "a b", "--chaos", "--shuffle"], Some(7), Some(8));
        assert_eq!(shown.as_deref(), Some("cargo xtask e2e 'a b' --chaos --shuffle=8 --seed 7"));
        let given = of(&["e2e", "--chaos", "--seed", "7", "--shuffle=8"], Some(7), Some(8));
        assert_eq!(given.as_deref(), Some("cargo xtask e2e --chaos --seed 7 --shuffle=8"));
        assert_eq!(of(&[], None, None), None);
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn after_a_failure_with_faults_they_are_played_again() {
        let case = CaseId("a/b:c#2".into());
        let next = next(&record(&["e2e"], None, None), &case, HasSchedule::Yes);
        let commands: Vec<&str> = next.iter().map(|one| one.command.as_str()).collect();
        let expected = [
            "cargo xtask e2e a/b:c --chaos-replay run-1",
            "cargo xtask shrink run-1 --case a/b:c",
            "cargo xtask logs run-1 --case a/b:c --digest",
            "cargo xtask e2e a/b:c --chaos-replay run-1 --keep-containers",
        ];
        assert_eq!(commands, expected);
    }
}
