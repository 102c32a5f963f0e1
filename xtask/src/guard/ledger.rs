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
        let text: String =
            left.iter().filter_map(|step| serde_json::to_string(step).ok()).map(|line| line + "\n").collect();
        if let Err(error) = std::fs::write(self.slot.ledger_path(), text) {
            failures.push(format!("rewriting the ledger of slot {}: {error}", self.slot.name()));
        }
        self.steps = left;
        failures
    }
}
