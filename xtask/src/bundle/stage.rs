//! Record of a run without its secrets, in a temporary folder: events, logs and artifacts are redacted, and files that are generated from
//! events are generated anew, so that all files agree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;

use super::contents::Item;
use super::manifest::Redaction;
use super::redaction::{Counts, Redactor};
use crate::host::invoker::Invoker;
use crate::record::{EventReader, PastRun, RUNS_FOLDER, human};

/// File with the text of all events for people.
const LOG_FILE: &str = "e2e_test.log";

/// Reports that are made from a record.
pub struct Reports<'a> {
    /// File names of the reports, in the run's folder.
    pub names: &'a [&'a str],
    /// Function that writes the reports into the folder of a run; returns the reports that could not be made, with the reasons.
    pub make: &'a dyn Fn(&PastRun) -> Vec<String>,
}

impl std::fmt::Debug for Reports<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Record of a run without its secrets, in a temporary folder that is removed on drop.
#[derive(Debug)]
pub struct Stage {
    /// Files of the redacted record, to be packed into the archive.
    pub items: Vec<Item>,
    /// Secrets that were removed from the record.
    pub redactions: Vec<Redaction>,
    /// Files that were left out, with the reasons.
    pub left_out: Vec<String>,
    /// Files that were not searched for secrets, because they are compressed.
    pub unsearched: Vec<String>,
    /// Redactor that knows all secrets that were found in the record.
    pub redactor: Redactor,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Redacts the files of a run's record, in a temporary folder next to the file `beside`.
    pub fn make(
        run: &PastRun,
        record: &[Item],
        redactor: Redactor,
        beside: &Path,
        reports: &Reports<'_>,
        invoker: &Invoker,
    ) -> anyhow::Result<Self> {
        let above = beside.parent().unwrap_or(Path::new("."));
        let folder = invoker
            .act(|| Ok(tempfile::Builder::new().prefix(".bundle-").tempdir_in(above)?))
            .with_context(|| format!("creating a temporary folder in {}", above.display()))?;
        let top = folder.path().join(RUNS_FOLDER).join(&run.record.run_id);
        invoker.act(|| Ok(std::fs::create_dir_all(&top)?)).context("creating a folder for the redacted record")?;
        let is_made = |name: &str| reports.names.contains(&name) || name == LOG_FILE;
        let (mut left_out, mut named) = (Vec::new(), Vec::new());
        for item in record {
            let Ok(below) = item.from.strip_prefix(&run.folder) else { continue };
            let Some(below) = below.to_str() else { continue };
            if is_made(below) {
                continue;
            }
            if below.ends_with(".html") && !below.contains('/') {
                left_out
                    .push(format!("{}: it was made from two records; `report --compare` makes it again", item.path));
                continue;
            }
            named.push((item, below));
        }
        // What is a secret in one place is none less in another.
        let mut found = BTreeSet::new();
        for (item, below) in &named {
            found.extend(redactor.file(below, &invoker.read(&item.from)?).found);
        }
        let redactor = redactor.knowing(&found)?;
        let mut stage = Self {
            items: Vec::new(),
            redactions: Vec::new(),
            left_out,
            unsearched: Vec::new(),
            redactor,
            _folder: folder,
        };
        let mut names = BTreeSet::new();
        for (item, below) in named {
            stage.add(item, below, &top, &mut names, invoker)?;
        }
        stage.make_log(&top, record, run, invoker)?;
        stage.make_reports(&top, reports, record, run)?;
        stage.find_items(&top, record, run)?;
        Ok(stage)
    }

    fn add(
        &mut self,
        item: &Item,
        below: &str,
        top: &Path,
        names: &mut BTreeSet<String>,
        invoker: &Invoker,
    ) -> anyhow::Result<()> {
        let content = invoker.read(&item.from)?;
        let (name, counts) = self.redactor.piece(below);
        let name = (1_u32..)
            .map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") })
            .find(|name| !names.contains(name))
            .context("finding an unused name for a redacted file")?;
        names.insert(name.clone());
        self.count(&name, item, below, counts);
        if Redactor::is_packed(&name, &content) {
            self.unsearched.push(path_of(item, below, &name));
        }
        let redacted = self.redactor.file(below, &content);
        self.count(&name, item, below, redacted.counts);
        write(top, &name, &redacted.content, invoker)
    }

    fn count(&mut self, name: &str, item: &Item, below: &str, counts: Counts) {
        let path = path_of(item, below, name);
        self.redactions.extend(counts.into_iter().map(|(kind, count)| Redaction { path: path.clone(), kind, count }));
    }

    /// Writes `e2e_test.log` anew from the redacted events; if the record has no events, redacts the existing log.
    fn make_log(&mut self, top: &Path, record: &[Item], run: &PastRun, invoker: &Invoker) -> anyhow::Result<()> {
        let from = run.folder.join(LOG_FILE);
        let Some(item) = record.iter().find(|item| item.from == from) else { return Ok(()) };
        let mut reader = EventReader::open(top)?;
        if reader.is_missing() {
            let content = invoker.read(&from)?;
            let redacted = self.redactor.file(LOG_FILE, &content);
            self.count(LOG_FILE, item, LOG_FILE, redacted.counts);
            return write(top, LOG_FILE, &redacted.content, invoker);
        }
        let mut text = String::new();
        while let Some(stamped) = reader.next_event()? {
            text.push_str(&human::log_text(&stamped));
        }
        // A value of an event stands in a sentence here, where it may have a shape that it had not alone.
        let redacted = self.redactor.file(LOG_FILE, text.as_bytes());
        self.count(LOG_FILE, item, LOG_FILE, redacted.counts);
        write(top, LOG_FILE, &redacted.content, invoker)
    }

    fn make_reports(
        &mut self,
        top: &Path,
        reports: &Reports<'_>,
        record: &[Item],
        run: &PastRun,
    ) -> anyhow::Result<()> {
        let had = |name: &&&str| record.iter().any(|item| item.from == run.folder.join(**name));
        let had: Vec<&str> = reports.names.iter().filter(had).copied().collect();
        if had.is_empty() {
            return Ok(());
        }
        self.left_out.extend((reports.make)(&PastRun::read(top.to_owned())?));
        for name in reports.names.iter().filter(|name| !had.contains(name)) {
            let _ = std::fs::remove_file(top.join(name)); // it was not there before
        }
        Ok(())
    }

    fn find_items(&mut self, top: &Path, record: &[Item], run: &PastRun) -> anyhow::Result<()> {
        // All of a record lies in one folder of the archive.
        let Some(item) = record.first() else { return Ok(()) };
        let below = item.from.strip_prefix(&run.folder).unwrap_or(&item.from).display().to_string();
        for entry in walkdir::WalkDir::new(top).sort_by_file_name() {
            let entry = entry.with_context(|| format!("reading {}", top.display()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let name =
                entry.path().strip_prefix(top)?.to_str().context("a file name in the redacted record is not UTF-8")?;
            self.items.push(Item { from: entry.path().to_owned(), path: path_of(item, &below, name), link: None });
        }
        Ok(())
    }
}

/// Returns the path in the archive of a file of the record, whose path below the run's folder was `below` and is `name` after redaction.
fn path_of(item: &Item, below: &str, name: &str) -> String {
    let folder = item.path.strip_suffix(below).unwrap_or_default();
    format!("{folder}{name}")
}

fn write(top: &Path, name: &str, content: &[u8], invoker: &Invoker) -> anyhow::Result<()> {
    let path = top.join(name);
    let write = || -> anyhow::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(top))?;
        Ok(std::fs::write(&path, content)?)
    };
    invoker.act(write).with_context(|| format!("writing {}", path.display()))
}
