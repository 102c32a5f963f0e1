//! Join of the records of shards into one record.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};

use anyhow::{Context as _, bail};

use super::{Shards, clock};
use crate::error::{EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_PASSED, EXIT_REGRESSED, EXIT_USAGE};
use crate::host::invoker::Invoker;
use crate::input;
use crate::record::logs::epoch_ms;
use crate::record::{
    COVERAGE_FILE, CaseId, CaseResult, Counts, Coverage, Event, EventReader, FORMAT_VERSION, FaultCounts, Fold, LabIds,
    PastRun, RECORD_FILE, RecordedPart, RunDir, RunRecord, RunSetup, Stamped, Verdict, human, is_harmless_name,
};

/// Exit codes by rank: the joined run has the first one that any shard has.
const EXIT_CODES: [u8; 6] =
    [EXIT_INTERRUPTED, EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_USAGE, EXIT_REGRESSED, EXIT_PASSED];

impl Shards {
    /// Writes one run below the project's `target/e2e`: the cases of all shards with their files, on one clock that began with the first
    /// shard. Cases of a missing shard count as not run, and make the joined run fail. Reports are made from it as from any run.
    pub fn join(&self, root: &Path, owner: &Invoker) -> anyhow::Result<PastRun> {
        // Both are the user's: the records that are read, and the one that is written.
        owner.act(|| self.write(root, owner.clone()))
    }

    fn write(&self, root: &Path, owner: Invoker) -> anyhow::Result<PastRun> {
        let dir = RunDir::create(root, owner).context("making the joined run's folder")?;
        let began_ms =
            self.runs.iter().filter_map(|run| epoch_ms(&run.record.started_at)).fold(f64::INFINITY, f64::min);
        let later_ms = |run: &PastRun| epoch_ms(&run.record.started_at).map_or(0.0, |began| began - began_ms);
        let mut notes = self.notes();
        let whole = self.record(dir.run_id(), later_ms);
        let mut events = Vec::new();
        for run in &self.runs {
            events.extend(moved(run, later_ms(run))?);
            for attempt in run.record.cases.iter().flat_map(|case| &case.attempts) {
                let mut files = Files { from: &run.folder, dir: &dir, later_ms: later_ms(run), notes: &mut notes };
                // A run that was killed may not have made the folder.
                if run.folder.join(&attempt.folder).is_dir() {
                    files.copy(&attempt.folder).with_context(|| {
                        format!("copying the folder {} of the run {}", attempt.folder, run.record.run_id)
                    })?;
                }
            }
        }
        let coverage = self.coverage(&mut notes)?;
        if let Some(coverage) = &coverage {
            dir.write(COVERAGE_FILE, coverage.text()?.as_bytes())?;
            events.push(Stamped { at_ms: whole.duration_ms, event: Event::Covered(coverage.recorded()) });
        }
        events.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        let head = self.begin(&whole).into_iter();
        let head = head.chain(notes.into_iter().map(|message| Event::Warning { message }));
        let head = head.map(|event| Stamped { at_ms: 0.0, event });
        let (counts, duration_ms, exit_code) = (whole.counts, whole.duration_ms, whole.exit_code);
        let (cleanup_failures, error) = (whole.cleanup_failures, whole.error);
        let end = Event::RunEnded { counts, duration_ms, exit_code, cleanup_failures, error };
        let (mut fold, mut lines, mut log) = (Fold::default(), String::new(), String::new());
        for stamped in head.chain(events).chain([Stamped { at_ms: duration_ms, event: end }]) {
            fold.apply(&stamped);
            lines.push_str(&serde_json::to_string(&stamped)?);
            lines.push('\n');
            log.push_str(&human::log_text(&stamped));
        }
        let record = fold.record(false);
        dir.write("events.jsonl", lines.as_bytes())?;
        dir.write("e2e_test.log", log.as_bytes())?;
        dir.write(RECORD_FILE, &serde_json::to_vec_pretty(&record)?)?;
        Ok(PastRun { folder: dir.path().to_owned(), record })
    }

    /// Joins the coverage of the shards; `None` where no shard has collected it. A shard whose coverage is missing, or of another package, is
    /// told in `notes`.
    fn coverage(&self, notes: &mut Vec<String>) -> anyhow::Result<Option<Coverage>> {
        let mut joined: Option<Coverage> = None;
        for run in self.runs.iter().filter(|run| run.record.coverage.is_some()) {
            let path = run.folder.join(COVERAGE_FILE);
            let one = Coverage::read(&run.folder).with_context(|| format!("reading {}", path.display()))?;
            match &mut joined {
                None => joined = Some(one),
                Some(joined) => notes.extend(joined.join(one).err()),
            }
        }
        let without = self.runs.iter().filter(|run| run.record.coverage.is_none());
        if let Some(joined) = &mut joined {
            joined.gaps.extend(without.map(|run| format!("{} has no coverage", shown(run.record.part.as_ref()))));
            joined.gaps.extend(self.missing.iter().map(|shard| format!("shard {shard}/{} is missing", self.of)));
        }
        Ok(joined)
    }

    /// Returns the first events of the joined run, from the record that it will have.
    fn begin(&self, record: &RunRecord) -> [Event; 2] {
        let setup = RunSetup {
            engine_version: Some(record.engine_version.clone()),
            command: record.command.clone(),
            chaos_seed: record.chaos_seed,
            compared_with: record.compared_with.clone(),
            part: None,
            plan: self.suite.clone(),
        };
        let began = Event::RunStarted {
            format_version: FORMAT_VERSION,
            run_id: record.run_id.clone(),
            started_at: record.started_at.clone(),
            cases: u32::try_from(self.suite.len()).unwrap_or(u32::MAX),
            shuffle_seed: record.shuffle_seed,
            user: record.user.clone(),
            patience: record.patience,
            setup: Box::new(setup),
        };
        let prepared = Event::RunPrepared {
            layers: record.layers.clone(),
            packages: record.packages.clone(),
            privileged: record.privileged.clone(),
            allowed: record.allowed.clone(),
            machine: record.machine.clone(),
            ids: record.ids,
        };
        [began, prepared]
    }

    /// Returns what a reader of the joined record should know, a sentence each: missing shards, and differences between shards.
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
        for record in records() {
            let shard = shown(record.part.as_ref());
            notes.extend(record.remarks().iter().map(|remark| format!("{shard} is incomplete: {remark}")));
        }
        notes
    }

    fn record(&self, run_id: &str, later_ms: impl Fn(&PastRun) -> f64) -> RunRecord {
        let records = || self.runs.iter().map(|run| &run.record);
        let results: HashMap<&str, &CaseResult> =
            records().flat_map(|record| &record.cases).map(|result| (result.case.0.as_str(), result)).collect();
        let result = |case: &String| {
            let found = results.get(case.as_str()).copied();
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
        let failures = |record: &RunRecord| {
            let shard = shown(record.part.as_ref());
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
            allowed: records().flat_map(|record| record.allowed.clone()).collect(),
            counts: Counts::of(&cases),
            cases,
            compared_with: records().find_map(|record| record.compared_with.clone()),
            comparisons: records().flat_map(|record| record.comparisons.clone()).collect(),
            cleanup_failures: records().flat_map(failures).collect(),
            exit_code: EXIT_CODES.into_iter().find(ended_with).unwrap_or(EXIT_FAILED),
            command: whole_command(&first.command),
            machine: first.machine.clone(),
            ids: records().find(|record| record.ids == Some(LabIds::Shared)).map_or(first.ids, |record| record.ids),
            patience: first.patience.filter(|_| records().all(|record| record.patience == first.patience)),
            packages: records().flat_map(|record| record.packages.clone()).collect(),
            part: None,
            error: records().find_map(|record| {
                let error = record.error.as_ref()?;
                Some(format!("{}: {error}", shown(record.part.as_ref())))
            }),
            ..RunRecord::default()
        }
    }
}

fn shown(part: Option<&RecordedPart>) -> String {
    part.map_or_else(String::new, |part| format!("shard {}/{}", part.shard, part.of))
}

/// Returns the events of a shard's cases on a clock that began `by_ms` earlier. An attempt during which the shard was killed ends with
/// its last event.
fn moved(run: &PastRun, by_ms: f64) -> anyhow::Result<Vec<Stamped>> {
    let attempts = || run.record.cases.iter().flat_map(|case| &case.attempts);
    let faults: HashMap<&str, FaultCounts> =
        attempts().filter_map(|attempt| Some((attempt.folder.as_str(), attempt.faults?))).collect();
    let mut events = Vec::new();
    let mut reader = EventReader::open(&run.folder)?;
    while let Some(mut stamped) = reader.next_event()? {
        stamped.at_ms += by_ms;
        match &mut stamped.event {
            Event::RunStarted { .. } | Event::RunPrepared { .. } | Event::RunEnded { .. } | Event::Covered(_) => {
                continue;
            }
            // Older engines kept it in the record alone.
            Event::CaseEnded { folder, faults: known, .. } => *known = known.or(faults.get(folder.as_str()).copied()),
            _ => {}
        }
        events.push(stamped);
    }
    if let Some(end) = &run.record.unfinished {
        for result in run.record.cases.iter().filter(|result| end.under_way.contains(&result.case)) {
            let Some(attempt) = result.attempts.last() else { continue };
            let event = Event::CaseEnded {
                case: result.case.clone(),
                attempt: u32::try_from(result.attempts.len()).unwrap_or(u32::MAX),
                outcome: attempt.outcome.clone(),
                duration_ms: attempt.duration_ms,
                last_words: Vec::new(),
                folder: attempt.folder.clone(),
                faults: attempt.faults,
            };
            events.push(Stamped { at_ms: end.last_event_ms + by_ms, event });
        }
    }
    Ok(events)
}

/// Returns the command line of a shard without `--shard`, which would have run the whole suite.
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

/// Copier of the files of a shard's attempts into the joined run.
struct Files<'a> {
    from: &'a Path,
    dir: &'a RunDir,
    later_ms: f64,
    /// Sentences about files that could not be copied, or not moved to the joined run's clock.
    notes: &'a mut Vec<String>,
}

impl Files<'_> {
    /// Copies a folder with all files in it. Links, and all that is neither file nor folder, are left out, since engines write none into
    /// a record.
    fn copy(&mut self, relative: &str) -> anyhow::Result<()> {
        if !Path::new(relative).components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("{relative} leads out of the run's folder");
        }
        self.dir.folder(relative)?;
        for entry in std::fs::read_dir(self.from.join(relative))? {
            let entry = entry?;
            let name = match entry.file_name().into_string() {
                Ok(name) if is_harmless_name(&name) => name,
                // A scenario's own programs name their files as they like.
                Ok(name) => {
                    self.notes.push(format!("{name:?} in {relative} was not copied: its name has hidden characters"));
                    continue;
                }
                Err(name) => {
                    self.notes.push(format!("{name:?} in {relative} was not copied: its name is not UTF-8"));
                    continue;
                }
            };
            let (kind, path) = (entry.file_type()?, format!("{relative}/{name}"));
            if kind.is_dir() {
                self.copy(&path)?;
            } else if kind.is_file() {
                self.copy_file(&name, &path).with_context(|| format!("copying {path}"))?;
            }
        }
        Ok(())
    }

    fn copy_file(&mut self, name: &str, path: &str) -> anyhow::Result<()> {
        if let Some(moved) = clock::mover(name) {
            let text = input::read_below(self.from, path, input::RECORD_BYTES_MAX).map_err(anyhow::Error::new);
            match text.and_then(|bytes| Ok(String::from_utf8(bytes)?)).and_then(|text| moved(&text, self.later_ms)) {
                Ok(text) => return self.dir.write(path, text.as_bytes()),
                // It costs the part of a report that it belongs to, not the whole.
                Err(error) => self.notes.push(format!("{path} is damaged, and is copied as it is: {error:#}")),
            }
        }
        Ok(std::io::copy(&mut input::open_below(self.from, path)?, &mut self.dir.file(path)?).map(drop)?)
    }
}
