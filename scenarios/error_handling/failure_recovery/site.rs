//! Machines of the scenario: their setup, and what can be seen on them from outside.

use std::time::Duration;

use anyhow::Context as _;
use common::jobs::be_patient;
use common::measured::Operations;
use common::postgres::{psql, rows};
use e2e::{Container, File, Lab, Port, check, scaled};
use serde::Deserialize;

use crate::books::Booked;
use crate::jobs;

/// Number of batches of jobs that are queued in all.
pub const JOB_BATCHES: u64 = 5;
const DATABASE: &str = "mancer";
const WORKERS: [&str; 2] = ["1", "2"];
const SETUP_DEADLINE: Duration = Duration::from_secs(20);
/// Maximum time that the program allows for a batch of transfers.
const BATCH_PATIENCE: Duration = Duration::from_millis(800);

pub struct Site {
    pub app: Container,
    pub db: Container,
    pub worker: Container,
}

/// State of `transfer.py` by its own account; the head of that file describes the fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppState {
    pub state: String,
    pub reasons: Vec<String>,
    pub acknowledged: u64,
    pub found_again: u64,
    pub crashes: u64,
}

impl AppState {
    pub fn is_degraded_by(&self, reason: &str) -> bool {
        self.state == "degraded" && self.reasons.iter().any(|given| given == reason)
    }

    /// Tells whether the program has noticed that the database is down. Its message depends on the moment at which the machine died.
    pub fn lacks_the_database(&self) -> bool {
        ["no answer", "refused", "connection lost"].iter().any(|reason| self.is_degraded_by(reason))
    }
}

/// Lock on rows of db, held by a transaction of the scenario.
pub struct Lock<'a>(&'a Site);

impl Lock<'_> {
    pub fn release(self) -> e2e::Result {
        let ended = self.0.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'scenario_lock'",
        )?;
        check!(ended.trim() == "1", "the lock was held, and goes");
        Ok(())
    }
}

impl Site {
    pub fn of(lab: &Lab) -> e2e::Result<Self> {
        Ok(Self { app: lab.container("app")?, db: lab.container("db")?, worker: lab.container("worker")? })
    }

    /// Sets up the tables, the program as a service, and two workers; returns when the first transfers are acknowledged.
    pub fn set_up(&self, lab: &Lab) -> e2e::Result {
        self.db.wait_for(Port(5432))?;
        self.db.put(lab.fixture("schema.sql"), "/srv/transfer/schema.sql")?;
        self.psql("\\i /srv/transfer/schema.sql")?;
        self.app.put(lab.fixture("transfer.py"), "/srv/transfer/transfer.py")?;
        // A program that gives up too soon leaves a server process behind with each try, until PostgreSQL may start no more.
        let environment = format!("TRANSFER_PATIENCE_S={}\n", scaled(BATCH_PATIENCE).as_secs_f64());
        self.app.write("/srv/transfer/environment", environment)?;
        self.app.put(lab.fixture("transfer.service"), "/etc/systemd/system/transfer.service")?;
        // Enabled: where its machine starts again, it does.
        let enable = |container: &Container, units: &[&str]| {
            container.exec([&["systemctl", "enable", "--quiet", "--now"], units].concat())?.success()
        };
        enable(&self.app, &["transfer.service"])?;
        be_patient(&self.worker)?;
        enable(&self.worker, &["batch-worker@1", "batch-worker@2"])?;
        self.app.wait_for(File("/var/lib/transfer/state.json"))?;
        lab.eventually("the first transfers are acknowledged", SETUP_DEADLINE, || {
            Ok(self.app_state()?.acknowledged > 0)
        })?;
        Ok(())
    }

    /// Ends the program as systemd does, and checks that its last state is `stopped`.
    pub fn stop(&self) -> e2e::Result {
        self.app.exec(["systemctl", "stop", "transfer.service"])?.success()?;
        let state = self.app_state()?.state;
        check!(state == "stopped", "the program ended as it was asked to");
        Ok(())
    }

    pub fn app_state(&self) -> e2e::Result<AppState> {
        let text = self.app.get("/var/lib/transfer/state.json")?;
        serde_json::from_slice(&text)
            .with_context(|| format!("parsing state.json of app: {}", String::from_utf8_lossy(&text)))
    }

    pub fn acknowledged_log(&self) -> e2e::Result<Vec<u8>> {
        self.app.get("/var/lib/transfer/acknowledged.log")
    }

    /// Returns the services that each worker reports as missing.
    pub fn lacking(&self) -> e2e::Result<Vec<Vec<String>>> {
        #[derive(Deserialize)]
        struct State {
            lacking: Vec<String>,
        }
        let lacking = |name: &str| {
            let path = format!("/run/batch-worker-{name}/state.json");
            let state: State = serde_json::from_slice(&self.worker.get(&path)?).with_context(|| path)?;
            Ok(state.lacking)
        };
        WORKERS.into_iter().map(lacking).collect()
    }

    /// Queues a batch of jobs. Batches have numbers from 1 without gaps.
    pub fn queue_jobs(&self, batch: u64) -> e2e::Result {
        let queued = self.db.command(["redis-cli"]).stdin(jobs::commands(batch)).run()?.success()?;
        let numbers = queued.stdout_text()?.lines().filter(|line| line.parse::<u64>().is_ok()).count() as u64;
        check!(numbers == jobs::JOBS, "Redis has taken every job of batch {batch}");
        Ok(())
    }

    /// Tells whether Redis holds no queued or taken job; false while Redis does not answer.
    pub fn all_jobs_done(&self) -> e2e::Result<bool> {
        Ok(self.jobs_in_redis()? == Some(0))
    }

    /// Returns the number of jobs in Redis that are not done.
    pub fn left_in_the_queue(&self) -> e2e::Result<u64> {
        self.jobs_in_redis()?.context("Redis does not answer")
    }

    fn jobs_in_redis(&self) -> e2e::Result<Option<u64>> {
        let lists = "LLEN jobs\nLLEN processing:1\nLLEN processing:2\n";
        let answer = self.db.command(["redis-cli"]).stdin(lists).run()?;
        let lengths: Vec<u64> = answer.stdout_text()?.lines().filter_map(|line| line.parse().ok()).collect();
        Ok((lengths.len() == 3).then(|| lengths.iter().sum()))
    }

    /// Takes a lock on which each batch of transfers waits when its rows are inserted, and each chunk of jobs when its results are.
    pub fn lock(&self, lab: &Lab) -> e2e::Result<Lock<'_>> {
        let hold = "BEGIN; SELECT FROM accounts WHERE account = 0 FOR UPDATE; LOCK TABLE results IN SHARE MODE; \
                    SELECT pg_sleep(60)";
        let run = ["systemd-run", "--quiet", "--collect", "--uid=postgres", "--setenv=PGAPPNAME=scenario_lock"];
        self.db.exec(run.into_iter().chain(["psql", "-qX", "-d", DATABASE, "-c", hold]))?.success()?;
        let held =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scenario_lock' AND wait_event = 'PgSleep'";
        lab.eventually("the lock is held", SETUP_DEADLINE, || Ok(self.psql(held)?.trim() == "1"))?;
        Ok(Lock(self))
    }

    /// Waits until the program and both workers are in the middle of their work and wait for the lock.
    pub fn wait_until_work_waits(&self, lab: &Lab) -> e2e::Result {
        let waiting = "SELECT count(*) FILTER (WHERE query LIKE '%INSERT INTO transfers%') > 0 \
                       AND count(*) FILTER (WHERE query LIKE 'INSERT INTO results%') = 2 \
                       FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        lab.eventually("a batch of transfers and two chunks of jobs wait for the lock", SETUP_DEADLINE, || {
            Ok(self.psql(waiting)?.trim() == "t")
        })?;
        Ok(())
    }

    /// Returns the number of accounts whose balance differs from the sum of their transfers, as an operator would check after an
    /// incident.
    pub fn unlike(&self) -> e2e::Result<u64> {
        let unlike = self.psql(
            "SELECT count(*) FROM accounts LEFT JOIN (
               SELECT account, sum(cents) AS cents FROM (
                 SELECT source AS account, -amount_cents AS cents FROM transfers
                 UNION ALL SELECT target, amount_cents FROM transfers
               ) AS sides GROUP BY account
             ) AS moved USING (account) WHERE balance_cents <> coalesce(cents, 0)",
        )?;
        Ok(unlike.trim().parse()?)
    }

    pub fn booked(&self) -> e2e::Result<Booked> {
        let transfers = rows(&self.db, DATABASE, "SELECT * FROM transfers ORDER BY number")?;
        Ok(Booked { transfers, balances: rows(&self.db, DATABASE, "SELECT * FROM accounts ORDER BY account")? })
    }

    /// Returns the results of the batches that were queued here, as lines of `batch|id|amount_cents|digest`.
    pub fn results(&self) -> e2e::Result<Vec<String>> {
        let query = format!("SELECT batch, id, amount_cents, digest FROM results WHERE batch <= {JOB_BATCHES}");
        let results = self.psql(&query)?;
        Ok(results.lines().map(str::to_owned).collect())
    }

    fn psql(&self, command: &str) -> e2e::Result<String> {
        psql(&self.db, DATABASE, command)
    }
}

/// Returns the transfers up to this number, and the balances after them, as Mancer on app reads them.
pub fn statement(operations: &Operations<'_>, last: u64) -> e2e::Result<Booked> {
    let transfers = format!(
        "SELECT jsonb_agg(found ORDER BY number) FROM (SELECT * FROM transfers WHERE number <= {last}) AS found"
    );
    let balances = format!(
        "SELECT jsonb_agg(held ORDER BY account) FROM (
           SELECT account, sum(cents) AS balance_cents FROM (
             SELECT account, 0 AS cents FROM accounts
             UNION ALL SELECT source, -amount_cents FROM transfers WHERE number <= {last}
             UNION ALL SELECT target, amount_cents FROM transfers WHERE number <= {last}
           ) AS sides GROUP BY account
         ) AS held"
    );
    let [transfers, balances]: [String; 2] = operations.perform_with("read_accounts", &[transfers, balances])?;
    Ok(Booked {
        transfers: serde_json::from_str(&transfers).context("parsing the transfers of the statement")?,
        balances: serde_json::from_str(&balances).context("parsing the balances of the statement")?,
    })
}
