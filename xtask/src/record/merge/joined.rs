//! One record made of those of the shards.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path};

use anyhow::{Context as _, bail};

use super::{Shards, clock};
use crate::error::{EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_PASSED, EXIT_REGRESSED, EXIT_USAGE};
use crate::host::invoker::Invoker;
use crate::record::logs::epoch_ms;
use crate::record::{
    CaseId, CaseResult, Counts, Event, FORMAT_VERSION, PastRun, RunDir, RunRecord, Stamped, Verdict, human,
};

/// Exit codes, the one that counts first in front.
const EXIT_CODES: [u8; 6] =
    [EXIT_INTERRUPTED, EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_USAGE, EXIT_REGRESSED, EXIT_PASSED];

impl Shards {
    /// Writes one run below the project's `target/e2e`: the cases of all shards with their files, on one clock that began with
    /// the first shard. Cases of a missing shard were not run, and the joined run fails for want of them. Reports are made
    /// from it like from any other.
    ///
    /// # Errors
    /// When it cannot be written, or a shard's file is damaged.
    pub fn join(&self, root: &Path, owner: &Invoker) -> anyhow::Result<PastRun> {
        // Both are the user's: the records that are read, and the one that is written.
        owner.act(|| self.write(root, owner.clone()))
    }

    fn write(&self, root: &Path, owner: Invoker) -> anyhow::Result<PastRun> {
        let dir = RunDir::create(root, owner).context("making the joined run's folder")?;
        let began_ms =
            self.runs.iter().filter_map(|run| epoch_ms(&run.record.started_at)).fold(f64::INFINITY, f64::min);
        let later_ms = |run: &PastRun| epoch_ms(&run.record.started_at).map_or(0.0, |began| began - began_ms);
        let notes = self.notes();
        let record = self.record(dir.run_id(), later_ms);
        let mut events = Vec::new();
        for run in &self.runs {
            let of_case =
                |stamped: &Stamped| !matches!(stamped.event, Event::RunStarted { .. } | Event::RunEnded { .. });
            let moved = |stamped: Stamped| Stamped { at_ms: stamped.at_ms + later_ms(run), ..stamped };
            events.extend(run.events()?.into_iter().filter(of_case).map(moved));
            for attempt in run.record.cases.iter().flat_map(|case| &case.attempts) {
                let files = Files { from: &run.folder, dir: &dir, later_ms: later_ms(run) };
                files
                    .copy(&attempt.folder)
                    .with_context(|| format!("copying {} of {}", attempt.folder, run.record.run_id))?;
            }
        }
        events.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        let began = Event::RunStarted {
            format_version: FORMAT_VERSION,
            run_id: record.run_id.clone(),
            started_at: record.started_at.clone(),
            cases: u32::try_from(self.suite.len()).unwrap_or(u32::MAX),
            shuffle_seed: record.shuffle_seed,
            user: record.user.clone(),
            patience: record.patience,
        };
        let warnings = notes.into_iter().map(|message| Event::Warning { message });
        let head = [began].into_iter().chain(warnings).map(|event| Stamped { at_ms: 0.0, event });
        let (counts, duration_ms, exit_code) = (record.counts, record.duration_ms, record.exit_code);
        let end = Stamped { at_ms: duration_ms, event: Event::RunEnded { counts, duration_ms, exit_code } };
        let all: Vec<Stamped> = head.chain(events).chain([end]).collect();
        let (mut lines, mut log) = (String::new(), String::new());
        for stamped in &all {
            lines.push_str(&serde_json::to_string(stamped)?);
            lines.push('\n');
            log.push_str(&human::log_text(stamped));
        }
        dir.write("events.jsonl", lines.as_bytes())?;
        dir.write("e2e_test.log", log.as_bytes())?;
        dir.write("run.json", &serde_json::to_vec_pretty(&record)?)?;
        Ok(PastRun { folder: dir.path().to_owned(), record })
    }

    /// What a reader of the joined record should know: shards that are missing, and what they differ in.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let missing = |shard: &u32| format!("shard {shard}/{} is missing: its cases were not run", self.of);
        let mut notes: Vec<String> = self.missing.iter().map(missing).collect();
        let records = || self.runs.iter().map(|run| &run.record);
        let mut differ = |what: &str, get: &dyn Fn(&RunRecord) -> Option<String>| {
            let mut values: Vec<String> = records().filter_map(get).collect();
            values.sort();
            values.dedup();
            if values.len() > 1 {
                notes.push(format!("the shards differ in {what}: {}", values.join(", ")));
            }
        };
        differ("the engine's version", &|record| Some(record.engine_version.clone()));
        differ("the seed of their faults", &|record| record.chaos_seed.map(|seed| seed.to_string()));
        differ("the machine", &|record| record.machine.as_ref().map(|machine| machine.cpu_model.clone()));
        differ("what they are compared with", &|record| record.compared_with.clone());
        let templates: BTreeSet<&String> = records().flat_map(|record| record.layers.keys()).collect();
        for template in templates {
            differ(&format!("the layer of {template}"), &|record| record.layers.get(template).cloned());
        }
        notes
    }

    fn record(&self, run_id: &str, later_ms: impl Fn(&PastRun) -> f64) -> RunRecord {
        let records = || self.runs.iter().map(|run| &run.record);
        let result = |case: &String| {
            let found = records().flat_map(|record| &record.cases).find(|result| result.case.0 == *case);
            let skipped = || CaseResult { case: CaseId(case.clone()), verdict: Verdict::Skipped, attempts: Vec::new() };
            found.cloned().unwrap_or_else(skipped)
        };
        let cases: Vec<CaseResult> = self.suite.iter().map(result).collect();
        let first = &self.runs[0].record;
        let same = |get: &dyn Fn(&RunRecord) -> Option<u64>| {
            let value = get(first);
            value.filter(|_| records().all(|record| get(record) == value))
        };
        let ended_with = |code: &u8| {
            let missing = *code == EXIT_INFRASTRUCTURE && !self.missing.is_empty();
            missing || records().any(|record| record.exit_code == *code)
        };
        let began = self.runs.iter().min_by(|one, other| later_ms(one).total_cmp(&later_ms(other)));
        let of = |part: Option<&super::RecordedPart>| {
            part.map_or_else(String::new, |part| format!("shard {}/{}", part.shard, part.of))
        };
        let failures = |record: &RunRecord| {
            let shard = of(record.part.as_ref());
            record.cleanup_failures.iter().map(|failure| format!("{shard}: {failure}")).collect::<Vec<_>>()
        };
        let mut privileged: Vec<String> = records().flat_map(|record| record.privileged.clone()).collect();
        privileged.sort();
        privileged.dedup();
        RunRecord {
            format_version: FORMAT_VERSION,
            run_id: run_id.to_owned(),
            started_at: began.map_or_else(|| first.started_at.clone(), |run| run.record.started_at.clone()),
            duration_ms: self.runs.iter().map(|run| later_ms(run) + run.record.duration_ms).fold(0.0, f64::max),
            engine_version: first.engine_version.clone(),
            user: first.user.clone(),
            shuffle_seed: same(&|record| record.shuffle_seed),
            chaos_seed: same(&|record| record.chaos_seed),
            layers: records().flat_map(|record| record.layers.clone()).collect(),
            privileged,
            counts: Counts::of(&cases),
            cases,
            compared_with: records().find_map(|record| record.compared_with.clone()),
            comparisons: records().flat_map(|record| record.comparisons.clone()).collect(),
            cleanup_failures: records().flat_map(failures).collect(),
            exit_code: EXIT_CODES.into_iter().find(ended_with).unwrap_or(EXIT_FAILED),
            command: whole_command(&first.command),
            machine: first.machine.clone(),
            patience: first.patience.filter(|_| records().all(|record| record.patience == first.patience)),
            packages: records().flat_map(|record| record.packages.clone()).collect(),
            part: None,
        }
    }
}

/// The words that would have run all of it.
fn whole_command(words: &[String]) -> Vec<String> {
    let mut own = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--shard" {
            words.next();
        } else if !word.starts_with("--shard=") {
            own.push(word.clone());
        }
    }
    own
}

/// The files of a shard's attempts, on their way into the joined run.
struct Files<'a> {
    from: &'a Path,
    dir: &'a RunDir,
    later_ms: f64,
}

impl Files<'_> {
    /// Copies a folder with all in it. Links and what is no file stay behind: a record's own files are none.
    fn copy(&self, relative: &str) -> anyhow::Result<()> {
        if !Path::new(relative).components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("{relative} leads out of the run's folder");
        }
        self.dir.folder(relative)?;
        for entry in std::fs::read_dir(self.from.join(relative))? {
            let entry = entry?;
            let name =
                entry.file_name().into_string().map_err(|name| anyhow::anyhow!("{} is no text", name.display()))?;
            let (kind, path) = (entry.file_type()?, format!("{relative}/{name}"));
            if kind.is_dir() {
                self.copy(&path)?;
            } else if kind.is_file() {
                self.copy_file(&name, &path).with_context(|| format!("copying {path}"))?;
            }
        }
        Ok(())
    }

    fn copy_file(&self, name: &str, path: &str) -> anyhow::Result<()> {
        let from = self.from.join(path);
        match clock::mover(name) {
            Some(moved) => self.dir.write(path, moved(&std::fs::read_to_string(from)?, self.later_ms)?.as_bytes()),
            None => Ok(std::io::copy(&mut File::open(from)?, &mut self.dir.file(path)?).map(drop)?),
        }
    }
}
