//! One fault on a lab of its own, to see it bite and heal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e_contract::Fault;

use super::ground;
use super::interrupt::Interrupt;
use super::machines::{Position, machine};
use crate::error::Error;
use crate::fault::{Entry, Injection, Needs, Observed};
use crate::guard::{Guard, Slot, Wait};
use crate::image::{self, Image, Progress};
use crate::lab::{Container, ExecRequest, Lab};
use crate::manifest::{Origin, Project, Template};

/// Names of the machines: the fault is done to the first.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// How long starting what the fault is done to may take.
const SUBJECT_DEADLINE: Duration = Duration::from_secs(10);

/// Tries faults, each on a fresh lab.
pub struct Trials<'a> {
    project: &'a Project,
    images: BTreeMap<String, Image>,
    guard: Arc<Guard>,
    interrupt: &'a Interrupt,
    slot: String,
}

impl std::fmt::Debug for Trials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trials").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// What is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its row of the catalogue.
    pub entry: Entry,
    /// It, with its parameters.
    pub fault: Fault,
    /// The template of the machine that it is done to.
    pub template: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Tried {
    /// That it bites, with what was seen before, or why it does not.
    pub bitten: anyhow::Result<Observed>,
    /// That it is gone, or why it is not; nothing where it was never there.
    pub healed: Option<anyhow::Result<Observed>>,
}

impl Trial {
    /// A fault on the smallest template that has what it needs, or on a given one.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such template.
    pub fn plan(project: &Project, entry: Entry, fault: Fault, on: Option<&str>) -> Result<Self, Error> {
        let template = match on {
            Some(name) => project.templates.get(name).ok_or_else(|| {
                let known: Vec<&str> = project.templates.keys().map(String::as_str).collect();
                Error::Usage(format!("there is no template {name:?}: there are {}", known.join(", ")))
            })?,
            None => smallest(project, entry.needs).ok_or_else(|| {
                Error::Usage(format!("{} needs {}, and no template has that", fault.name(), entry.needs))
            })?,
        };
        Ok(Self { entry, fault, template: template.name.clone() })
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

impl<'a> Trials<'a> {
    /// Builds the images of all trials and takes the slot.
    ///
    /// # Errors
    /// When an image cannot be built, or the slot not be had.
    pub fn prepare(
        project: &'a Project,
        trials: &[Trial],
        slot: &str,
        wait: Wait,
        interrupt: &'a Interrupt,
        progress: &(dyn Fn(String) + Sync),
    ) -> anyhow::Result<Self> {
        let mut templates: Vec<String> = trials.iter().map(|trial| trial.template.clone()).collect();
        templates.extend(smallest(project, Needs::Nothing).map(|template| template.name.clone()));
        templates.sort();
        templates.dedup();
        let observe = |event: Progress| match event {
            Progress::Waiting { template, what } => progress(format!("template {template}: {what}")),
            Progress::Building { template, step } => progress(format!("template {template}: {step}")),
            Progress::Built { template, .. } => progress(format!("template {template}: built")),
        };
        let images = image::ensure(project, &templates, &[], &observe, &|| interrupt.is_set())?;
        let waiting = |reason: String| progress(reason);
        let guard = ground::take(&Slot::named(slot), "fault try", wait, &waiting, &|| interrupt.is_set())?;
        Ok(Self { project, images, guard: Arc::new(guard), interrupt, slot: slot.to_owned() })
    }

    /// Tries one.
    ///
    /// # Errors
    /// When its lab cannot be made; what becomes of the fault stands in the answer.
    pub fn carry_out(&self, trial: &Trial) -> anyhow::Result<Tried> {
        let other = smallest(self.project, Needs::Nothing).map_or(&trial.template, |template| &template.name);
        let count = trial.entry.machines.clamp(1, NAMES.len());
        let mut machines = Vec::new();
        for (index, name) in NAMES[..count].iter().enumerate() {
            let template = if index == 0 { &trial.template } else { other };
            let position = Position { name, index, slot: &self.slot, host_name: None };
            machines.push(machine(self.project, &self.images, template, position)?);
        }
        let lab = Lab::start(&self.guard, &machines, &|_| ())?;
        let tried = self.try_on(&lab, trial);
        drop(lab);
        self.guard.reset().context("taking the lab down")?;
        tried
    }

    fn try_on(&self, lab: &Lab, trial: &Trial) -> anyhow::Result<Tried> {
        lab.wait_until_ready(&|_| (), &|| self.interrupt.is_set())?;
        let target = lab.containers().first().context("a lab has a container")?;
        if let Some(subject) = trial.entry.subject {
            start_subject(lab, target, subject)?;
        }
        Ok(match Injection::inject(lab, target, &trial.fault) {
            Ok((mut injection, observed)) => Tried { bitten: Ok(observed), healed: Some(injection.heal(lab)) },
            Err(error) => Tried { bitten: Err(error), healed: None },
        })
    }

    /// Gives the slot back.
    ///
    /// # Errors
    /// With everything that could not be taken back.
    pub fn end(self) -> anyhow::Result<()> {
        self.guard.down()
    }
}

fn start_subject(lab: &Lab, target: &Container, subject: &str) -> anyhow::Result<()> {
    let script = format!("exec >/dev/null 2>&1\n{subject}\n");
    let argv = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let streams_dir = lab.streams_dir().to_owned();
    let request = ExecRequest { argv, deadline: SUBJECT_DEADLINE, streams_dir, ..ExecRequest::default() };
    let output = target.exec(&request)?;
    if output.status != 0 || output.timed_out {
        bail!("`{subject}` ended with status {}: {}", output.status, output.tail());
    }
    Ok(())
}
