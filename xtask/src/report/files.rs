//! The reports in a run's folder, made from the run's record on the disk once the run is over.

use anyhow::Context as _;

use super::{html, junit, summary, trace};
use crate::record::{PastRun, RunDir, RunEvents};

type Make = fn(&PastRun, &RunEvents) -> anyhow::Result<String>;

/// Reports of a run: the name of each one's file, and the function that makes its text.
const REPORTS: [(&str, Make); 4] =
    [(html::FILE, html::page), ("junit.xml", junit::make), ("summary.md", summary::make), ("trace.json", trace::make)];

/// Returns the names of the reports' files.
pub fn names() -> impl Iterator<Item = &'static str> {
    REPORTS.iter().map(|(name, _)| *name)
}

/// Writes every report of a run into its folder; returns a line with the reason for each that could not be written. Reading the
/// record and writing are done with the rights of the folder's owner, so that a symbolic link among the logs gives access to
/// nothing that the owner cannot read.
#[must_use]
pub fn write_all(run: &PastRun, dir: &RunDir) -> Vec<String> {
    let written = dir.act(|| {
        let events = run.events()?;
        let write = |(name, make): &(&str, Make)| -> anyhow::Result<()> {
            let text = make(run, &events).with_context(|| format!("making {name} of {}", run.record.run_id))?;
            dir.write(name, text.as_bytes())
        };
        Ok(REPORTS.iter().filter_map(|report| write(report).err()).map(|error| format!("{error:#}")).collect())
    });
    written.unwrap_or_else(|error| vec![format!("no report of {} can be made: {error:#}", run.record.run_id)])
}
