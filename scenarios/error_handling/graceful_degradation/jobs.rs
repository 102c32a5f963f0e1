//! Jobs, with their expected results computed again.

use std::collections::{BTreeMap, BTreeSet};

use common::jobs::digest;
use common::postgres::rows;
use e2e::{Container, Result};
use serde::Deserialize;

/// Number of jobs of batch 1, and of a list of batch 2: see `fixtures/client.py`.
const PREPARED: u64 = 400;
const LIST: u64 = 10;
/// Number of times that a digest is hashed, by batch.
const ROUNDS: [u32; 2] = [20, 400];

/// Result of a job.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Outcome {
    amount_cents: u64,
    pub digest: String,
}

/// Returns the expected result of a job.
pub fn expected(batch: u64, id: u64) -> Outcome {
    let amount_cents = amount_cents(id);
    let rounds = ROUNDS[usize::from(batch == 2)];
    Outcome { amount_cents, digest: digest(batch, id, amount_cents as i64, rounds) }
}

#[derive(Deserialize)]
struct Row {
    batch: u64,
    id: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Tells whether batch 1 is done.
pub fn is_prepared(db: &Container) -> Result<bool> {
    Ok(ids(db, 1)?.len() as u64 == PREPARED)
}

/// Tells whether each job of these lists of batch 2, given by their first ids, has a result.
pub fn are_done(db: &Container, lists: &[u64]) -> Result<bool> {
    let done = ids(db, 2)?;
    Ok(of_lists(lists).iter().all(|id| done.contains(id)))
}

/// Lists differences between the results and those that both batches must give; empty without any. The jobs of `unanswered` lists may or
/// may not have results.
pub fn wrong(db: &Container, accepted: &[u64], unanswered: &[u64]) -> Result<Vec<String>> {
    let found: Vec<Row> = rows(db, "mancer", "SELECT batch, id, amount_cents, digest FROM results")?;
    let accepted: Vec<_> = (1..=PREPARED).map(|id| (1, id)).chain(of_batch_2(accepted)).collect();
    let jobs = accepted.iter().copied().chain(of_batch_2(unanswered));
    let jobs: BTreeMap<_, _> = jobs.map(|(batch, id)| ((batch, id), expected(batch, id))).collect();
    let mut missing: BTreeSet<_> = accepted.into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for Row { batch, id, outcome } in found {
        missing.remove(&(batch, id));
        let is_first = seen.insert((batch, id));
        match jobs.get(&(batch, id)) {
            None => wrong.push(format!("job {batch}:{id}: never handed in")),
            Some(_) if !is_first => wrong.push(format!("job {batch}:{id}: done twice")),
            Some(expected) if *expected != outcome => wrong.push(format!("job {batch}:{id}: {outcome:?}")),
            Some(_) => {}
        }
    }
    wrong.extend(missing.iter().map(|(batch, id)| format!("job {batch}:{id}: accepted and never done")));
    Ok(wrong)
}

fn amount_cents(id: u64) -> u64 {
    7 * id % 1000 + 1
}

fn of_batch_2(lists: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    of_lists(lists).into_iter().map(|id| (2, id))
}

fn of_lists(lists: &[u64]) -> BTreeSet<u64> {
    lists.iter().flat_map(|first| *first..first + LIST).collect()
}

fn ids(db: &Container, batch: u64) -> Result<BTreeSet<u64>> {
    #[derive(Deserialize)]
    struct Id {
        id: u64,
    }
    let found: Vec<Id> = rows(db, "mancer", &format!("SELECT id FROM results WHERE batch = {batch}"))?;
    Ok(found.into_iter().map(|found| found.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_what_python_made_of_it() {
        let digest = "d7591a277d166aad38bfa5d2926c481d8024399a040f47e6387ced12552e8777".into();
        assert_eq!(expected(2, 3), Outcome { amount_cents: 22, digest });
    }
}
