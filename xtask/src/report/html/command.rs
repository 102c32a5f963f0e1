//! The command that repeats a run.

use crate::program;
use crate::record::RunRecord;
use crate::record::command_line::quoted;

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
    }
}
