//! Round of jobs for the workers of `containers/worker`, from the queue to their results, which are deleted again, so that every round is
//! the same work.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use e2e::{Container, Result, check};
use sha2::{Digest as _, Sha256};

use crate::jobs::digest;

const DATABASE: &str = "mancer";

/// Jobs that nothing else hands in, with their expected results in the workers' table `results`.
#[derive(Debug)]
pub struct Round {
    /// Commands for redis-cli that hand in all jobs at once.
    commands: String,
    /// Script for psql that waits until all results exist, for 20 s at most, and deletes them.
    script: String,
    /// Expected output of the script: the number of results and their checksum.
    expected: String,
}

impl Round {
    /// Makes a round of `jobs` jobs, each hashed `rounds` times.
    #[must_use]
    pub fn new(batch: u64, jobs: u64, rounds: u32) -> Self {
        Self::of(batch, 1..=jobs, rounds, |id| (batch * 1009 + id * 37) as i64)
    }

    /// Makes a round of jobs with these ids and amounts.
    #[must_use]
    pub fn of(batch: u64, ids: RangeInclusive<u64>, rounds: u32, amount_cents: impl Fn(u64) -> i64) -> Self {
        let (first, last) = (*ids.start(), *ids.end());
        let (mut commands, mut results) = ("LPUSH jobs".to_owned(), Vec::new());
        for id in ids {
            let amount_cents = amount_cents(id);
            let job = format!(r#"{{"batch":{batch},"id":{id},"amount_cents":{amount_cents},"rounds":{rounds}}}"#);
            let _ = write!(commands, " '{job}'");
            results.push(format!("{id} {amount_cents} {}", digest(batch, id, amount_cents, rounds)));
        }
        let (jobs, which) = (results.len(), format!("batch = {batch} AND id BETWEEN {first} AND {last}"));
        let script = format!(
            "DO $$ BEGIN
               FOR look IN 1..4000 LOOP
                 EXIT WHEN (SELECT count(*) FROM results WHERE {which}) >= {jobs};
                 PERFORM pg_sleep(0.005);
               END LOOP;
             END $$;
             WITH gone AS (DELETE FROM results WHERE {which} RETURNING id, amount_cents, digest)
             SELECT count(*) || ' ' || encode(sha256(convert_to(string_agg(
               concat_ws(' ', id, amount_cents, digest), E'\\n' ORDER BY id), 'UTF8')), 'hex') FROM gone;"
        );
        let sum: String = Sha256::digest(results.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { commands, script, expected: format!("{jobs} {sum}") }
    }

    /// Hands the jobs in on app, and waits for their results and deletes them. The workers have to be running.
    pub fn run(&self, app: &Container, db: &Container) -> Result {
        app.command(["redis-cli", "-e", "-h", "db"]).stdin(self.commands.as_str()).run()?.success()?;
        self.take_away(db)
    }

    /// Waits for the results of jobs that were handed in, checks them, and deletes them.
    ///
    /// # Errors
    /// When a result is missing, wrong or duplicated, or PostgreSQL refuses.
    pub fn take_away(&self, db: &Container) -> Result {
        let psql = db.command(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", DATABASE]).user("postgres");
        let found = psql.stdin(self.script.as_str()).run()?.success()?;
        check!(found.stdout_text()?.trim() == self.expected, "each job of the round has its one result, the right one");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_written_as_the_worker_reads_them() {
        let round = Round::new(2, 1, 200);
        assert_eq!(round.commands, r#"LPUSH jobs '{"batch":2,"id":1,"amount_cents":2055,"rounds":200}'"#);
    }
}
