//! A round of jobs for the workers of `containers/worker`, from the queue to their results, which it takes away again: the
//! same work however often it is done.

use std::fmt::Write as _;

use e2e::{Container, Result, check};
use sha2::{Digest as _, Sha256};

use crate::jobs::digest;

const DATABASE: &str = "mancer";

/// Jobs of a batch that nobody else uses, in the table `results` of the workers.
#[derive(Debug)]
pub struct Round {
    /// For redis-cli: hands all jobs in at once.
    commands: String,
    /// For psql: waits until all results are there, for 20 s at most, and takes them away.
    script: String,
    /// What that must print.
    expected: String,
}

impl Round {
    /// So many jobs, each hashed so often.
    #[must_use]
    pub fn new(batch: u64, jobs: u64, rounds: u32) -> Self {
        let (mut commands, mut results) = ("LPUSH jobs".to_owned(), Vec::new());
        for id in 1..=jobs {
            let amount_cents = (batch * 1009 + id * 37) as i64;
            let _ =
                write!(commands, r#" '{{"batch":{batch},"id":{id},"amount_cents":{amount_cents},"rounds":{rounds}}}'"#);
            results.push(format!("{id} {amount_cents} {}", digest(batch, id, amount_cents, rounds)));
        }
        let script = format!(
            "DO $$ BEGIN
               FOR look IN 1..4000 LOOP
                 EXIT WHEN (SELECT count(*) FROM results WHERE batch = {batch}) >= {jobs};
                 PERFORM pg_sleep(0.005);
               END LOOP;
             END $$;
             WITH gone AS (DELETE FROM results WHERE batch = {batch} RETURNING id, amount_cents, digest)
             SELECT count(*) || ' ' || encode(sha256(convert_to(string_agg(
               concat_ws(' ', id, amount_cents, digest), E'\\n' ORDER BY id), 'UTF8')), 'hex') FROM gone;"
        );
        let sum: String = Sha256::digest(results.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { commands, script, expected: format!("{jobs} {sum}") }
    }

    /// Hands the jobs in on app, waits for their results on db, and takes them away. The workers have to be there.
    ///
    /// # Errors
    /// When a result is missing, wrong or there twice, or somebody refuses.
    pub fn run(&self, app: &Container, db: &Container) -> Result {
        app.command(["redis-cli", "-e", "-h", "db"]).stdin(self.commands.as_str()).run()?.success()?;
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
