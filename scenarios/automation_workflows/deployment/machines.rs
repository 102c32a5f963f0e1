//! Machines of the deployment, as a test sees them from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::differences::differences;
use e2e::{Container, Lab, Port, check};

use crate::client::served;
use crate::release::{LOOK, Releases, root};

const NONE: &[String] = &[];
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Machines of the deployment, with the releases that may be on them.
#[derive(Debug)]
pub struct Machines {
    pub app: Container,
    pub db: Container,
    pub worker: Container,
    releases: Releases,
}

impl Machines {
    /// Returns the machines of the lab when their sshd answers.
    pub fn of(lab: &Lab) -> e2e::Result<Self> {
        let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
        db.wait_for(Port(22))?;
        worker.wait_for(Port(22))?;
        Ok(Self { app, db, worker, releases: Releases::read(&lab.fixture(""))? })
    }

    /// Checks the whole state when the release `current` is in use and the releases `kept` are on the machines: each file's content, mode
    /// and owner, and the version that answers. `starts` are the versions that the service was started in, on worker and on db: one for
    /// each restart by a deployment, and no others.
    pub fn check_state(&self, current: u32, kept: &[u32], starts: [&[u32]; 2]) -> e2e::Result {
        for (host, starts) in [&self.worker, &self.db].into_iter().zip(starts) {
            let name = host.name();
            let unit = host.sh("cat /var/lib/greeter/starts; systemctl show -p ActiveState,NRestarts greeter")?;
            let unit = unit.success()?.stdout_text()?.split_whitespace().collect::<Vec<_>>().join(" ");
            let starts = starts.iter().map(|version| format!("{version} ")).collect::<String>();
            let expected = format!("{starts}NRestarts=0 ActiveState=active");
            check!(
                unit == expected,
                "the releases that {name} was started in: one start a deployment; none by systemd"
            );
        }
        self.check_release(current, kept)
    }

    /// Returns the expected checksum of each file of a release on a machine, by path.
    pub fn sums(&self, machine: &str, version: u32) -> e2e::Result<BTreeMap<String, String>> {
        self.releases.sums(machine, version).context("computing the checksums of a release")
    }

    /// Checks that `current` is in use everywhere, and that the files of the releases `kept` are complete.
    pub fn check_release(&self, current: u32, kept: &[u32]) -> e2e::Result {
        for machine in [&self.worker, &self.db, &self.app] {
            self.check_files(machine, current, kept)?;
        }
        self.check_answers(current)
    }

    fn check_answers(&self, current: u32) -> e2e::Result {
        let expected = [
            format!("http://app/: release {current}, site {current}"),
            format!("http://db:8080/: release {current} on db"),
            format!("http://worker:8080/: release {current} on worker"),
        ];
        // After a reload, nginx lets its former processes answer for a moment longer.
        let started = Instant::now();
        let mut answers = served(&self.app)?;
        while answers != expected && started.elapsed() < ANSWER_DEADLINE {
            answers = served(&self.app)?;
        }
        check!(answers == expected, "what is in use is what answers, directly and through nginx");
        Ok(())
    }

    fn check_files(&self, machine: &Container, current: u32, kept: &[u32]) -> e2e::Result {
        let name = machine.name();
        let found = machine.exec(["/bin/sh", "-c", LOOK, root(name)])?.success()?;
        let found: Vec<String> = found.stdout_text()?.lines().map(str::to_owned).collect();
        let expected = self.releases.lines(name, current, kept).context("computing the expected files of a release")?;
        let wrong = differences(&expected, &found);
        check!(
            wrong == NONE,
            "every file of every release on {name}: content, mode and owner, and which one is in use"
        );
        Ok(())
    }
}
