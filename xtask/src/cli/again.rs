//! What an earlier run leaves to be done again: its cases, with the faults they had. Of this project, or out of a bundle.

use std::path::{Path, PathBuf};

use super::Context;
use crate::bundle;
use crate::host::invoker::Invoker;
use crate::image::{self, Replacement};
use crate::manifest::Project;
use crate::plan::Plan;
use crate::record::{PastRun, RUNS_FOLDER};
use crate::run::Schedules;

/// Where bundles are laid out, below the folder of runs.
const BUNDLES_FOLDER: &str = "bundles";

/// An earlier run, to be repeated.
#[derive(Debug)]
pub struct Again {
    /// The folder of the project that it is repeated in.
    pub root: PathBuf,
    /// The run.
    pub run: PastRun,
    /// What is to be told of where it comes from.
    notes: Vec<String>,
}

impl Again {
    /// A run of this project.
    ///
    /// # Errors
    /// When there is no such run, or it has no record.
    pub fn of_run(context: &Context, run: &str) -> anyhow::Result<Self> {
        Ok(Self { root: context.root.clone(), run: PastRun::find(&context.root, run)?, notes: Vec::new() })
    }

    /// A run out of a bundle, which is laid out below this project's runs.
    ///
    /// # Errors
    /// When it is no bundle that can be trusted.
    pub fn of_bundle(context: &Context, file: &Path) -> anyhow::Result<Self> {
        let into = context.root.join(RUNS_FOLDER).join(BUNDLES_FOLDER);
        let unpacked = bundle::unpack(file, &into, &Invoker::find())?;
        let bundle = unpacked.bundle;
        let mut notes = vec![format!("run {} lies in {}", bundle.run_id, unpacked.project.display())];
        if bundle.engine_version != env!("CARGO_PKG_VERSION") {
            let (then, now) = (&bundle.engine_version, env!("CARGO_PKG_VERSION"));
            notes.push(format!("engine {then} made that run, and engine {now} repeats it"));
        }
        if !unpacked.changed.is_empty() {
            notes.push(format!("changed since it was laid out: {}", unpacked.changed.join(", ")));
        }
        let run = PastRun::read(unpacked.run)?;
        Ok(Self { root: unpacked.project, run, notes })
    }

    /// Takes the run's order over, and its faults.
    ///
    /// # Errors
    /// When a schedule does not fit the project any more.
    pub fn prepare(&self, project: &Project, plan: &mut Plan) -> anyhow::Result<Option<Schedules>> {
        if plan.shuffle_seed.is_none() {
            let order: Vec<&str> = self.run.record.cases.iter().map(|result| result.case.0.as_str()).collect();
            plan.order_as(&order);
        }
        Schedules::of_run(project, plan, &self.run)
    }

    /// What a person should know before it is repeated: where it lies, and which layers are others than those of the run.
    ///
    /// # Errors
    /// When a file that goes into a layer cannot be read.
    pub fn notes(&self, project: &Project, plan: &Plan, replacements: &[Replacement]) -> anyhow::Result<Vec<String>> {
        let mut notes = self.notes.clone();
        let wanted = plan.templates(project);
        let mut same = 0;
        for layer in image::status(project, &wanted, replacements)? {
            match self.run.record.layers.get(&layer.template) {
                Some(then) if *then != layer.hash => {
                    notes.push(format!("template {} differs: layer {then} then, {} now", layer.template, layer.hash));
                }
                Some(_) => same += 1,
                None => {}
            }
        }
        notes.push(format!("{same} of {} templates have the layer of run {}", wanted.len(), self.run.record.run_id));
        Ok(notes)
    }
}
