//! The interface of every fault, and the target that it works on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::host::patience::Deadline;
use crate::host::undo::Undo;
use crate::lab::{Container, ExecOutput, ExecRequest, Lab};

/// Deadline for one look into a container.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// Minimum time for a look whose common deadline has passed: zero would mean no deadline in some places.
const LOOK_LEAST: Duration = Duration::from_millis(10);

/// Words for an effect whose cause, such as a rule or a limit, is gone, where nothing else was observed.
const GONE: &str = "the cause of the effect is gone";

/// Effect of one kind of fault, from before its injection until it is gone.
///
/// Parameters that name something that does not exist are [`Error::Usage`]; what this host lacks is
/// [`Error::Host`]; all else is a failure of the machine.
pub trait Effect: Send {
    /// Fails where this host does not support the fault.
    ///
    /// # Errors
    /// What is missing, and the help.
    fn supported(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Checks the parameters, and observes the state without the fault in the same way as the effect afterwards; returns the observation.
    ///
    /// # Errors
    /// When the fault cannot be injected into this container, or in its present state; when it is as if the fault was injected already.
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Injects the fault. What would outlive the lab has its undo step in the ledger first.
    ///
    /// # Errors
    /// When the injection failed; [`Effect::heal`] then takes back what was begun.
    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()>;

    /// Observes the effect from a machine, never the rule or the file that was written; returns the observation.
    ///
    /// # Errors
    /// When there is no effect.
    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Repeats the proof before the damage is taken back: what was seen once need not have lasted. It is cheap, keeps within
    /// [`FaultTarget::within`], and blames nothing that another fault, or the end of its target, explains.
    ///
    /// # Errors
    /// When the observation itself failed, which says nothing of the damage.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted>;

    /// Takes the damage back; may be called twice, and for a container that was started again meanwhile.
    ///
    /// # Errors
    /// When the damage could not be taken back.
    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()>;

    /// Observes in the same way that the effect is gone; returns the observation.
    ///
    /// # Errors
    /// When the effect is still there.
    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Restores the damage where a new start of the container has undone it.
    ///
    /// # Errors
    /// When the damage could not be restored.
    fn restore(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Tells whether healing the fault starts the container again.
    fn starts_container(&self) -> bool {
        false
    }

    /// Tells whether the fault freezes the machine or takes it down, so that the machine has to become ready again when the effect is gone.
    fn stops_container(&self) -> bool {
        self.starts_container()
    }

    /// Tells whether the cause of the effect lies outside of the container: then neither the container's end nor its restart explains a
    /// loss.
    fn outlives_container(&self) -> bool {
        false
    }
}

/// Result of the proof that is repeated before a fault is healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Lasted {
    /// The effect was there until now.
    UntilNow {
        /// Observation.
        evidence: String,
    },
    /// The effect was gone although its target lived, and nobody had healed it.
    Lost {
        /// Observation in its place.
        instead: String,
        /// Side that could have removed it.
        keeper: Keeper,
    },
    /// The effect ended by itself, or with its target.
    Over {
        /// The way it ended.
        reason: String,
    },
    /// The effect cannot be observed at the moment, which says nothing of it.
    NotSeen {
        /// Reason.
        reason: String,
    },
    /// The fault lasts a moment only, such as a kill: there is nothing to prove again.
    Momentary,
}

/// Side of a container's border on which an effect is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// The host: nothing inside of the container reaches it.
    Host,
    /// The container: its own processes, or root in it, may remove it, and a product that recovers does.
    Container,
}

impl Lasted {
    /// An effect that was seen.
    pub fn until_now(evidence: impl Into<String>) -> Self {
        Self::UntilNow { evidence: evidence.into() }
    }

    /// An effect that was gone.
    pub fn lost(keeper: Keeper, instead: impl Into<String>) -> Self {
        Self::Lost { instead: instead.into(), keeper }
    }

    /// An effect that ended by itself.
    pub fn over(reason: impl Into<String>) -> Self {
        Self::Over { reason: reason.into() }
    }

    /// An effect that cannot be observed.
    pub fn not_seen(reason: impl Into<String>) -> Self {
        Self::NotSeen { reason: reason.into() }
    }

    /// Evaluates a proof where the cause of the effect can be looked for as well: an effect that is not observed is lost only where its
    /// cause is gone too. A slow machine, or another fault, hides an effect but removes nothing.
    ///
    /// # Errors
    /// When the cause cannot be looked for.
    pub fn proved(
        proof: anyhow::Result<String>,
        keeper: Keeper,
        is_there: impl FnOnce() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        match proof {
            Ok(evidence) => Ok(Self::until_now(evidence)),
            Err(error) if is_there()? => {
                Ok(Self::not_seen(format!("{error:#}; the cause of the effect is still in place")))
            }
            Err(error) => {
                let instead = format!("{error:#}");
                // A tool that did not find what it was asked for says so in several lines.
                Ok(Self::lost(keeper, if instead.contains('\n') { GONE.to_owned() } else { instead }))
            }
        }
    }
}

impl std::fmt::Display for Lasted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UntilNow { evidence } => write!(f, "was on until now: {evidence}"),
            Self::Lost { instead, keeper: Keeper::Host } => {
                write!(f, "was no longer on, though nobody had healed it: {instead}")
            }
            Self::Lost { instead, keeper: Keeper::Container } => {
                write!(f, "was no longer on, ended in its container: {instead}")
            }
            Self::Over { reason } => write!(f, "was over before: {reason}"),
            Self::NotSeen { reason } => write!(f, "could not be seen again: {reason}"),
            Self::Momentary => f.write_str("lasted a moment"),
        }
    }
}

/// Target of a fault.
#[derive(Debug, Clone, Copy)]
pub struct FaultTarget<'a> {
    pub lab: &'a Lab,
    pub container: &'a Container,
    /// End of the time for all observations together; `None` where each has only its own deadline.
    until: Option<Instant>,
}

impl<'a> FaultTarget<'a> {
    /// Target without a common deadline.
    pub fn new(lab: &'a Lab, container: &'a Container) -> Self {
        Self { lab, container, until: None }
    }

    /// The same target, where all observations together end within a deadline.
    pub fn limited(self, deadline: Duration) -> Self {
        Self { until: Some(Instant::now() + deadline), ..self }
    }
}

impl FaultTarget<'_> {
    /// Deadline of one observation: its own, or what is left of the common one.
    pub fn within(&self, deadline: Duration) -> Duration {
        match self.until {
            Some(until) => deadline.min(until.saturating_duration_since(Instant::now())).max(LOOK_LEAST),
            None => deadline,
        }
    }

    /// Name in the lab.
    pub fn name(&self) -> &str {
        &self.container.machine().name
    }

    /// Runs a program in the container as root.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<ExecOutput> {
        self.exec_within(argv, LOOK_DEADLINE.scaled())
    }

    /// Like [`FaultTarget::exec`], with a deadline.
    pub fn exec_within(&self, argv: &[&str], deadline: Duration) -> anyhow::Result<ExecOutput> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let deadline = self.within(deadline);
        let request =
            ExecRequest { argv, deadline, streams_dir: self.lab.streams_dir().to_owned(), ..ExecRequest::default() };
        Ok(self.container.exec(&request)?)
    }

    /// Runs a program in the container and gives what it wrote to stdout; a status other than 0 is an error.
    pub fn ask(&self, argv: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.exec(argv)?;
        if let Some(failure) = output.failure() {
            bail!("`{}` in {} {failure}", argv.join(" "), self.name());
        }
        output.stdout.bytes().context("reading a program's output")
    }

    /// Writes undo steps to the ledger, before the change that they undo.
    pub fn note(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.lab.guard().note(steps)
    }

    /// Executes undo steps and strikes them out of the ledger.
    pub fn undo(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.lab.guard().undo(steps)
    }
}

/// An error about a parameter, such as a path that does not exist.
pub(super) fn usage(message: impl Into<String>) -> anyhow::Error {
    Error::Usage(message.into()).into()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_effect_is_lost_only_where_what_makes_it_is_gone_too() {
        let proved =
            |proof: anyhow::Result<String>, is_there| Lasted::proved(proof, Keeper::Host, || Ok(is_there)).unwrap();
        assert_eq!(proved(Ok("no answer".into()), false), Lasted::until_now("no answer"));
        assert_eq!(proved(Err(anyhow!("an answer")), false), Lasted::lost(Keeper::Host, "an answer"));
        assert!(matches!(proved(Err(anyhow!("an answer")), true), Lasted::NotSeen { .. }));
        assert!(Lasted::proved(Err(anyhow!("an answer")), Keeper::Host, || Err(anyhow!("no nft"))).is_err());
    }
}
