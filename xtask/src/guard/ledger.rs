//! Ledger of a slot: undo steps, each in the file before the resource that it removes is made. The first line names the boot of the host.
//! Cgroups, mounts, loop devices, namespaces and processes of another boot are gone, and their names may be in use again, so a ledger of
//! another boot is not executed.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::slot::Slot;
use crate::host::crash_point;
use crate::host::disk::marked::boot_id;
use crate::host::undo::Undo;

/// First line of a ledger, which names the boot of the host.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    boot_id: String,
}

/// Ledger of a slot: undo steps in the order in which they were written.
#[derive(Debug)]
pub(super) struct Ledger {
    slot: Slot,
    file: File,
    steps: Vec<Undo>,
}

impl Ledger {
    /// Opens the slot's ledger, with the steps that an earlier holder left in it.
    pub fn open(slot: &Slot) -> anyhow::Result<Self> {
        let path = slot.ledger_path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let steps = steps_of(&text, &boot_id());
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening the ledger {}", path.display()))?;
        let mut ledger = Self { slot: slot.clone(), file, steps };
        ledger.rewrite()?;
        Ok(ledger)
    }

    /// Appends a step, without syncing the file: the ledger must survive a killed process, not a reset of the host. Folders on disks, which
    /// survive a reset, have a mark ([`crate::host::disk::marked`]).
    pub fn write(&mut self, step: Undo) -> anyhow::Result<()> {
        // Written again, it is undone before everything made since: a cgroup is killed before its mounts go.
        self.steps.retain(|known| *known != step);
        let mut line = serde_json::to_string(&step)?;
        line.push('\n');
        crash_point::reach("before", step.kind());
        self.file.write_all(line.as_bytes()).context("writing the ledger")?;
        crash_point::reach("noted", step.kind());
        self.steps.push(step);
        Ok(())
    }

    /// Executes steps now and removes them from the ledger. A step that fails stays, and the steps after it are not tried.
    pub fn undo(&mut self, steps: &[Undo], mut reap: impl FnMut()) -> anyhow::Result<()> {
        for step in steps {
            crash_point::reach("undoing", step.kind());
            step.execute(&mut reap)?;
            crash_point::reach("undone", step.kind());
            self.steps.retain(|known| known != step);
        }
        self.rewrite()
    }

    /// Executes all steps, last first, past failures; returns the failures. Failed steps stay in the ledger.
    pub fn undo_all(&mut self, mut reap: impl FnMut()) -> Vec<String> {
        let mut left = Vec::new();
        let mut failures = Vec::new();
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            crash_point::reach("undoing", step.kind());
            if let Err(error) = step.execute(&mut reap) {
                failures.push(format!("{error:#}"));
                left.insert(0, step);
                continue;
            }
            crash_point::reach("undone", step.kind());
        }
        self.steps = left;
        failures.extend(self.rewrite().err().map(|error| format!("{error:#}")));
        failures
    }

    /// Replaces the file by one with the remaining steps, in one rename: a reader finds the old steps or the new ones.
    fn rewrite(&mut self) -> anyhow::Result<()> {
        let path = self.slot.ledger_path();
        let header = serde_json::to_string(&Header { boot_id: boot_id() });
        let lines = self.steps.iter().map(serde_json::to_string);
        let lines = std::iter::once(header).chain(lines).collect::<Result<Vec<_>, _>>()?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let context = || format!("rewriting the ledger of slot {}", self.slot.name());
        let new = self.slot.write("ledger.new", text.as_bytes()).with_context(context)?;
        crash_point::reach("ledger aside", "");
        std::fs::rename(&new, &path).with_context(context)?;
        self.file = OpenOptions::new().append(true).open(&path).with_context(context)?;
        Ok(())
    }
}

/// Parses the steps of a ledger's text; returns none if they were written in another boot of the host.
fn steps_of(text: &str, boot_id: &str) -> Vec<Undo> {
    let Some((first, rest)) = text.split_once('\n') else { return Vec::new() };
    match serde_json::from_str::<Header>(first) {
        // The last line may be half written: its thing was then never made.
        Ok(header) if header.boot_id == boot_id => {
            rest.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        }
        // Of another boot, cut off by a reset, or of an earlier build: nobody knows of which boot.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_of_another_boot_has_no_steps() {
        let step = r#"{"kill_cgroup":{"name":"mancer-e2e-9"}}"#;
        for (text, expected) in [
            (format!("{{\"boot_id\":\"this\"}}\n{step}\n{step}\n"), 2),
            (format!("{{\"boot_id\":\"this\"}}\n{step}\n{{\"kill_cg"), 1),
            (format!("{{\"boot_id\":\"other\"}}\n{step}\n"), 0),
            (format!("{{\"boot_id\":\"oth\n{step}\n"), 0),
            (format!("{step}\n{step}\n"), 0),
            (String::new(), 0),
        ] {
            assert_eq!(steps_of(&text, "this").len(), expected, "{text}");
        }
    }
}
