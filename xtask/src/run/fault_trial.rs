//! Trial of one fault in a lab of its own: verifies its effect and its recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use e2e_contract::Fault;

use super::interrupt::Interrupt;
use super::machines::{Position, machine, require_budgets};
use super::slot_lease;
use crate::error::{Error, HostCause};
use crate::fault::{ActiveFaults, Entry, FaultError, Needs, Observed, RecoveryTime};
use crate::guard::{Guard, Slot, Wait};
use crate::host::patience::Deadline;
use crate::host::syntax::compose;
use crate::image::{self, Image, Progress};
use crate::lab::{Container, ExecRequest, Lab, Machine, WaitError};
use crate::manifest::{Origin, Project, Template};

/// Names of the lab's machines; the fault is injected into the first.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Deadline for starting the program that a process fault acts on.
const SUBJECT_DEADLINE: Deadline = Deadline::from_secs(10);

/// Executor of fault trials, each in a new lab in the same slot.
pub struct FaultTrials<'a> {
    project: &'a Project,
    images: BTreeMap<String, Image>,
    /// Templates whose images could not be built, each with the reason.
    unbuilt: BTreeMap<String, String>,
    guard: Arc<Guard>,
    interrupt: &'a Interrupt,
    slot: String,
}

impl std::fmt::Debug for FaultTrials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultTrials").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Fault to try, and the template of the machine to inject it into.
#[derive(Debug, Clone)]
pub struct FaultTrial {
    /// Entry of the fault in the catalogue.
    pub entry: Entry,
    pub fault: Fault,
    /// Name of the template of the machine that the fault is injected into.
    pub template: String,
}

#[derive(Debug)]
pub struct TrialOutcome {
    /// Verified effect with the observation before the fault, or the reason why there was no effect.
    pub effect: Result<Observed, FaultError>,
    /// Verified recovery, or the reason why there was none; `None` if there was no effect.
    pub recovery: Option<Result<Observed, FaultError>>,
}

impl FaultTrial {
    /// Plans the trial of a fault on the template `on`, or else on the smallest template that has what the fault needs; `None` if no
    /// template has that.
    ///
    /// # Errors
    /// [`Error::Usage`] when the project has no template `on`.
    pub fn plan(project: &Project, entry: Entry, fault: Fault, on: Option<&str>) -> Result<Option<Self>, Error> {
        let template = match on {
            Some(name) => Some(project.templates.get(name).ok_or_else(|| {
                let known: Vec<&str> = project.templates.keys().map(String::as_str).collect();
                Error::Usage(format!("there is no template {name:?}: the templates are {}", known.join(", ")))
            })?),
            None => smallest(project, entry.needs),
        };
        Ok(template.map(|template| Self { template: template.name.clone(), entry, fault }))
    }
}

fn smallest(project: &Project, needs: Needs) -> Option<&Template> {
    let below = |template: &Template| match &template.from {
        Origin::Template(name) => project.templates.get(name),
        _ => None,
    };
    let size = |template: &&Template| {
        let layers = std::iter::successors(Some(*template), |template| below(template)).count();
        (layers, template.limits.memory, template.packages.len())
    };
    project.templates.values().filter(|template| needs.are_met_by(template)).min_by_key(size)
}

impl<'a> FaultTrials<'a> {
    /// Builds the images for all trials and takes the slot. If a template cannot be built, only the trials on it fail, unless all trials
    /// need it.
    ///
    /// # Errors
    /// When the smallest template, or the template of every trial, cannot be built, or the slot is not available.
    pub fn prepare(
        project: &'a Project,
        trials: &[FaultTrial],
        slot: &str,
        wait: Wait,
        interrupt: &'a Interrupt,
        progress: &(dyn Fn(String) + Sync),
    ) -> anyhow::Result<Self> {
        let templates: BTreeSet<&str> = trials.iter().map(|trial| trial.template.as_str()).collect();
        let smallest = smallest(project, Needs::Nothing).map(|template| template.name.as_str());
        let observe = |event: Progress| match event {
            Progress::Waiting { template, what } => progress(format!("template {template}: {what}")),
            Progress::Building { template, step } => progress(format!("template {template}: {step}")),
            Progress::Built { template, .. } => progress(format!("template {template}: built")),
        };
        let ensure =
            |template: &str| image::ensure(project, &[template.to_owned()], &[], &observe, &|| interrupt.is_set());
        let mut images = smallest.map_or_else(|| Ok(BTreeMap::new()), ensure)?;
        let mut unbuilt = BTreeMap::new();
        for template in &templates {
            match ensure(template) {
                Ok(built) => images.extend(built),
                Err(error) if templates.len() == 1 || interrupt.is_set() => return Err(error),
                Err(error) => drop(unbuilt.insert((*template).to_owned(), format!("{error:#}"))),
            }
        }
        let waiting = |reason: String| progress(reason);
        let guard = slot_lease::take(&Slot::named(slot), "fault try", wait, &waiting, &|| interrupt.is_set())?;
        Ok(Self { project, images, unbuilt, guard: Arc::new(guard), interrupt, slot: slot.to_owned() })
    }

    /// Executes a trial in a lab of its own.
    ///
    /// # Errors
    /// When the lab cannot be created. The fault's own failures are in the returned outcome. [`FaultTrials::own_failure`] tells whether the
    /// error stops the other trials too.
    pub fn carry_out(&self, trial: &FaultTrial) -> anyhow::Result<TrialOutcome> {
        if let Some(reason) = self.unbuilt.get(&trial.template) {
            bail!("the template {} could not be built: {reason}", trial.template);
        }
        let other = smallest(self.project, Needs::Nothing).map_or(&trial.template, |template| &template.name);
        let count = trial.entry.machines.clamp(1, NAMES.len());
        let mut machines = Vec::new();
        for (index, name) in NAMES[..count].iter().enumerate() {
            let template = if index == 0 { &trial.template } else { other };
            let position = Position { name, index, slot: &self.slot, host_name: None };
            machines.push(machine(self.project, &self.images, template, position)?);
        }
        require_budgets(self.project, &self.slot, machines.iter().map(|machine| machine.template.name.as_str()))?;
        self.in_lab(&machines, |lab| self.try_on(lab, trial))
    }

    /// Returns the error of a trial whose lab could not be created, if only that trial is affected.
    ///
    /// # Errors
    /// Cause on this host that stops the other trials as well: a known cause, or the reason why even the smallest lab cannot be created.
    pub fn own_failure(&self, error: anyhow::Error) -> anyhow::Result<anyhow::Error> {
        match HostCause::of(&error) {
            Some(cause) if cause.meets_every_case() => return Err(error),
            Some(_) => return Ok(error),
            None => {}
        }
        match self.make_smallest() {
            Ok(()) => Ok(error),
            Err(cause) if HostCause::of(&cause).is_some() => Err(cause),
            Err(cause) => Err(Error::Host {
                problem: format!("no fault can be tried, because even the smallest lab cannot be created: {cause:#}"),
                help: "`cargo xtask doctor` shows what this machine lacks".into(),
            }
            .into()),
        }
    }

    fn make_smallest(&self) -> anyhow::Result<()> {
        let smallest = smallest(self.project, Needs::Nothing).context("the project has no template")?;
        let position = Position { name: NAMES[0], index: 0, slot: &self.slot, host_name: None };
        let machine = machine(self.project, &self.images, &smallest.name, position)?;
        self.in_lab(&[machine], |lab| self.wait_until_ready(lab))
    }

    /// Calls `work` in a lab of these machines, which is taken down afterwards even if `work` failed.
    fn in_lab<T>(&self, machines: &[Machine], work: impl FnOnce(&Arc<Lab>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let lab = Arc::new(Lab::start(&self.guard, machines, &|_| ())?);
        let done = work(&lab);
        drop(lab);
        self.guard.reset().context("taking the lab down")?;
        done
    }

    fn wait_until_ready(&self, lab: &Lab) -> anyhow::Result<()> {
        lab.wait_until_ready(&|_| (), &|| self.interrupt.is_set()).map_err(WaitError::of_lab)
    }

    fn try_on(&self, lab: &Arc<Lab>, trial: &FaultTrial) -> anyhow::Result<TrialOutcome> {
        self.wait_until_ready(lab)?;
        let target = lab.containers().first().context("the lab has no container")?;
        if let Some(subject) = trial.entry.subject {
            start_subject(lab, target, subject)?;
        }
        let faults = ActiveFaults::new(Arc::clone(lab));
        let stop = || self.interrupt.is_set();
        let heal = |number| faults.heal(number, &|_, _| (), RecoveryTime::Probes, &stop);
        Ok(match faults.inject(target, &trial.fault) {
            Ok((number, bitten)) => TrialOutcome { effect: Ok(bitten), recovery: Some(heal(number)) },
            Err(error) => TrialOutcome { effect: Err(error), recovery: None },
        })
    }

    /// Takes down the last lab and releases the slot; the error has all failed undo steps.
    pub fn end(self) -> anyhow::Result<()> {
        self.guard.down()
    }
}

fn start_subject(lab: &Lab, target: &Container, subject: &'static str) -> anyhow::Result<()> {
    let script = compose!(Shell, "exec >/dev/null 2>&1\n{subject}\n", subject = subject);
    let argv = ["/bin/sh", "-c", script.as_script()].map(str::to_owned).to_vec();
    let streams_dir = lab.streams_dir().to_owned();
    let request = ExecRequest { argv, deadline: SUBJECT_DEADLINE.scaled(), streams_dir, ..ExecRequest::default() };
    let output = target.exec(&request)?;
    if let Some(failure) = output.failure() {
        bail!("`{subject}` {failure}");
    }
    Ok(())
}
