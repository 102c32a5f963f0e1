//! Breakpoint: pauses a case at its first failure until a person has looked at it. Its machines may be frozen during the pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::lab::{Container, Lab};
use crate::record::{CaseId, Onward};
use crate::session::{Breakpoint, Stopped};

/// Treatment of machines while their case is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// Let all machines run on.
    Run,
    /// Freeze all machines; one is thawed while the person at the prompt works in it.
    Freeze,
}

/// Interface to the person who looks at paused cases, such as a prompt.
pub trait Watcher: Send + Sync + std::fmt::Debug {
    /// Shows a paused case; returns the person's decision.
    fn look(&self, held: &HeldCase<'_>) -> Onward;
}

/// Breakpoint of a run, for all its cases.
#[derive(Debug)]
pub struct Breakpoints {
    watcher: Box<dyn Watcher>,
    machines: Machines,
    given_up: AtomicBool,
}

/// Case that is paused at its first failure.
#[derive(Debug)]
pub struct HeldCase<'a> {
    case: &'a CaseId,
    reason: &'a str,
    lab: &'a Lab,
    /// Names of the machines that were frozen for the pause.
    frozen: Vec<String>,
    /// Messages about machines that could not be frozen.
    problems: Vec<String>,
}

/// Cause recorded for containers that are frozen during a pause.
const CAUSE: &str = "the case is paused";

impl Breakpoints {
    /// Creates a breakpoint that shows paused cases to `watcher`; `machines` is the treatment of the cases' machines.
    #[must_use]
    pub fn new(watcher: Box<dyn Watcher>, machines: Machines) -> Arc<Self> {
        Arc::new(Self { watcher, machines, given_up: AtomicBool::new(false) })
    }

    /// Tells whether the person at the prompt gave a case up, which ends the run.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

impl Breakpoint for Breakpoints {
    fn stop(&self, stopped: &Stopped<'_>) -> Onward {
        let Stopped { case, reason, lab } = *stopped;
        let mut held = HeldCase { case, reason, lab, frozen: Vec::new(), problems: Vec::new() };
        if self.machines == Machines::Freeze {
            held.freeze_all();
        }
        let onward = self.watcher.look(&held);
        held.thaw_all();
        if onward == Onward::GiveUp {
            self.given_up.store(true, Ordering::SeqCst);
        }
        onward
    }
}

impl HeldCase<'_> {
    #[must_use]
    pub fn case(&self) -> &CaseId {
        self.case
    }

    /// Returns the failure that paused the case.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason
    }

    #[must_use]
    pub fn slot(&self) -> &str {
        self.lab.guard().slot().name()
    }

    #[must_use]
    pub fn containers(&self) -> &[Container] {
        self.lab.containers()
    }

    /// Returns warnings for the person at the prompt, about machines that could not be frozen.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Calls `work` while a machine is thawed for it. A machine that a fault has frozen stays frozen.
    pub fn enter<T>(&self, name: &str, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        let frozen = self.frozen.iter().any(|frozen| frozen == name);
        let container = self.lab.container(name).filter(|_| frozen);
        if let Some(container) = container {
            self.lab.thaw(container).with_context(|| format!("thawing {name}"))?;
        }
        let done = work();
        if let Some(container) = container {
            self.lab.freeze(container, CAUSE).with_context(|| format!("freezing {name} again"))?;
        }
        Ok(done)
    }

    /// Freezes all machines except those that a fault has already taken down or frozen.
    fn freeze_all(&mut self) {
        for container in self.lab.containers().iter().filter(|container| container.outage().is_none()) {
            let name = &container.machine().name;
            match self.lab.freeze(container, CAUSE) {
                Ok(()) => self.frozen.push(name.clone()),
                Err(error) => self.problems.push(format!("{name} could not be frozen: {error:#}")),
            }
        }
    }

    fn thaw_all(&self) {
        for container in self.frozen.iter().filter_map(|name| self.lab.container(name)) {
            // One that does not thaw is the infrastructure's failure: whatever is done in it next says so.
            let _ = self.lab.thaw(container);
        }
    }
}
