//! A volume has no room left.

use anyhow::bail;

use super::volume::{PROBE_BYTES, Volume};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::ballast;
use crate::host::undo::Undo;

const BALLAST: &str = ".e2e-ballast";

/// A volume without room.
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
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let volume = Volume::of("disk.full", &self.path, site)?;
        match volume.write(site, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => Err(usage(format!("disk.full: nothing can be written to {} as it is: {said}", volume.inside))),
        }
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let volume = Volume::of("disk.full", &self.path, site)?;
        // By the guard's mount of the volume: the way to it inside is the container's, which may have put links there.
        let top = volume.top();
        if top.join(BALLAST).exists() {
            return Err(usage(format!("disk.full: {} of {} is full already", volume.inside, site.name())));
        }
        site.note(vec![Undo::RemoveTree { path: volume.dir.join(BALLAST) }])?;
        self.volume = Some(volume);
        ballast::fill(&top.join(BALLAST), self.free_bytes)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        let bytes = self.free_bytes + PROBE_BYTES;
        match volume.write(site, bytes)? {
            Ok(()) => bail!("{bytes} bytes could still be written to {}", volume.inside),
            Err(said) => match said.lines().find(|line| line.contains("No space left")) {
                Some(line) => Ok(line.to_owned()),
                None => bail!("writing failed for another reason: {said}"),
            },
        }
    }

    /// Repeats the proof. Files that somebody in the container has removed have made room.
    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        let bytes = self.free_bytes + PROBE_BYTES;
        Ok(match volume.write(site, bytes)? {
            Ok(()) => Lasted::lost(Keeper::Container, format!("{bytes} bytes could be written to {}", volume.inside)),
            Err(said) => match said.lines().find(|line| line.contains("No space left")) {
                Some(line) => Lasted::until_now(line),
                None => Lasted::not_seen(format!("writing failed for another reason: {said}")),
            },
        })
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        match &self.volume {
            Some(volume) => site.undo(vec![Undo::RemoveTree { path: volume.dir.join(BALLAST) }]),
            None => Ok(()),
        }
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        match volume.write(site, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => bail!("{PROBE_BYTES} bytes could not be written to {}: {said}", volume.inside),
        }
    }
}
