//! Steady load of jobs for the workers of `containers/worker`, and what must hold during any fault: an accepted job is done, and each job
//! has exactly one result, the correct one.

use std::panic::resume_unwind;
use std::time::Duration;

use anyhow::Context as _;
use e2e::{Container, Lab, Level, Result, scaled};
use serde::Deserialize;
use serde_json::json;

use crate::jobs::{be_patient, digest};
use crate::measured::Operations;
use crate::postgres::{psql, rows};

/// Number of jobs that are handed in together, which is also the number that a worker takes.
const TOGETHER: u64 = 25;
/// Interval between two hand-ins of jobs.
const PACE: Duration = Duration::from_millis(100);
/// Deadline for the answer to a hand-in, set in redis-cli and in the scenario.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
/// Deadline for the remaining jobs; they take 1 s on an idle machine, 4 s if another worker takes over jobs.
const DONE_DEADLINE: Duration = Duration::from_secs(30);
const DATABASE: &str = "mancer";
/// SQL that creates the table that the workers write to.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS results (batch int, id int, amount_cents bigint, digest text, worker text, \
                     PRIMARY KEY (batch, id)); ALTER TABLE results OWNER TO mancer";
/// Redis script that counts the jobs which are not finished yet, at one moment.
const UNFINISHED: &str = "local jobs = redis.call('LLEN', 'jobs') \
                          for _, key in ipairs(redis.call('KEYS', 'processing:*')) do \
                          jobs = jobs + redis.call('LLEN', key) end \
                          return jobs";
/// Maximum number of complaints of a kind that are listed.
const SHOWN: usize = 5;

/// Programs that hand jobs in on app.
#[derive(Debug)]
pub enum Producer<'a> {
    /// redis-cli alone.
    RedisCli(&'a Container),
    /// The operation `hand_in` of a program that uses Mancer.
    Mancer(Operations<'a>),
}

impl Producer<'_> {
    /// Hands jobs in, all or none; returns the length of the queue afterwards.
    fn hand_in(&self, jobs: Vec<String>) -> Result<u64> {
        let patience = scaled(REDIS_PATIENCE).as_secs_f64().to_string();
        match self {
            Self::RedisCli(app) => {
                let words = ["timeout", &patience, "redis-cli", "-h", "db", "LPUSH", "jobs"].map(str::to_owned);
                let ended = app.command(words.into_iter().chain(jobs)).deadline(PATIENCE).run()?;
                let (status, answer, error) = (ended.status, ended.stdout_text()?.trim(), ended.stderr_text()?.trim());
                answer.parse().with_context(|| format!("redis-cli ended with status {status}: {answer} {error}"))
            }
            Self::Mancer(operations) => {
                operations.perform_within(PATIENCE, "hand_in", &[json!("jobs"), json!(patience), json!(jobs)])
            }
        }
    }
}

/// Jobs of one producer, with ids from 1. A producer without an answer hands the same jobs in again: if they had been accepted, they are
/// done twice, which changes nothing.
#[derive(Debug)]
pub struct Load {
    batch: u64,
    rounds: u32,
    /// Id of the last job that Redis has acknowledged; all before it are acknowledged too.
    accepted: u64,
    /// Id of the last job that was sent; Redis may have it although no answer came.
    perhaps: u64,
}

/// Problems found in the table, a line each.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Accepted jobs that have no result.
    pub lost: Vec<String>,
    /// Results of jobs that were never handed in, duplicate results, and wrong ones.
    pub wrong: Vec<String>,
}

/// Row of the table `results`.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: u64,
    amount_cents: i64,
    digest: String,
}

impl Load {
    /// Makes a load of jobs of this batch, each hashed `rounds` times.
    #[must_use]
    pub fn new(batch: u64, rounds: u32) -> Self {
        Self { batch, rounds, accepted: 0, perhaps: 0 }
    }

    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Hands jobs in, once and then at a steady pace while `goes_on` returns true. The case's history has the outcome of each attempt; a
    /// hand-in that fails is no error.
    pub fn run(&mut self, lab: &Lab, by: &Producer<'_>, goes_on: impl Fn() -> bool) -> Result {
        let name = format!("producer {}", self.batch);
        loop {
            let ids = self.accepted + 1..=self.accepted + TOGETHER;
            let attempt = lab.invoke(&name, "hand_in", vec![*ids.start(), *ids.end()])?;
            match by.hand_in(ids.clone().map(|id| self.job(id)).collect()) {
                Ok(length) => {
                    (self.accepted, self.perhaps) = (*ids.end(), *ids.end());
                    attempt.ok(length)?;
                }
                // redis-cli connects anew and sends again by itself: its error does not tell whether anything was sent.
                Err(error) => {
                    self.perhaps = *ids.end();
                    attempt.unknown(format!("{error:#}"))?;
                }
            }
            if !goes_on() {
                return Ok(());
            }
            std::thread::sleep(PACE); // that is what a steady load is
        }
    }

    /// Formats a job as the worker reads it.
    fn job(&self, id: u64) -> String {
        let Self { batch, rounds, .. } = self;
        format!(r#"{{"batch":{batch},"id":{id},"amount_cents":{},"rounds":{rounds}}}"#, self.amount_cents(id))
    }

    fn amount_cents(&self, id: u64) -> i64 {
        ((self.batch * 1009 + id * 37) % 100_000) as i64
    }

    /// Compares the table with the jobs that were handed in.
    pub fn complaints(&self, db: &Container) -> Result<Complaints> {
        let batch = self.batch;
        let query = format!("SELECT id, amount_cents, digest FROM results WHERE batch = {batch} ORDER BY id");
        Ok(self.compare(&rows(db, DATABASE, &query)?))
    }

    /// Compares rows, which are sorted by id, with the jobs that were handed in.
    fn compare(&self, rows: &[Row]) -> Complaints {
        let batch = self.batch;
        let is_there = |id: &u64| rows.binary_search_by_key(id, |row| row.id).is_ok();
        let lost = (1..=self.accepted).filter(|id| !is_there(id));
        let lost = lost.map(|id| format!("accepted job {batch}:{id} is not in the table")).take(SHOWN).collect();
        let wrong = rows.iter().enumerate().filter_map(|(place, Row { id, amount_cents, digest: found })| {
            let expected = self.amount_cents(*id);
            if !(1..=self.perhaps).contains(id) {
                Some(format!("job {batch}:{id} was never handed in, and is in the table"))
            } else if place > 0 && rows[place - 1].id == *id {
                Some(format!("job {batch}:{id} is in the table twice"))
            } else if *amount_cents != expected || *found != digest(batch, *id, expected, self.rounds) {
                Some(format!("job {batch}:{id} has the result {amount_cents} {found}"))
            } else {
                None
            }
        });
        Complaints { lost, wrong: wrong.take(SHOWN).collect() }
    }
}

/// Machines of the jobs: producers on app, Redis and PostgreSQL on db, workers on worker.
#[derive(Debug)]
pub struct Pipeline<'a> {
    pub lab: &'a Lab,
    pub producer: Producer<'a>,
    pub db: &'a Container,
    pub worker: &'a Container,
    pub workers: &'a [&'a str],
}

impl Pipeline<'_> {
    /// Makes the table if it does not exist, and starts the workers, which a restart of their machine starts again.
    pub fn start(&self) -> Result {
        psql(self.db, DATABASE, TABLE)?;
        be_patient(self.worker)?;
        let units = self.workers.iter().map(|name| format!("batch-worker@{name}"));
        let enable = ["systemctl", "enable", "--quiet", "--now"].map(str::to_owned);
        self.worker.exec(enable.into_iter().chain(units))?.success()?;
        Ok(())
    }

    /// Waits until no job is queued or taken, and every worker is idle.
    pub fn wait_until_done(&self) -> Result {
        self.lab.eventually("every job is done", DONE_DEADLINE, || self.is_done())?;
        Ok(())
    }

    /// Hands in the jobs of all loads side by side while the engine injects faults, or once where it injects none. At the end, checks
    /// that no accepted job is lost, and that each result exists once and is correct.
    pub fn tolerate_faults(&self, mut loads: Vec<Load>) -> Result {
        let lab = self.lab;
        lab.chaos(|chaos| {
            chaos.always("no result vanishes or is there twice", no_result_vanishes(self.db));
            std::thread::scope(|scope| {
                let run = |load| scope.spawn(|| Load::run(load, lab, &self.producer, || chaos.lasts()));
                let running: Vec<_> = loads.iter_mut().map(run).collect();
                running.into_iter().try_for_each(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic)))
            })
        })?;
        let accepted: u64 = loads.iter().map(Load::accepted).sum();
        lab.log(format!("{accepted} jobs were accepted"));
        lab.sometimes("jobs were accepted while faults were played", accepted > 0)?;
        self.wait_until_done()?;
        let complaints: Vec<Complaints> =
            loads.iter().map(|load| load.complaints(self.db)).collect::<Result<_, _>>()?;
        for line in complaints.iter().flat_map(|of_one| of_one.lost.iter().chain(&of_one.wrong)) {
            lab.log_at(Level::Error, line);
        }
        lab.at_end("no accepted job is lost", || Ok(complaints.iter().all(|of_one| of_one.lost.is_empty())))?;
        lab.at_end("each result is there once, the right one, of a job that was handed in", || {
            Ok(complaints.iter().all(|of_one| of_one.wrong.is_empty()))
        })
    }

    /// Tells whether Redis holds no queued or taken job, and every worker is idle; false while Redis or a worker does not answer.
    fn is_done(&self) -> Result<bool> {
        #[derive(Deserialize)]
        struct State {
            state: String,
        }
        let unfinished = self.db.exec(["redis-cli", "EVAL", UNFINISHED, "0"])?;
        // Afterwards: a worker that has taken its last jobs off its list is not idle before it is done with them.
        let paths = self.workers.iter().map(|name| format!("/run/batch-worker-{name}/state.json"));
        let states = self.worker.exec(["cat".to_owned()].into_iter().chain(paths))?;
        if unfinished.stdout_text()?.trim() != "0" || states.status != 0 {
            return Ok(false);
        }
        let states: Vec<State> = serde_json::Deserializer::from_slice(states.stdout())
            .into_iter()
            .collect::<Result<_, _>>()
            .context("reading the state files of the workers")?;
        Ok(states.len() == self.workers.len() && states.iter().all(|worker| worker.state == "idle"))
    }
}

/// Returns a condition for [`e2e::Chaos::always`]: no row is duplicated, and no row that existed has vanished.
pub fn no_result_vanishes(db: &Container) -> impl FnMut() -> Result<bool> + Send + use<> {
    let (db, mut seen) = (db.clone(), 0_u64);
    move || {
        let counts = psql(&db, DATABASE, "SELECT count(*), count(DISTINCT (batch, id)) FROM results")?;
        let (all, distinct) =
            counts.trim().split_once('|').with_context(|| format!("psql did not print two counts: {counts:?}"))?;
        let (all, distinct): (u64, u64) = (all.parse()?, distinct.parse()?);
        let holds = all == distinct && all >= seen;
        seen = all;
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(accepted: u64, perhaps: u64) -> Load {
        Load { accepted, perhaps, ..Load::new(2, 3) }
    }

    fn table(ids: impl IntoIterator<Item = u64>) -> Vec<Row> {
        let row = |id: u64| {
            let amount_cents = load(0, 0).amount_cents(id);
            Row { id, amount_cents, digest: digest(2, id, amount_cents, 3) }
        };
        ids.into_iter().map(row).collect()
    }

    #[test]
    fn what_was_sent_without_an_answer_may_be_there_or_not() {
        for rows in [table(1..=25), table(1..=50), table((1..=25).chain([30, 50]))] {
            let Complaints { lost, wrong } = load(25, 50).compare(&rows);
            assert!(lost.is_empty() && wrong.is_empty(), "{lost:?} {wrong:?}");
        }
    }

    #[test]
    fn what_is_lost_doubled_invented_or_wrong_is_named() {
        assert_eq!(load(3, 3).compare(&table([1, 3])).lost, ["accepted job 2:2 is not in the table"]);
        assert_eq!(load(3, 3).compare(&table([1, 2, 2, 3])).wrong, ["job 2:2 is in the table twice"]);
        let wrong = load(3, 3).compare(&table(1..=4)).wrong;
        assert_eq!(wrong, ["job 2:4 was never handed in, and is in the table"]);
        let mut rows = table(1..=3);
        rows[1].digest.push('0');
        assert!(load(3, 3).compare(&rows).wrong[0].starts_with("job 2:2 has the result 2092 "));
        assert_eq!(load(9, 9).compare(&[]).lost.len(), SHOWN);
    }

    #[test]
    fn a_job_is_written_as_the_worker_reads_it() {
        assert_eq!(load(0, 0).job(1), r#"{"batch":2,"id":1,"amount_cents":2055,"rounds":3}"#);
    }
}
