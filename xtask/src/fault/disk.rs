//! Volumes. A container's other files lie on memory of the host: no fault touches them.

use std::path::PathBuf;

use anyhow::bail;

use super::effect::{Effect, Site};
use super::injection::usage;
use crate::host::ballast;
use crate::host::undo::Undo;

const BALLAST: &str = ".e2e-ballast";
const PROBE: &str = ".e2e-probe";

/// How much a healed volume has to take.
const PROBE_BYTES: u64 = 64 << 10;

/// A volume without room.
pub struct Full {
    path: String,
    free_bytes: u64,
    volume: Option<Volume>,
}

#[derive(Clone)]
struct Volume {
    /// In the container.
    inside: String,
    /// In the guard's mount namespace.
    ballast: PathBuf,
}

impl Full {
    pub fn new(path: &str, free_bytes: u64) -> Self {
        Self { path: path.to_owned(), free_bytes, volume: None }
    }

    fn volume(&self, site: &Site<'_>) -> anyhow::Result<Volume> {
        let volumes = &site.container.machine().template.volumes;
        let holds =
            |volume: &str| self.path.strip_prefix(volume).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let found = volumes.iter().enumerate().find(|(_, volume)| holds(&volume.path));
        let Some((index, volume)) = found else {
            let known: Vec<&str> = volumes.iter().map(|volume| volume.path.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("disk.full: {} of {} lies on no volume; it has: {known}", self.path, site.name());
            return Err(usage(message));
        };
        Ok(Volume { inside: volume.path.clone(), ballast: site.container.volume_dir(index).join(BALLAST) })
    }

    /// Tries to write this much more in the container; says what came of it.
    fn try_to_write(site: &Site<'_>, volume: &Volume, bytes: u64) -> anyhow::Result<Result<(), String>> {
        let script = r#"dd if=/dev/zero of="$1" bs=4096 count="$2"; status=$?; rm -f "$1"; exit $status"#;
        let probe = format!("{}/{PROBE}", volume.inside);
        let output = site.exec(&["/bin/sh", "-c", script, "probe", &probe, &bytes.div_ceil(4096).to_string()])?;
        Ok(if output.status == 0 && !output.timed_out { Ok(()) } else { Err(output.tail()) })
    }
}

impl Effect for Full {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let volume = self.volume(site)?;
        match Self::try_to_write(site, &volume, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => Err(usage(format!("disk.full: nothing can be written to {} as it is: {said}", volume.inside))),
        }
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let volume = self.volume(site)?;
        let top = site.container.root()?.join(volume.inside.trim_start_matches('/'));
        if top.join(BALLAST).exists() {
            return Err(usage(format!("disk.full: {} of {} is full already", volume.inside, site.name())));
        }
        site.note(vec![Undo::RemoveTree { path: volume.ballast.clone() }])?;
        self.volume = Some(volume);
        ballast::fill(&top.join(BALLAST), self.free_bytes)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("it was not injected") };
        let bytes = self.free_bytes + PROBE_BYTES;
        match Self::try_to_write(site, volume, bytes)? {
            Ok(()) => bail!("{bytes} bytes could still be written to {}", volume.inside),
            Err(said) => match said.lines().find(|line| line.contains("No space left")) {
                Some(line) => Ok(line.to_owned()),
                None => bail!("writing failed for another reason: {said}"),
            },
        }
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        match &self.volume {
            Some(volume) => site.undo(vec![Undo::RemoveTree { path: volume.ballast.clone() }]),
            None => Ok(()),
        }
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("it was not injected") };
        match Self::try_to_write(site, volume, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => bail!("{PROBE_BYTES} bytes could not be written to {}: {said}", volume.inside),
        }
    }
}
