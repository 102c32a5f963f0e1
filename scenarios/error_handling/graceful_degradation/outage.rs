//! Outage of one part of the system, and what is seen of it from outside.

use std::time::{Duration, SystemTime};

use e2e::{Container, Fault, Lab, Result};
use serde::Deserialize;

use crate::answers::{Answer, Kind, read};
use crate::{accepted, jobs};

/// Path of the client's program on worker.
pub const CLIENT: &str = "/srv/client/client.py";
pub const RECORD: &str = "/srv/client/answers.jsonl";

/// Deadline for the service to report what is degraded, and that nothing is any more: its time limits and checks add up to 2 s.
const NOTICED: Duration = Duration::from_secs(15);

/// Names of all parts that can be degraded.
const ALL: [&str; 6] = [
    "batch-worker@1.service",
    "batch-worker@2.service",
    "batch-worker@3.service",
    "network to db",
    "postgresql",
    "redis",
];

/// Outage of one part, with its times.
#[derive(Debug)]
pub struct Outage {
    pub name: &'static str,
    /// Names of the degraded parts, sorted.
    pub degraded: Vec<String>,
    /// True if the service itself, or the network to it, may be broken, so that answers may be missing.
    pub silent: bool,
    pub began: SystemTime,
    /// Time at which the service had reported what is degraded.
    pub noticed: SystemTime,
    /// Time at which the healing began.
    pub mended: SystemTime,
    /// Time at which the service had reported that nothing is degraded.
    pub over: SystemTime,
}

/// Lab in which one part after the other fails, with the machines of the jobs and of the client.
pub struct Site<'a> {
    pub lab: &'a Lab,
    pub db: &'a Container,
    pub worker: &'a Container,
}

/// State of a worker, from its `state.json`.
#[derive(Debug, Deserialize)]
struct WorkerState {
    state: String,
    lacking: Vec<String>,
}

impl Site<'_> {
    /// Injects a fault and heals it. The service must report that exactly the parts `degraded` are degraded, then that none is any more;
    /// `meanwhile` checks what else must hold during the outage.
    pub fn outage(
        &self,
        name: &'static str,
        container: &Container,
        fault: Fault,
        degraded: &[&str],
        meanwhile: impl FnOnce() -> Result,
    ) -> Result<Outage> {
        self.lab.step(name, || {
            let began = SystemTime::now();
            let fault = self.lab.measure(&format!("notice_{name}"), || {
                let fault = container.inject(fault)?;
                self.says(degraded)?;
                Ok(fault)
            })?;
            let noticed = SystemTime::now();
            meanwhile()?;
            self.answered(2, noticed)?;
            let mended = SystemTime::now();
            self.lab.measure(&format!("recover_{name}"), || {
                fault.heal()?;
                self.says(&[])?;
                self.workers_lack(&[])
            })?;
            let over = SystemTime::now();
            self.answered(1, over)?;
            let degraded = degraded.iter().map(ToString::to_string).collect();
            Ok(Outage { name, degraded, silent: false, began, noticed, mended, over })
        })
    }

    /// Returns the faults of all kinds since `began`, now healed, as one outage: any part may have been degraded during it, and none
    /// needs to have been.
    pub fn chaos(&self, began: SystemTime) -> Result<Outage> {
        let mended = SystemTime::now();
        self.says(&[])?;
        self.workers_lack(&[])?;
        let over = SystemTime::now();
        self.answered(1, over)?;
        let degraded = ALL.map(str::to_owned).to_vec();
        Ok(Outage { name: "chaos", degraded, silent: true, began, noticed: over, mended, over })
    }

    /// Waits until the service reports to the client, which asks all the time, that exactly these parts are degraded.
    fn says(&self, degraded: &[&str]) -> Result {
        let began = SystemTime::now();
        self.lab.eventually(&format!("the service says that this is degraded: {degraded:?}"), NOTICED, || {
            let answers = self.answers()?;
            let says = |answer: &&Answer| answer.kind == Kind::Health && answer.began >= began && answer.status != 0;
            let last = answers.iter().rfind(says);
            Ok(last.is_some_and(|last| last.degraded() == degraded))
        })?;
        Ok(())
    }

    /// Waits until every worker reports that it lacks some of these services and no others; with an empty list, none at all. A worker
    /// that waits for one service does not check the other.
    pub fn workers_lack(&self, lacking: &[&str]) -> Result {
        self.lab.eventually(&format!("the workers say that they lack: {lacking:?}"), NOTICED, || {
            for number in 1..=3 {
                let state = self.worker.get(format!("/run/batch-worker-{number}/state.json"))?;
                let state: WorkerState = serde_json::from_slice(&state)?;
                let is_known = state.lacking.iter().all(|service| lacking.contains(&service.as_str()));
                let is_degraded = state.state == "degraded" && !state.lacking.is_empty();
                if !is_known || is_degraded == lacking.is_empty() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// Waits until all jobs accepted so far have results.
    pub fn all_accepted_are_done(&self) -> Result {
        let accepted = accepted(&self.answers()?);
        self.lab.eventually("every accepted job is done", NOTICED, || jobs::are_done(self.db, &accepted))?;
        Ok(())
    }

    /// Waits until the client has got this many answers to each kind of question that it asked after that moment.
    fn answered(&self, count: usize, after: SystemTime) -> Result {
        self.lab.eventually("the client goes on and is answered", NOTICED, || {
            let answers = self.answers()?;
            let counts = |it: &&Answer, kind| it.kind == kind && it.began >= after && it.status != 0;
            let so_far = |kind| answers.iter().filter(|it| counts(it, kind)).count();
            Ok(Kind::ALL.into_iter().all(|kind| so_far(kind) >= count))
        })?;
        Ok(())
    }

    /// Returns the answers that the client has recorded so far.
    pub fn answers(&self) -> Result<Vec<Answer>> {
        read(&self.worker.get(RECORD)?)
    }
}
