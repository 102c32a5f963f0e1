//! Life of one fault of any kind, from its injection to its end.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e_contract::Fault;

use super::catalogue::effect_of;
use super::effect::{Effect, FaultTarget, Lasted};
use super::failure::FaultError;
use super::reboots::{despite_reboots, does_not_stay_up};
use crate::error::Error;
use crate::host::patience::Deadline;
use crate::lab::{Container, Lab};

/// Deadline of the check, before a fault is healed, that its effect has lasted.
const LASTS_DEADLINE: Deadline = Deadline::from_secs(5);

/// Fault whose effect was verified; it may have been healed since.
pub struct Injection {
    container: Container,
    fault: Fault,
    pub(super) effect: Box<dyn Effect>,
    /// PID of the container's first process when the fault was injected, or last restored.
    init: Option<i32>,
    /// Result of the check that the effect has lasted; `None` before the healing.
    lasted: Option<Lasted>,
    healed: Option<String>,
    /// Number of starts of the container when the fault was injected, or last restored.
    starts: u64,
}

impl std::fmt::Debug for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let container = &self.container.machine().name;
        f.debug_struct("Injection").field("container", container).field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// Observation of a fault's effect, or of its recovery.
#[derive(Debug, Clone)]
pub struct Observed {
    pub container: Container,
    pub fault: Fault,
    /// Observation before the injection, for people; `None` for a healing.
    pub before: Option<String>,
    /// Evidence of the effect, or of the recovery.
    pub evidence: String,
    /// Result of the check that the effect has lasted; `None` for an injection, and for a fault that lasts only for a moment.
    pub lasted: Option<Lasted>,
    /// Time from the request to the observation.
    pub duration: Duration,
    /// Part of `duration` that the check for `lasted` took.
    pub proof: Duration,
}

impl Observed {
    /// Returns the evidence as text, after the result of the check that the effect has lasted.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.lasted {
            Some(lasted) => format!("{lasted}; recovered: {}", self.evidence),
            None => self.evidence.clone(),
        }
    }
}

impl Injection {
    /// Injects a fault and waits until its effect is verified. A fault without effect is taken back. Where the container reboots by itself
    /// meanwhile, the fault is injected once more when the container is ready again.
    pub fn inject(lab: &Lab, container: &Container, fault: &Fault) -> Result<(Self, Observed), FaultError> {
        let begun = Instant::now();
        despite_reboots(lab, container, || {
            let (reboots, injected) = (container.reboots(), Self::inject_once(lab, container, fault, begun));
            match injected {
                // Nobody knows on which side of the reboot it was seen.
                Ok((mut injection, _)) if container.reboots() > reboots => {
                    injection.heal(lab)?;
                    Err(does_not_stay_up(container))
                }
                injected => injected,
            }
        })
    }

    fn inject_once(
        lab: &Lab,
        container: &Container,
        fault: &Fault,
        begun: Instant,
    ) -> Result<(Self, Observed), FaultError> {
        let starts = container.starts();
        let target = FaultTarget::new(lab, container);
        let mut effect = effect_of(fault)?;
        effect.supported()?;
        let before = effect.before(&target).with_context(|| format!("{fault} on {}", target.name()))?;
        let injected = effect.inject(&target).and_then(|()| effect.verify_effect(&target).map_err(without_effect));
        match injected {
            Ok(evidence) => {
                let (container, fault, init) = (container.clone(), fault.clone(), container.init_pid().ok());
                let injection = Self { container, fault, effect, init, lasted: None, healed: None, starts };
                let observed = injection.observed(evidence, begun);
                Ok((injection, Observed { before: Some(before), ..observed }))
            }
            Err(error) => {
                let error = FaultError::from(error);
                let error = match despite_reboots(lab, container, || Ok(effect.heal(&target)?)) {
                    Ok(()) => error,
                    Err(healing) => error.not_taken_back(&healing),
                };
                Err(error.context(format!("{fault} on {}", target.name())))
            }
        }
    }

    /// Checks that the effect has lasted, takes the damage back whatever the result, and waits until the recovery is verified. Does nothing
    /// for a fault that is healed already.
    pub fn heal(&mut self, lab: &Lab) -> Result<Observed, FaultError> {
        let begun = Instant::now();
        // Once: what a first try to heal has taken back by halves is no longer on for that reason.
        if self.lasted.is_none() && self.healed.is_none() {
            self.lasted = Some(self.lasts(lab));
        }
        let proof = begun.elapsed();
        let target = FaultTarget::new(lab, &self.container);
        let evidence = match &self.healed {
            Some(evidence) => evidence.clone(),
            None => {
                let effect = &mut self.effect;
                let heal = || Ok(effect.heal(&target).and_then(|()| effect.verify_recovery(&target))?);
                let healed = despite_reboots(lab, &self.container, heal);
                healed.map_err(|error| error.context(format!("healing {} on {}", self.fault, target.name())))?
            }
        };
        self.healed = Some(evidence.clone());
        let lasted = self.lasted.clone().filter(|lasted| *lasted != Lasted::Momentary);
        Ok(Observed { lasted, proof, ..self.observed(evidence, begun) })
    }

    fn observed(&self, evidence: String, begun: Instant) -> Observed {
        Observed {
            container: self.container.clone(),
            fault: self.fault.clone(),
            before: None,
            evidence,
            lasted: None,
            duration: begun.elapsed(),
            proof: Duration::ZERO,
        }
    }

    /// Checks that the effect has lasted until now.
    fn lasts(&mut self, lab: &Lab) -> Lasted {
        let target = FaultTarget::new(lab, &self.container).limited(LASTS_DEADLINE.scaled());
        if target.container.is_dead() {
            return Lasted::over(format!("{} had ended", target.name()));
        }
        let lasted = match self.effect.lasts(&target) {
            Ok(lasted) => lasted,
            Err(error) => Lasted::not_seen(format!("{error:#}")),
        };
        if !matches!(lasted, Lasted::Lost { .. }) || self.effect.outlives_container() {
            return lasted;
        }
        // What a reboot, an end or another fault of its machine explains is nobody's doing.
        match target.container.outage() {
            Some(outage) if outage.cause != self.fault.name() => Lasted::not_seen(outage.to_string()),
            None if target.container.is_dead() => Lasted::over(format!("{} had ended", target.name())),
            None if target.container.init_pid().ok() != self.init && !self.effect.starts_container() => {
                Lasted::over(format!("a restart of {} had ended the fault", target.name()))
            }
            _ => lasted,
        }
    }

    /// Injects the fault again where a restart of the container has undone it.
    pub fn restore(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let starts = self.container.starts();
        if self.healed.is_some() || starts == self.starts {
            return Ok(());
        }
        let target = FaultTarget::new(lab, &self.container);
        self.effect.restore(&target).with_context(|| format!("restoring {} on {}", self.fault, target.name()))?;
        self.init = self.container.init_pid().ok();
        self.starts = starts;
        Ok(())
    }

    #[must_use]
    pub fn is_healed(&self) -> bool {
        self.healed.is_some()
    }

    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// Adds to an error that the fault has no effect, unless the error says that the fault is not applicable.
fn without_effect(error: anyhow::Error) -> anyhow::Error {
    match Error::of(&error) {
        None | Some(Error::Outage(_) | Error::MachineEnded(_)) => error.context("it has no effect"),
        Some(_) => error,
    }
}
