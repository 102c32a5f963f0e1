//! Jobs of `containers/worker/files/batch_worker.py`.

use std::time::Duration;

use e2e::{Container, scaled};
use sha2::{Digest as _, Sha256};

/// Multiplies the time limits of workers that start from now on by the machine's patience factor: a worker that gives up on PostgreSQL too
/// soon leaves a server process behind with each attempt.
pub fn be_patient(worker: &Container) -> e2e::Result {
    let factor = scaled(Duration::from_secs(1)).as_secs_f64();
    worker.write("/etc/batch-worker.env", format!("PATIENCE={factor}\n"))
}

/// Returns the only correct result of a job: the digest of the job in words, hashed `rounds` times in all, in lower-case hex.
#[must_use]
pub fn digest(batch: u64, id: u64, amount_cents: i64, rounds: u32) -> String {
    let mut digest = Sha256::digest(format!("{batch}:{id}:{amount_cents}"));
    for _ in 1..rounds {
        digest = Sha256::digest(digest);
    }
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::digest;

    /// Output of `printf 1:1:1 | sha256sum`, and the digest of its bytes.
    #[test]
    fn digests_are_what_the_workers_make() {
        assert_eq!(digest(1, 1, 1, 1), "9b4e3fa42a8278e688d94a5da4358b2f67e70c32a5e27253f5e8a8c869db0906");
        assert_eq!(digest(1, 1, 1, 2), "44a427398c3dc069b1c3712934ae5ee755e66fdcb7e7db86f9641af831d76184");
    }
}
