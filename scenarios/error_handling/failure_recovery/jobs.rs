//! The jobs of the workers, as batch_worker.py on worker takes them, and the one right result of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Jobs of a batch: three chunks of a worker and more.
pub const JOBS: u32 = 80;
/// How often each digest is hashed: 25 jobs take a worker a few milliseconds.
const ROUNDS: u32 = 200;
/// A list of differences ends here.
const SHOWN: usize = 5;

/// The commands for redis-cli that queue a batch.
pub fn commands(batch: u32) -> String {
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

/// Where the results in psql's lines of `batch|id|amount_cents|digest` differ from what the first `batches` batches must
/// give.
pub fn differences(results: &str, batches: u32) -> Vec<String> {
    let mut missing: BTreeMap<(u32, u32), String> = (1..=batches)
        .flat_map(|batch| (1..=JOBS).map(move |id| (batch, id)))
        .map(|(batch, id)| ((batch, id), result(batch, id)))
        .collect();
    let mut differences = Vec::new();
    for line in results.lines() {
        let mut fields = line.split('|').map(|field| field.parse().ok());
        let key = fields.next().flatten().zip(fields.next().flatten());
        match key.and_then(|key| missing.remove(&key)) {
            None => differences.push(format!("{line} is there twice, or of no job")),
            Some(expected) if expected != line => differences.push(format!("{line} instead of {expected}")),
            Some(_) => {}
        }
    }
    differences.extend(missing.into_keys().map(|(batch, id)| format!("job {id} of batch {batch} has no result")));
    differences.truncate(SHOWN);
    differences
}

fn amount_cents(batch: u32, id: u32) -> u32 {
    batch * 1009 + id * 37
}

/// The line that psql must show for a job.
fn result(batch: u32, id: u32) -> String {
    let amount_cents = amount_cents(batch, id);
    let mut digest = format!("{batch}:{id}:{amount_cents}").into_bytes();
    for _ in 0..ROUNDS {
        digest = Sha256::digest(&digest).to_vec();
    }
    let mut line = format!("{batch}|{id}|{amount_cents}|");
    for byte in digest {
        let _ = write!(line, "{byte:02x}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_doubled_or_wrong_is_named() {
        let lines: Vec<String> = (1..=JOBS).map(|id| result(1, id)).collect();
        assert!(differences(&lines.join("\n"), 1).is_empty());
        assert_eq!(differences(&lines[1..].join("\n"), 1), ["job 1 of batch 1 has no result"]);
        let doubled = differences(&format!("{}\n{}", lines.join("\n"), lines[0]), 1);
        assert_eq!(doubled, [format!("{} is there twice, or of no job", lines[0])]);
        let wrong = lines.join("\n").replace(&lines[3], "1|4|1157|00");
        assert_eq!(differences(&wrong, 1), [format!("1|4|1157|00 instead of {}", lines[3])]);
    }

    #[test]
    fn a_job_is_written_as_the_worker_reads_it() {
        let commands = commands(2);
        assert_eq!(
            commands.lines().next(),
            Some(r#"LPUSH jobs '{"batch":2,"id":1,"amount_cents":2055,"rounds":200}'"#)
        );
        assert_eq!(commands.lines().count(), JOBS as usize);
    }
}
