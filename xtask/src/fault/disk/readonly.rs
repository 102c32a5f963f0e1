//! Fault that refuses writes to a volume: its mount in the container is read-only, for every process there.

use std::path::Path;

use anyhow::bail;
use nix::errno::Errno;

use super::volume::{PROBE_BYTES, Volume, line_with};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::host::disk::mountns::MountNamespace;
use crate::host::exec::process::open_for_writing;

/// Fault that makes a volume's mount read-only (`disk.readonly`).
pub struct Readonly {
    path: String,
    volume: Option<Volume>,
}

impl Readonly {
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), volume: None }
    }

    /// Returns every mount namespace of the container in which the volume is mounted at its place: services may have mount namespaces of
    /// their own.
    fn mounts(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<Vec<MountNamespace>> {
        let device = volume.mounts()?.device_of(&volume.dir)?;
        let all = MountNamespace::all_of(&target.container.pids());
        let has_it = |it: &MountNamespace| it.device_of(Path::new(&volume.inside)).is_ok_and(|found| found == device);
        Ok(all.into_iter().filter(has_it).collect())
    }

    fn forbid_writing(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<()> {
        let mounts = Self::mounts(target, volume)?;
        if mounts.is_empty() {
            return Err(usage(format!("disk.readonly: {} is not mounted in {}", volume.inside, target.name())));
        }
        for namespace in mounts {
            match namespace.forbid_writing(Path::new(&volume.inside)) {
                Err(error) if error.downcast_ref() == Some(&Errno::EBUSY) => return Err(busy(target, volume)),
                other => other?,
            }
        }
        Ok(())
    }
}

fn busy(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Error {
    let device = volume.mounts().and_then(|mounts| mounts.device_of(&volume.dir));
    let holders = device.map(|device| open_for_writing(&target.container.pids(), device)).unwrap_or_default();
    let who = holders.first().map_or_else(|| "a process".to_owned(), ToString::to_string);
    usage(format!(
        "disk.readonly: {} of {} cannot be made read-only: {who} has a file of the volume open for writing: stop that \
         process first, or use disk.fs-error",
        volume.inside,
        target.name()
    ))
}

impl Effect for Readonly {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let volume = Volume::of("disk.readonly", &self.path, target)?;
        match volume.write(target, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => Err(usage(format!(
                "disk.readonly: nothing can be written to {} even without the fault: {said}",
                volume.inside
            ))),
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let volume = Volume::of("disk.readonly", &self.path, target)?;
        // It goes with the container's namespace: nothing of it outlives the lab.
        self.volume = Some(volume.clone());
        Self::forbid_writing(target, &volume)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        match volume.write(target, PROBE_BYTES)? {
            Ok(()) => bail!("{PROBE_BYTES} bytes could still be written to {}", volume.inside),
            Err(said) => match line_with(&said, &["Read-only file system"]) {
                Some(line) => Ok(line.to_owned()),
                None => bail!("writing failed, but not because the volume is read-only: {said}"),
            },
        }
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        Ok(match volume.write(target, PROBE_BYTES)? {
            Ok(()) => {
                let instead = format!("{PROBE_BYTES} bytes could be written to {}", volume.inside);
                Lasted::lost(Keeper::Container, instead)
            }
            Err(said) => match line_with(&said, &["Read-only file system"]) {
                Some(line) => Lasted::until_now(line),
                None => Lasted::not_seen(format!("writing failed, but not because the volume is read-only: {said}")),
            },
        })
    }

    /// Makes the mount writable in each namespace that exists now. Root in the container may have done that already.
    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some(volume) = &self.volume else { return Ok(()) };
        if target.container.outage().is_some_and(|outage| !outage.frozen) {
            return Ok(()); // when it is started again, the mount is new
        }
        for namespace in Self::mounts(target, volume)? {
            namespace.allow_writing(Path::new(&volume.inside))?;
        }
        Ok(())
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing keeps it from writing to {} any more", volume.inside));
        }
        match volume.write(target, PROBE_BYTES)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {}", volume.inside)),
            Err(said) => bail!("{PROBE_BYTES} bytes still could not be written to {}: {said}", volume.inside),
        }
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match &self.volume {
            Some(volume) => Self::forbid_writing(target, volume),
            None => Ok(()),
        }
    }
}
