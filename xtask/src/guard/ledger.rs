//! The undo steps of a slot, on disk before the thing is made.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use anyhow::Context as _;

use super::slot::Slot;
use crate::host::undo::Undo;

/// The steps, in the order they were written.
#[derive(Debug)]
pub(super) struct Ledger {
    slot: Slot,
    file: File,
    steps: Vec<Undo>,
}

impl Ledger {
    /// Opens the slot's ledger, with what an earlier holder may have left in it.
    pub fn open(slot: &Slot) -> anyhow::Result<Self> {
        let path = slot.ledger_path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // The last line may be half written: its thing was then never made.
        let steps = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening the ledger {}", path.display()))?;
        Ok(Self { slot: slot.clone(), file, steps })
    }

    /// Writes a step down. Ledgers lie on tmpfs: they outlive a killed process, and nothing on the host outlives a
    /// restart that they would have to undo.
    pub fn write(&mut self, step: Undo) -> anyhow::Result<()> {
        // Written again, it is undone before everything made since: a cgroup is killed before its mounts go.
        self.steps.retain(|known| *known != step);
        let mut line = serde_json::to_string(&step)?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).context("writing the ledger")?;
        self.steps.push(step);
        Ok(())
    }

    /// Executes steps now and strikes them out. One that fails stays, and those after it are not tried.
    pub fn undo(&mut self, steps: &[Undo], mut reap: impl FnMut()) -> anyhow::Result<()> {
        for step in steps {
            step.execute(&mut reap)?;
            self.steps.retain(|known| known != step);
        }
        self.rewrite()
    }

    /// Executes all steps, last first, and goes on past each failure. What failed stays in the ledger.
    pub fn undo_all(&mut self, mut reap: impl FnMut()) -> Vec<String> {
        let mut left = Vec::new();
        let mut failures = Vec::new();
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            if let Err(error) = step.execute(&mut reap) {
                failures.push(format!("{error:#}"));
                left.insert(0, step);
            }
        }
        self.steps = left;
        failures.extend(self.rewrite().err().map(|error| format!("{error:#}")));
        failures
    }

    /// Makes the file say what is still to be undone, by one rename: a reader finds the old steps or the new ones.
    fn rewrite(&mut self) -> anyhow::Result<()> {
        let (path, new) = (self.slot.ledger_path(), self.slot.ledger_path().with_extension("new"));
        let lines = self.steps.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let context = || format!("rewriting the ledger of slot {}", self.slot.name());
        std::fs::write(&new, text).with_context(context)?;
        std::fs::rename(&new, &path).with_context(context)?;
        self.file = OpenOptions::new().append(true).open(&path).with_context(context)?;
        Ok(())
    }
}
