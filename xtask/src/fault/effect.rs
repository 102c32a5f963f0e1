//! What every fault is able to do, and what it works on.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::host::patience::Deadline;
use crate::host::undo::Undo;
use crate::lab::{Container, ExecOutput, ExecRequest, Lab};

/// How long one look into a container may take.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// One kind of damage, from before it is done until it is gone.
///
/// Parameters that name something that does not exist are [`crate::error::Error::Usage`]; what this host lacks is
/// [`crate::error::Error::Host`]; all else is a failure of the machine.
pub trait Effect: Send {
    /// Whether this host can do it.
    ///
    /// # Errors
    /// What is missing, and the cure.
    fn supported(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Looks at its parameters, and at what is there before anything is done, in the way in which the effect is observed
    /// then; says what was seen.
    ///
    /// # Errors
    /// When it cannot be done to this container, or to the state that it is in; when it is as if it was done already.
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String>;

    /// Does it. What would outlive the lab has its undo step in the ledger first.
    ///
    /// # Errors
    /// When it could not be done; [`Effect::heal`] then takes back what was begun.
    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()>;

    /// Observes the effect from a machine, never the rule or the file that was written; says what was seen.
    ///
    /// # Errors
    /// When there is no effect.
    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String>;

    /// Takes it back; twice is fine, and so is a container that was started again meanwhile.
    ///
    /// # Errors
    /// When it could not be taken back.
    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()>;

    /// Observes in the same way that the effect is gone; says what was seen.
    ///
    /// # Errors
    /// When it is still there.
    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String>;

    /// The container was started again while the damage lasts: does again what that has undone.
    ///
    /// # Errors
    /// When it could not be done.
    fn restore(&mut self, _site: &Site<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Whether healing it starts the container again.
    fn starts_container(&self) -> bool {
        false
    }

    /// Whether its machine has stood still or was down, so that it has to become ready again when the effect is gone.
    fn stops_container(&self) -> bool {
        self.starts_container()
    }
}

/// Where a fault is done.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub lab: &'a Lab,
    pub container: &'a Container,
}

impl Site<'_> {
    /// Name in the lab.
    pub fn name(&self) -> &str {
        &self.container.machine().name
    }

    /// Runs a program in the container as root.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<ExecOutput> {
        self.exec_within(argv, LOOK_DEADLINE.scaled())
    }

    /// Like [`Site::exec`], with a deadline.
    pub fn exec_within(&self, argv: &[&str], deadline: Duration) -> anyhow::Result<ExecOutput> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let request =
            ExecRequest { argv, deadline, streams_dir: self.lab.streams_dir().to_owned(), ..ExecRequest::default() };
        self.container.exec(&request)
    }

    /// Runs a program in the container and gives what it wrote to stdout; a status other than 0 is an error.
    pub fn ask(&self, argv: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.exec(argv)?;
        if let Some(failure) = output.failure() {
            bail!("`{}` in {} {failure}", argv.join(" "), self.name());
        }
        std::fs::read(output.stdout.path()).context("reading a program's output")
    }

    /// Writes undo steps to the ledger, before the thing is done.
    pub fn note(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.lab.guard().note(steps)
    }

    /// Executes undo steps and strikes them out of the ledger.
    pub fn undo(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.lab.guard().undo(steps)
    }
}
