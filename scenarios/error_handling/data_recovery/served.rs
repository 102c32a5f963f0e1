//! Answers that the reader on worker got, with one entry for each different answer.

use anyhow::Context as _;
use e2e::{Container, Lab};
use serde::Deserialize;

use crate::books;

/// File on worker that `fixtures/reader.py` writes the answers to.
pub const FILE: &str = "/srv/data/served.json";
/// Maximum number of wrong answers that are listed.
const SHOWN: usize = 5;

#[derive(Debug, Deserialize)]
pub struct Answer {
    /// First number that the reader asked for.
    first: u64,
    last: u64,
    /// Rows as PostgreSQL shows them, in order; empty with an error.
    rows: Vec<String>,
    error: Option<String>,
    /// Number of times that the answer was given.
    count: u64,
}

impl Answer {
    fn is_complete(&self) -> bool {
        self.error.is_none() && self.rows.len() as u64 == self.last - self.first + 1
    }
}

/// Reads the answers that the reader has recorded, and keeps them as an artifact.
pub fn read(lab: &Lab, worker: &Container) -> e2e::Result<Vec<Answer>> {
    let text = worker.get(FILE)?;
    lab.artifact("served.json", &text)?;
    let answers: Vec<Answer> = serde_json::from_slice(&text).context("reading served.json as the reader wrote it")?;
    for answer in &answers {
        let what = answer.error.clone().unwrap_or_else(|| format!("{} rows", answer.rows.len()));
        lab.log(format!("reader: {} times for {} to {}: {what}", answer.count, answer.first, answer.last));
    }
    Ok(answers)
}

/// Returns rows that the reader got and that are not the acknowledged ones.
pub fn wrong(answers: &[Answer]) -> Vec<String> {
    let wrong = |answer: &Answer| books::unexpected_between(&answer.rows, answer.first, answer.last);
    answers.iter().flat_map(wrong).take(SHOWN).collect()
}

/// Counts the answers that had all requested rows.
pub fn complete(answers: &[Answer]) -> u64 {
    answers.iter().filter(|answer| answer.is_complete()).map(|answer| answer.count).sum()
}

/// Counts the answers that were errors with this text.
pub fn errors(answers: &[Answer], words: &str) -> u64 {
    let has = |answer: &&Answer| answer.error.as_deref().is_some_and(|error| error.contains(words));
    answers.iter().filter(has).map(|answer| answer.count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: Vec<String>, error: Option<&str>) -> Answer {
        Answer { first: 61, last: 63, rows, error: error.map(Into::into), count: 2 }
    }

    #[test]
    fn too_little_is_not_wrong_and_a_changed_row_is() {
        let whole: Vec<String> = (61..=63).map(books::row).collect();
        let changed = vec![whole[0].replace("memo", "memp")];
        let given = [
            answer(whole.clone(), None),
            answer(whole[1..].to_vec(), None),
            answer(Vec::new(), Some("invalid page in block 0 of relation base/5/1")),
        ];
        assert!(wrong(&given).is_empty());
        assert_eq!((complete(&given), errors(&given, "invalid page")), (2, 2));
        assert_eq!(wrong(&[answer(changed.clone(), None)]), changed);
    }
}
