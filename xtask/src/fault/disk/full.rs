//! Fault that leaves no room on a volume.

use anyhow::bail;

use super::fill_disk;
use super::volume::{PROBE_BYTES, Volume};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::host::undo::Undo;

const FILLER: &str = ".e2e-filler";

/// Fault that fills a volume until `free_bytes` are left (`disk.full`).
pub struct Full {
    path: String,
    free_bytes: u64,
    volume: Option<Volume>,
}

impl Full {
    pub fn new(path: &str, free_bytes: u64) -> Self {
        Self { path: path.to_owned(), free_bytes, volume: None }
    }
}

impl Effect for Full {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let volume = Volume::of("disk.full", &self.path, target)?;
        match volume.write(target, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => Err(usage(format!(
                "disk.full: nothing can be written to {} even without the fault: {said}",
                volume.inside
            ))),
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let volume = Volume::of("disk.full", &self.path, target)?;
        // By the guard's mount of the volume: the way to it inside is the container's, which may have put links there.
        let top = volume.top();
        if top.join(FILLER).exists() {
            return Err(usage(format!(
                "disk.full: a fault fills {} of {} already: heal that fault first",
                volume.inside,
                target.name()
            )));
        }
        target.lab.guard().note(vec![Undo::RemoveTree { path: volume.dir.join(FILLER) }])?;
        self.volume = Some(volume);
        fill_disk::fill(&top.join(FILLER), self.free_bytes)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        let bytes = self.free_bytes + PROBE_BYTES;
        match volume.write(target, bytes)? {
            Ok(()) => bail!("{bytes} bytes could still be written to {}", volume.inside),
            Err(said) => match said.lines().find(|line| line.contains("No space left")) {
                Some(line) => Ok(line.to_owned()),
                None => bail!("writing failed, but not for want of space: {said}"),
            },
        }
    }

    /// Verifies the effect again before healing. Somebody in the container may have removed files, so that there is room again.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        let bytes = self.free_bytes + PROBE_BYTES;
        Ok(match volume.write(target, bytes)? {
            Ok(()) => Lasted::lost(Keeper::Container, format!("{bytes} bytes could be written to {}", volume.inside)),
            Err(said) => match said.lines().find(|line| line.contains("No space left")) {
                Some(line) => Lasted::until_now(line),
                None => Lasted::not_seen(format!("writing failed, but not for want of space: {said}")),
            },
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match &self.volume {
            Some(volume) => target.lab.guard().undo(vec![Undo::RemoveTree { path: volume.dir.join(FILLER) }]),
            None => Ok(()),
        }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        match volume.write(target, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => bail!("{PROBE_BYTES} bytes still could not be written to {}: {said}", volume.inside),
        }
    }
}
