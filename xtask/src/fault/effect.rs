//! The interface of every fault, and the target that a fault acts on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::host::patience::Deadline;
use crate::lab::{Container, ExecOutput, ExecRequest, Lab};

/// Deadline for one observation of a container.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// Minimum time for an observation whose common deadline has passed: some calls take a timeout of zero for none.
const LOOK_LEAST: Duration = Duration::from_millis(10);

/// Evidence of a loss where only the cause of the effect, such as a rule or a limit, was looked for.
const GONE: &str = "what the fault had set up is gone";

/// Effect of one kind of fault, from before its injection until its recovery.
///
/// Errors: a parameter that names something that does not exist is [`Error::Usage`]; what this host lacks is [`Error::Host`]; any other is
/// a failure of the machine.
pub trait Effect: Send {
    /// Fails with [`Error::Host`] where this host does not support the fault.
    fn supported(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Checks the parameters, and makes the observation of [`Effect::verify_effect`] before the fault is injected; returns the observation.
    ///
    /// # Errors
    /// Also when the container already behaves as if the fault was injected.
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Injects the fault. What would outlive the lab has its undo step in the ledger first.
    ///
    /// # Errors
    /// When the injection failed; [`Effect::heal`] then takes back what was begun.
    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()>;

    /// Verifies the effect by what a machine observes, never by the rule or the file that was written; returns the observation.
    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Verifies, before the fault is healed, that the effect has lasted. The check is cheap, keeps within [`FaultTarget::within`], and
    /// reports no loss that another fault, or the end of the target, explains.
    ///
    /// # Errors
    /// When the observation itself failed, which says nothing of the effect.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted>;

    /// Takes the damage back; may be called twice, and for a container that was restarted meanwhile.
    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()>;

    /// Verifies, by the observation of [`Effect::verify_effect`], that the effect is gone; returns the observation.
    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String>;

    /// Injects the fault again where a restart of the container has undone it.
    fn restore(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Tells whether healing the fault starts the container.
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

/// Result of the check, before a fault is healed, that its effect has lasted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Lasted {
    /// The effect was observed until now.
    UntilNow {
        /// Observation that proves the effect.
        evidence: String,
    },
    /// The effect was gone although its target lived and the fault was not healed.
    Lost {
        /// Observation in place of the effect.
        instead: String,
        /// Place from which the effect could have been removed: the host or the container.
        keeper: Keeper,
    },
    /// The effect ended by itself, or with its target.
    Over {
        /// Description of how the effect ended.
        reason: String,
    },
    /// The effect cannot be observed at the moment; it may still be there.
    NotSeen {
        /// Reason why the effect cannot be observed.
        reason: String,
    },
    /// The fault lasts only for a moment, as a kill does, so that there is nothing to check.
    Momentary,
}

/// Place where the cause of an effect is kept, and from which it could be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// The host: no process of the container can remove the effect.
    Host,
    /// The container: its own processes or its root may remove the effect, as a product that recovers will.
    Container,
}

impl Lasted {
    pub fn until_now(evidence: impl Into<String>) -> Self {
        Self::UntilNow { evidence: evidence.into() }
    }

    pub fn lost(keeper: Keeper, instead: impl Into<String>) -> Self {
        Self::Lost { instead: instead.into(), keeper }
    }

    pub fn over(reason: impl Into<String>) -> Self {
        Self::Over { reason: reason.into() }
    }

    pub fn not_seen(reason: impl Into<String>) -> Self {
        Self::NotSeen { reason: reason.into() }
    }

    /// Evaluates a check whose effect has a cause that can be looked for: an effect that is not observed is lost only where its cause is
    /// gone too. A slow machine, or another fault, hides an effect but removes nothing.
    pub fn proved(
        proof: anyhow::Result<String>,
        keeper: Keeper,
        is_there: impl FnOnce() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        match proof {
            Ok(evidence) => Ok(Self::until_now(evidence)),
            Err(error) if is_there()? => {
                Ok(Self::not_seen(format!("{error:#}; what the fault has set up is still in place")))
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
                write!(f, "was no longer on, because its container had ended it: {instead}")
            }
            Self::Over { reason } => write!(f, "was over before: {reason}"),
            Self::NotSeen { reason } => write!(f, "could not be seen again: {reason}"),
            Self::Momentary => f.write_str("lasted a moment"),
        }
    }
}

/// Lab and container that a fault acts on.
#[derive(Debug, Clone, Copy)]
pub struct FaultTarget<'a> {
    pub lab: &'a Lab,
    pub container: &'a Container,
    /// End of the time for all observations together; `None` where each has only its own deadline.
    until: Option<Instant>,
}

impl<'a> FaultTarget<'a> {
    /// Returns a target without a common deadline.
    pub fn new(lab: &'a Lab, container: &'a Container) -> Self {
        Self { lab, container, until: None }
    }

    /// Returns the same target, where all observations together end within a deadline.
    pub fn limited(self, deadline: Duration) -> Self {
        Self { until: Some(Instant::now() + deadline), ..self }
    }
}

impl FaultTarget<'_> {
    /// Returns the deadline of one observation: `deadline`, but no more than is left until the common one.
    pub fn within(&self, deadline: Duration) -> Duration {
        match self.until {
            Some(until) => deadline.min(until.saturating_duration_since(Instant::now())).max(LOOK_LEAST),
            None => deadline,
        }
    }

    /// Name of the container in the lab.
    pub fn name(&self) -> &str {
        &self.container.machine().name
    }

    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<ExecOutput> {
        self.exec_within(argv, LOOK_DEADLINE.scaled())
    }

    pub fn exec_within(&self, argv: &[&str], deadline: Duration) -> anyhow::Result<ExecOutput> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let deadline = self.within(deadline);
        let request =
            ExecRequest { argv, deadline, streams_dir: self.lab.streams_dir().to_owned(), ..ExecRequest::default() };
        Ok(self.container.exec(&request)?)
    }

    /// Runs a program in the container and returns its stdout; fails where its exit status is not 0.
    pub fn ask(&self, argv: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.exec(argv)?;
        if let Some(failure) = output.failure() {
            bail!("`{}` in {} {failure}", argv.join(" "), self.name());
        }
        output.stdout.bytes().context("reading a program's output")
    }
}

/// Returns an [`Error::Usage`] about a parameter, such as a path that does not exist.
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
