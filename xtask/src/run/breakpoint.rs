//! A case that is held at its first failure, for somebody who looks at it; its machines may stand still meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::lab::{Container, Lab};
use crate::record::{CaseId, Onward};
use crate::session::{Breakpoint, Stopped};

/// Treatment of machines that nobody has entered while their case is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// Let them run on.
    Run,
    /// Freeze them, but for the machine that is entered.
    Freeze,
}

/// Observer of held cases, such as the prompt of a person.
pub trait Watcher: Send + Sync + std::fmt::Debug {
    /// Shows a held case to somebody; returns their decision.
    fn look(&self, held: &HeldCase<'_>) -> Onward;
}

/// The breakpoint of a run.
#[derive(Debug)]
pub struct Breakpoints {
    watcher: Box<dyn Watcher>,
    machines: Machines,
    given_up: AtomicBool,
}

/// A case that is held.
#[derive(Debug)]
pub struct HeldCase<'a> {
    case: &'a CaseId,
    reason: &'a str,
    lab: &'a Lab,
    /// Names of the machines that were frozen while it is held.
    frozen: Vec<String>,
    /// Machines that could not be frozen, with the reason.
    problems: Vec<String>,
}

/// Reason that is told of a container frozen by this module.
const CAUSE: &str = "the case is held";

impl Breakpoints {
    /// Makes a breakpoint that asks this watcher.
    #[must_use]
    pub fn new(watcher: Box<dyn Watcher>, machines: Machines) -> Arc<Self> {
        Arc::new(Self { watcher, machines, given_up: AtomicBool::new(false) })
    }

    /// Tells whether a case was given up: then the run ends.
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
    /// The case.
    #[must_use]
    pub fn case(&self) -> &CaseId {
        self.case
    }

    /// Returns the failure.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason
    }

    /// Returns the slot of the case's lab.
    #[must_use]
    pub fn slot(&self) -> &str {
        self.lab.guard().slot().name()
    }

    /// Returns the lab's machines.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        self.lab.containers()
    }

    /// Returns warnings for the person at the prompt: machines that should stand still and do not.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Does `work` in a machine, which is thawed meanwhile; one that a fault has frozen stays so.
    ///
    /// # Errors
    /// When the machine cannot be thawed, or frozen again.
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

    /// Freezes all machines. One that a fault has taken down or frozen already is left as it is.
    fn freeze_all(&mut self) {
        for container in self.lab.containers().iter().filter(|container| container.outage().is_none()) {
            let name = &container.machine().name;
            match self.lab.freeze(container, CAUSE) {
                Ok(()) => self.frozen.push(name.clone()),
                Err(error) => self.problems.push(format!("{name} does not stand still: {error:#}")),
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
