//! Machines of the scenario: their setup, and what can be seen on them from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use common::postgres;
use common::threads::together;
use e2e::{Access, Container, Lab, Port, check};
use serde::Deserialize;

use crate::books;
use crate::served;

pub const POSTGRESQL: &str = "postgresql@15-main.service";
/// Size of a page of PostgreSQL.
pub const BLOCK_BYTES: u64 = 8192;
/// Minimum size of a cluster's files, which is that of an empty cluster.
const CLUSTER_BYTES_MIN: u64 = 20 << 20;
const PROGRAM: [&str; 6] = ["machines.py", "ledger.py", "config.py", "archive.py", "watch.py", "recover.py"];
/// Last number that the reader asks for.
pub const READ_UP_TO: u64 = 200;
const SETUP_DEADLINE: Duration = Duration::from_secs(30);

pub struct Site {
    pub app: Container,
    pub db: Container,
    pub worker: Container,
}

/// State of `recover.py` by its own account; the head of that file describes the fields.
#[derive(Debug, Deserialize)]
pub struct State {
    pub state: String,
    pub acknowledged: u64,
    pub looks: u64,
    pub generation: u64,
}

/// Damage that `recover.py` has found and repaired.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Incident {
    pub files: Vec<String>,
    pub tables: Vec<String>,
    /// Numbers of missing rows, by table.
    pub rows: BTreeMap<String, Vec<u64>>,
    /// Damaged pages, by file and number.
    pub blocks: Vec<(String, u64)>,
    pub restored_to: String,
    pub replayed: u64,
}

impl Site {
    pub fn of(lab: &Lab) -> e2e::Result<Self> {
        Ok(Self { app: lab.container("app")?, db: lab.container("db")?, worker: lab.container("worker")? })
    }

    /// Sets up a cluster with checksums, the program as a service, and a reader; returns when a base backup and some payments exist.
    pub fn set_up(&self, lab: &Lab) -> e2e::Result {
        together(|| self.prepare_cluster(lab), || self.prepare_program(lab))?;
        self.worker.put(lab.fixture("reader.py"), "/srv/ledger/reader.py")?;
        self.app.exec(["systemctl", "start", "ledger.service"])?.success()?;
        self.wait_until(lab, "there are a base backup and payments to read", |state| {
            state.generation == 1 && state.acknowledged >= READ_UP_TO
        })?;
        let (customers, last) = (books::CUSTOMERS.to_string(), READ_UP_TO.to_string());
        let reader = ["systemd-run", "--quiet", "--unit=reader", "python3", "/srv/ledger/reader.py", served::FILE];
        self.worker.exec(reader.into_iter().chain([customers.as_str(), last.as_str()]))?.success()?;
        Ok(())
    }

    /// Prepares the cluster, and switches on checksums while it is stopped, since Debian makes clusters without them.
    fn prepare_cluster(&self, lab: &Lab) -> e2e::Result {
        self.db.wait_for(Port(5432))?;
        self.db.put(lab.fixture("schema.sql"), "/srv/ledger/schema.sql")?;
        self.db.put(lab.fixture("ledger.conf"), "/etc/postgresql/15/main/conf.d/ledger.conf")?;
        self.db.exec(["systemctl", "stop", POSTGRESQL])?.success()?;
        let hba = "echo 'host replication all 10.77.0.0/24 trust' >> /etc/postgresql/15/main/pg_hba.conf";
        self.db.sh(hba)?.success()?;
        let checksums = ["/usr/lib/postgresql/15/bin/pg_checksums", "--enable", "--no-sync"];
        let checksums = checksums.into_iter().chain(["-D", "/var/lib/postgresql/15/main"]);
        self.db.command(checksums).user("postgres").run()?.success()?;
        self.db.exec(["systemctl", "start", POSTGRESQL])?.success()?;
        self.psql("\\i /srv/ledger/schema.sql")?;
        Ok(())
    }

    fn prepare_program(&self, lab: &Lab) -> e2e::Result {
        for name in PROGRAM {
            self.app.put(lab.fixture(name), format!("/srv/ledger/{name}"))?;
        }
        let settings = Access::mode(0o644).owner("mancer");
        self.app.put_with(lab.fixture("ledger.json"), "/srv/ledger/ledger.json", settings)?;
        for unit in ["ledger.service", "wal-archive@.service"] {
            self.app.put(lab.fixture(unit), format!("/etc/systemd/system/{unit}"))?;
        }
        Ok(())
    }

    /// Sends a signal to every process of the program.
    pub fn signal_program(&self, signal: &str) -> e2e::Result {
        self.app.exec(["systemctl", "kill", "--signal", signal, "ledger.service"])?.success()?;
        Ok(())
    }

    /// Ends the program and the reader as systemd does.
    pub fn stop(&self) -> e2e::Result {
        self.app.exec(["systemctl", "stop", "ledger.service"])?.success()?;
        self.worker.exec(["systemctl", "stop", "reader.service"])?.success()?;
        let state = self.state()?.state;
        check!(state == "stopped", "the program ended as it was asked to");
        Ok(())
    }

    pub fn state(&self) -> e2e::Result<State> {
        let text = self.app.get("/var/lib/ledger/state.json")?;
        serde_json::from_slice(&text)
            .with_context(|| format!("parsing state.json of app: {}", String::from_utf8_lossy(&text)))
    }

    pub fn incidents(&self) -> e2e::Result<Vec<Incident>> {
        let text = self.app.sh("cat /var/lib/ledger/incidents.jsonl 2> /dev/null || true")?.success()?;
        let read =
            |line: &str| serde_json::from_str(line).with_context(|| format!("parsing an incident of app: {line}"));
        self.fails_no_more()?;
        text.stdout_text()?.lines().map(read).collect()
    }

    /// Fails if the program has given up on damage that it cannot repair, so that no wait goes on until its deadline.
    fn fails_no_more(&self) -> e2e::Result {
        if self.has_given_up()? {
            let end = self.app.sh("tail -n 3 /var/log/ledger.log | tail -c 1000")?;
            bail!("the program on app has given up: {}", end.stdout_text()?);
        }
        Ok(())
    }

    pub fn has_given_up(&self) -> e2e::Result<bool> {
        Ok(self.app.exec(["systemctl", "is-failed", "--quiet", "ledger.service"])?.status == 0)
    }

    pub fn lines_of_the_log(&self) -> e2e::Result<u64> {
        Ok(self.app.get("/var/lib/ledger/acknowledged.log")?.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    /// Waits until the program has checked the books once more and found nothing.
    pub fn wait_for_a_look(&self, lab: &Lab) -> e2e::Result {
        let looks = self.state()?.looks;
        self.wait_until(lab, "the program has looked again", |state| state.looks > looks)
    }

    fn wait_until(&self, lab: &Lab, what: &str, holds: impl Fn(&State) -> bool) -> e2e::Result {
        lab.eventually(what, SETUP_DEADLINE, || {
            self.fails_no_more()?;
            let written = self.app.exec(["test", "-e", "/var/lib/ledger/state.json"])?.status == 0;
            Ok(written && holds(&self.state()?))
        })?;
        Ok(())
    }

    /// Returns all rows on db, as PostgreSQL shows them.
    pub fn rows(&self) -> e2e::Result<Vec<String>> {
        let rows = self.psql("SELECT t::text FROM customers AS t UNION ALL SELECT t::text FROM payments AS t")?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// Lets app get every page of the cluster, as for a base backup: PostgreSQL refuses a page whose checksum is wrong.
    pub fn verify_pages(&self) -> e2e::Result {
        let backup = "pg_basebackup --host db --username postgres --pgdata - --format tar --wal-method none \
                      --checkpoint fast | wc --bytes";
        let all = self.app.command(["/bin/bash", "-o", "pipefail", "-c", backup]).user("mancer").run()?.success()?;
        let bytes: u64 = all.stdout_text()?.trim().parse().context("parsing the number of bytes of all pages")?;
        check!(bytes > CLUSTER_BYTES_MIN, "every page of the cluster was read and has its checksum");
        Ok(())
    }

    pub fn psql(&self, command: &str) -> e2e::Result<String> {
        postgres::psql(&self.db, "mancer", command)
    }
}
