//! Machines of the scenario, with functions that set them up, start Mancer, and read the results.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::jobs::be_patient;
use common::mancer;
use common::postgres::psql;
use common::threads::together;
use e2e::{Container, Fault, Lab, check};
use serde::Deserialize;
use serde_json::json;

use crate::expectation::Sum;
use crate::resources::processor_time;

/// Deadline of a wait for something that takes a moment, on a busy machine too.
pub const SOON: Duration = Duration::from_secs(30);
/// Deadline of a run, which takes about 3 s on an idle machine; the rest is headroom for a loaded machine.
const RUN_DEADLINE: Duration = Duration::from_secs(100);
const BATCH: &str = "/srv/batch/batch.py";
const RESULTS: &str = "COPY (SELECT batch, id, amount_cents, digest FROM results) TO STDOUT (FORMAT csv)";
const SUMS: &str = "SELECT batch, count(*), sum(amount_cents) FROM results GROUP BY batch ORDER BY batch";

/// Machines of the lab, and the amount of work per record.
pub struct Site<'lab> {
    lab: &'lab Lab,
    pub app: Container,
    pub db: Container,
    pub worker: Container,
    /// Number of times that each record is hashed.
    pub rounds: u32,
}

/// Result of one run of `batch.py`.
pub struct Run {
    pub workers: u32,
    pub jobs: usize,
    /// Time from the first read of the transactions to the empty queue.
    drained: Duration,
    pub batches: Vec<Sum>,
    /// Number of results of each worker, by the worker's name.
    pub by_worker: Vec<(String, u64)>,
    /// Processor time of all workers during the run.
    processor_time: Duration,
    /// Time from Mancer's start to its end.
    wall: Duration,
}

impl Run {
    /// Returns the speed at which the queue was drained.
    pub fn records_per_second(&self) -> f64 {
        self.jobs as f64 / self.drained.as_secs_f64()
    }

    /// Returns the number of processors that the workers used, on average.
    pub fn processors_used(&self) -> f64 {
        self.processor_time.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Returns the figures of the run, for the record.
    pub fn report(&self) -> serde_json::Value {
        json!({
            "drained_ms": self.drained.as_millis(), "wall_ms": self.wall.as_millis(),
            "processor_time_ms": self.processor_time.as_millis(),
            "records_per_second": self.records_per_second(), "records_by_worker": self.by_worker,
        })
    }
}

impl<'lab> Site<'lab> {
    pub fn of(lab: &'lab Lab) -> e2e::Result<Self> {
        let container = |name| lab.container(name);
        let (app, db, worker) = (container("app")?, container("db")?, container("worker")?);
        Ok(Self { lab, app, db, worker, rounds: lab.param("rounds")? })
    }

    /// Copies the programs and their input to app, and makes the table on db.
    pub fn prepare(&self, fixtures: &Path) -> e2e::Result {
        for name in ["batch.py", "transactions.csv"] {
            self.app.put(fixtures.join(name), format!("/srv/batch/{name}"))?;
        }
        be_patient(&self.worker)?;
        self.psql(
            "CREATE TABLE results (batch int, id int, amount_cents bigint, digest text, worker text, \
             PRIMARY KEY (batch, id)); ALTER TABLE results OWNER TO mancer",
        )?;
        Ok(())
    }

    /// Deletes the results of the previous run.
    pub fn clear(&self) -> e2e::Result {
        self.psql("TRUNCATE results").map(drop)
    }

    /// Lets Mancer process all transactions with this many workers. The report of `batch.py` is kept as `NAME.json`.
    pub fn process(&self, name: &str, workers: u32) -> e2e::Result<Run> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            workers: u32,
            jobs: usize,
            drained_ms: u64,
            batches: Vec<Sum>,
        }
        let (started, time_before) = (Instant::now(), processor_time(&self.worker)?);
        let argv = [BATCH, "process", &workers.to_string(), &self.rounds.to_string()];
        let written: Written = mancer::report(self.lab, &self.app, &argv, name, RUN_DEADLINE)?;
        let (wall, time_after) = (started.elapsed(), processor_time(&self.worker)?);
        Ok(Run {
            workers: written.workers,
            jobs: written.jobs,
            drained: Duration::from_millis(written.drained_ms),
            batches: written.batches,
            by_worker: self.by_worker()?,
            processor_time: time_after.saturating_sub(time_before),
            wall,
        })
    }

    /// Processes all transactions once more with one worker, and with three.
    pub fn process_again(&self) -> e2e::Result<[Run; 2]> {
        self.stop()?;
        self.clear()?;
        let one = self.process("one_worker_again", 1)?;
        self.clear()?;
        Ok([one, self.process("three_workers_again", 3)?])
    }

    /// Processes all transactions with three workers, the second of which is killed while it holds jobs.
    pub fn process_with_a_kill(&self) -> e2e::Result<Run> {
        // Without a run there is nothing to kill: its error comes first.
        let ((), run) = together(|| self.kill_at_work("2"), || self.process("killed_worker", 3))?;
        Ok(run)
    }

    /// Stops a worker in the middle of the run and of a chunk of jobs, and kills it.
    fn kill_at_work(&self, name: &str) -> e2e::Result {
        self.lab.eventually("a tenth of the results is there", SOON, || Ok(self.count("results")? >= 500))?;
        // All of them stand still while one is looked at: on a busy host the run would be over before the looks are.
        let signal = |signal: &str| self.worker.exec(["pkill", signal, "-f", "batch_worker.py"])?.success();
        let mut held = 0;
        self.lab.eventually("the worker to kill has jobs", SOON, || {
            signal("-STOP")?;
            held = self.redis(&["LLEN", &format!("processing:{name}")])?.parse()?;
            if held == 0 {
                signal("-CONT")?;
            }
            Ok(held > 0)
        })?;
        let fault = self.worker.inject(Fault::ProcessKill { command: format!("batch_worker.py {name}") })?;
        let waiting: u64 = self.redis(&["LLEN", "jobs"])?.parse()?;
        check!(waiting > 0, "it was killed in the middle of the run");
        signal("-CONT")?;
        self.lab.log(format!("worker {name} was killed with {held} jobs, {waiting} were waiting"));
        fault.heal()?;
        Ok(())
    }

    /// Lets Mancer stop the workers.
    pub fn stop(&self) -> e2e::Result {
        mancer::run(&self.app, &[BATCH, "stop", "3"], RUN_DEADLINE)
    }

    /// Returns the content of the table, as lines of `batch,id,amount_cents,digest`.
    pub fn results(&self) -> e2e::Result<String> {
        self.psql(RESULTS)
    }

    /// Returns the content of the table in the same form, read from app as any client could.
    pub fn results_on_app(&self) -> e2e::Result<String> {
        let query = self.app.command(["psql", "-h", "db", "-qX", "-c", RESULTS]).user("mancer");
        Ok(query.run()?.success()?.stdout_text()?.to_owned())
    }

    /// Returns the sums by batch, read from app as any client could.
    pub fn sums(&self) -> e2e::Result<Vec<Sum>> {
        let query = self.app.command(["psql", "-h", "db", "--csv", "-tc", SUMS]).user("mancer");
        let answer = query.run()?.success()?;
        let sum = |line: &str| {
            let mut fields = line.split(',');
            let mut field =
                || fields.next().with_context(|| format!("a line of the sums has too few fields: {line:?}"));
            Ok(Sum { batch: field()?.parse()?, records: field()?.parse()?, amount_cents: field()?.parse()? })
        };
        answer.stdout_text()?.lines().map(sum).collect()
    }

    /// Returns the number of connections that other machines have to PostgreSQL.
    pub fn database_clients(&self) -> e2e::Result<u64> {
        self.count("pg_stat_activity WHERE client_addr IS NOT NULL")
    }

    /// Returns the connections that other machines have to Redis.
    pub fn redis_clients(&self) -> e2e::Result<Vec<String>> {
        let clients = self.redis(&["CLIENT", "LIST"])?;
        Ok(clients.lines().filter(|client| !client.contains(" addr=127.0.0.1:")).map(str::to_owned).collect())
    }

    /// Returns every key in Redis.
    pub fn redis_keys(&self) -> e2e::Result<Vec<String>> {
        Ok(self.redis(&["KEYS", "*"])?.lines().map(str::to_owned).collect())
    }

    fn by_worker(&self) -> e2e::Result<Vec<(String, u64)>> {
        let rows = self.psql("SELECT worker, count(*) FROM results GROUP BY worker ORDER BY worker")?;
        let row = |line: &str| {
            let (name, count) =
                line.split_once('|').with_context(|| format!("a line of the workers' results has no '|': {line:?}"))?;
            Ok((name.to_owned(), count.parse()?))
        };
        rows.lines().map(row).collect()
    }

    fn count(&self, what: &str) -> e2e::Result<u64> {
        Ok(self.psql(&format!("SELECT count(*) FROM {what}"))?.trim().parse()?)
    }

    fn psql(&self, command: &str) -> e2e::Result<String> {
        psql(&self.db, "mancer", command)
    }

    /// Returns the output of a redis-cli command on db, without the line end.
    fn redis(&self, command: &[&str]) -> e2e::Result<String> {
        let argv = ["redis-cli"].into_iter().chain(command.iter().copied());
        Ok(self.db.exec(argv)?.success()?.stdout_text()?.trim_end().to_owned())
    }
}
