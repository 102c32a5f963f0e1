//! Jobs of the workers, as `batch_worker.py` on worker takes them, and the only correct result of each.

use std::fmt::Write as _;

use common::jobs::digest;

/// Number of jobs of a batch: more than three chunks of a worker.
pub const JOBS: u64 = 80;
/// Number of times that each digest is hashed, so that 25 jobs take a worker a few milliseconds.
const ROUNDS: u32 = 200;

/// Returns the commands for redis-cli that queue a batch.
pub fn commands(batch: u64) -> String {
    let mut commands = String::new();
    for id in 1..=JOBS {
        let amount_cents = amount_cents(batch, id);
        let _ = writeln!(
            commands,
            r#"LPUSH jobs '{{"batch":{batch},"id":{id},"amount_cents":{amount_cents},"rounds":{ROUNDS}}}'"#
        );
    }
    commands
}

/// Returns the expected results of the first batches, as psql shows them: `batch|id|amount_cents|digest`.
pub fn results(batches: u64) -> Vec<String> {
    let result = |batch, id| {
        let amount_cents = amount_cents(batch, id);
        format!("{batch}|{id}|{amount_cents}|{}", digest(batch, id, amount_cents, ROUNDS))
    };
    (1..=batches).flat_map(|batch| (1..=JOBS).map(move |id| result(batch, id))).collect()
}

fn amount_cents(batch: u64, id: u64) -> i64 {
    (batch * 1009 + id * 37) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_written_as_the_worker_reads_it() {
        let commands = commands(2);
        assert_eq!(
            commands.lines().next(),
            Some(r#"LPUSH jobs '{"batch":2,"id":1,"amount_cents":2055,"rounds":200}'"#)
        );
        assert_eq!(commands.lines().count() as u64, JOBS);
    }
}
