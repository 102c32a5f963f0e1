//! Repetition of an earlier run's cases with the same faults; the run is one of this project, or comes out of a bundle.

use std::path::{Path, PathBuf};

use super::Context;
use crate::bundle;
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::image::{self, Replacement};
use crate::manifest::Project;
use crate::plan::Plan;
use crate::record::{PastRun, RUNS_FOLDER};
use crate::run::Schedules;

/// Name of the folder for unpacked bundles, below the folder of runs.
const BUNDLES_FOLDER: &str = "bundles";

/// Earlier run that is to be repeated.
#[derive(Debug)]
pub struct Again {
    /// Folder of the project in which the run is repeated.
    pub root: PathBuf,
    pub run: PastRun,
    /// Notes on the run's origin for the user; empty for a run of this project.
    notes: Vec<String>,
}

impl Again {
    /// Reads an earlier run of this project.
    ///
    /// # Errors
    /// If there is no such run, or it is still running.
    pub fn of_run(context: &Context, run: &str) -> anyhow::Result<Self> {
        let run = PastRun::find(&context.root, run)?;
        let name = &run.record.run_id;
        if run.record.unfinished.as_ref().is_some_and(|end| end.still_runs) {
            let message = format!("run {name} is still running: rerun its failures when it has ended");
            return Err(Error::Usage(message).into());
        }
        Ok(Self { root: context.root.clone(), run, notes: Vec::new() })
    }

    /// Unpacks a bundle into a folder below this project's runs, and reads the bundled run.
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
            notes.push(format!(
                "files of the bundle that were changed since it was unpacked: {}",
                unpacked.changed.join(", ")
            ));
        }
        let run = PastRun::read(unpacked.run)?;
        Ok(Self { root: unpacked.project, run, notes })
    }

    /// Returns a command line that will mean the same later. It names the run by its ID, because `latest` will be another run; and without
    /// filters, `--from-bundle` becomes `--root` with the folder of the unpacked bundle.
    #[must_use]
    pub fn own_words(&self, words: Vec<String>, filters: &[String]) -> Vec<String> {
        let named = format!("--rerun-failed={}", self.run.record.run_id);
        let is_ours = self.notes.is_empty();
        let root = || ["--root".to_owned(), self.root.display().to_string()];
        let mut own = if is_ours { Vec::new() } else { root().to_vec() };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rerun-failed" | "--rerun-failed=latest" => own.push(named.clone()),
                "--root" if !is_ours => drop(words.next()),
                "--from-bundle" if filters.is_empty() => {
                    words.next();
                    own.push(named.clone());
                }
                given if !is_ours && given.starts_with("--root=") => {}
                given if filters.is_empty() && given.starts_with("--from-bundle=") => own.push(named.clone()),
                _ => own.push(word),
            }
        }
        own
    }

    /// Puts the cases of a plan into the earlier run's order, and returns that run's schedules of faults.
    ///
    /// # Errors
    /// If a schedule does not fit the project any more.
    pub fn prepare(&self, project: &Project, plan: &mut Plan) -> anyhow::Result<Option<Schedules>> {
        if plan.shuffle_seed.is_none() {
            let order: Vec<&str> = self.run.record.cases.iter().map(|result| result.case.0.as_str()).collect();
            plan.order_as(&order);
        }
        Schedules::of_run(project, plan, &self.run)
    }

    /// Returns notes for the user: where the earlier run lies, and which templates have another layer now than in that run.
    pub fn notes(&self, project: &Project, plan: &Plan, replacements: &[Replacement]) -> anyhow::Result<Vec<String>> {
        let mut notes = self.notes.clone();
        let name = &self.run.record.run_id;
        notes.extend(self.run.record.remarks().into_iter().map(|remark| format!("run {name}: {remark}")));
        let wanted = plan.templates(project);
        let mut same = 0;
        for (template, now) in image::hashes(project, &wanted, replacements)? {
            match self.run.record.layers.get(&template) {
                Some(then) if *then != now => {
                    notes.push(format!(
                        "template {template} has changed: its layer was {then} in that run, and is {now} now"
                    ));
                }
                Some(_) => same += 1,
                None => {}
            }
        }
        notes.push(format!(
            "{same} of {} templates still have the layer of run {}",
            wanted.len(),
            self.run.record.run_id
        ));
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::{Counts, FORMAT_VERSION, RunRecord};

    fn check(notes: &[&str], line: &str, filters: &[&str], expected: &str) {
        let record = RunRecord {
            format_version: FORMAT_VERSION,
            run_id: "20260101-000000-1".into(),
            started_at: "2026-01-01T00:00:00.000Z".into(),
            duration_ms: 1.0,
            engine_version: "0.1.0".into(),
            user: "me".into(),
            shuffle_seed: None,
            chaos_seed: None,
            layers: BTreeMap::new(),
            privileged: Vec::new(),
            allowed: BTreeMap::new(),
            cases: Vec::new(),
            counts: Counts::default(),
            compared_with: None,
            comparisons: Vec::new(),
            cleanup_failures: Vec::new(),
            exit_code: 0,
            command: Vec::new(),
            patience: None,
            machine: None,
            packages: BTreeMap::new(),
            part: None,
            ..RunRecord::default()
        };
        let run = PastRun { folder: "/p/target/e2e/20260101-000000-1".into(), record };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let again = Again { root: "/p".into(), run, notes: words(notes) };
        let line: Vec<&str> = line.split(' ').collect();
        assert_eq!(again.own_words(words(&line), &words(filters)).join(" "), expected, "{line:?}");
    }

    #[test]
    fn the_words_mean_the_same_run_later() {
        let named = "--rerun-failed=20260101-000000-1";
        check(&[], "--root p e2e --rerun-failed --slot 2", &[], &format!("--root p e2e {named} --slot 2"));
        check(&[], "e2e --rerun-failed=20260101-000000-1", &[], &format!("e2e {named}"));
        let bundle = ["it lies in /p"];
        check(&bundle, "--root q e2e --from-bundle b --slot 2", &[], &format!("--root /p e2e {named} --slot 2"));
        check(&bundle, "e2e --from-bundle=b", &[], &format!("--root /p e2e {named}"));
        check(&bundle, "--root=q e2e --from-bundle b x", &["x"], "--root /p e2e --from-bundle b x");
    }
}
