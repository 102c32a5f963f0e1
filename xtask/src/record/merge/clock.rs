//! Files with times of a run's clock, moved to the clock of another run that began earlier.

use serde_json::Value;

use crate::record::{Performance, readable_json};

/// Function that moves the times in a file's text to a clock that began the given number of milliseconds earlier.
pub type Move = fn(&str, f64) -> anyhow::Result<String>;

/// Returns the function that moves a file of an attempt, by the file's name; `None` where the file has no times of the run's clock.
pub fn mover(name: &str) -> Option<Move> {
    match name {
        "performance.json" => Some(performance),
        "history.jsonl" => Some(history),
        "scenario.log.times" => Some(times),
        _ => None,
    }
}

fn performance(text: &str, by_ms: f64) -> anyhow::Result<String> {
    let mut performance = Performance::parse(text).map_err(anyhow::Error::msg)?;
    for operation in performance.operations.values_mut() {
        operation.samples.iter_mut().for_each(|sample| sample.begun_ms += by_ms);
    }
    if let Some(sampling) = &mut performance.sampling {
        sampling.at_ms.iter_mut().for_each(|at_ms| *at_ms += by_ms);
    }
    Ok(readable_json(&performance)?)
}

/// Returns a text without a last line that a killed engine left incomplete.
fn whole(text: &str) -> &str {
    text.rsplit_once('\n').map_or("", |(whole, _)| whole)
}

#[expect(clippy::unnecessary_wraps, reason = "like the others")]
fn history(text: &str, by_ms: f64) -> anyhow::Result<String> {
    let mut moved = String::new();
    for line in whole(text).lines() {
        let entry = serde_json::from_str::<Value>(line).ok();
        match entry.and_then(|entry| Some((entry["at_ms"].as_f64()?, entry))) {
            Some((at_ms, mut entry)) => {
                entry["at_ms"] = (at_ms + by_ms).into();
                moved.push_str(&entry.to_string());
            }
            // A damaged line stays one, and is counted as such by whoever reads it.
            None => moved.push_str(line),
        }
        moved.push('\n');
    }
    Ok(moved)
}

/// Moves lines that hold a byte's offset in the log and the time at which that byte came.
#[expect(clippy::unnecessary_wraps, reason = "like the others")]
fn times(text: &str, by_ms: f64) -> anyhow::Result<String> {
    let line = |line: &str| match line.split_once(' ').map(|(offset, at_ms)| (offset, at_ms.parse::<f64>())) {
        Some((offset, Ok(at_ms))) => format!("{offset} {}\n", at_ms + by_ms),
        _ => format!("{line}\n"),
    };
    Ok(whole(text).lines().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moved_and_nothing_else() {
        let check = |name: &str, content: &str, expected: Option<&str>| {
            let found = mover(name).map(|moved| moved(content, 1000.0).unwrap());
            assert_eq!(found.as_deref(), expected, "{name}");
        };
        check("scenario.log.times", "0 12.5\n17 2000\n20 ", Some("0 1012.5\n17 3000\n"));
        let history = r#"{"at_ms":2.5,"process":"p","operation":"o","phase":"ok","value":7}"#;
        let later = r#"{"at_ms":1002.5,"process":"p","operation":"o","phase":"ok","value":7}"#;
        check("history.jsonl", &format!("{history}\n{{\"at_"), Some(&format!("{later}\n")));
        check("kernel.log", "12.5 hello\n", None);
        // Its times are those since the faults began.
        check("chaos.json", "{}", None);
        assert!(performance("{}", 1.0).is_err());
    }
}
