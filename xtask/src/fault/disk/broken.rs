//! Faults of a volume's file system: it refuses writes after an error, or its device is gone.

use std::fs;
use std::path::Path;

use anyhow::bail;

use super::volume::{PROBE, PROBE_BYTES, Volume, line_with};
use crate::error::Error;
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::guard::Make;
use crate::host::disk::ext4;
use crate::host::disk::mountns::MountNamespace;
use crate::host::exec::shell::which;

/// Fault that stops a volume's file system, which has to be mounted anew afterwards (`disk.fs-error`, `disk.dead`).
pub struct Broken {
    path: String,
    kind: Kind,
    volume: Option<Volume>,
    is_mended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The file system has met an error, and refuses writes.
    Error,
    /// The device is gone, so that reads fail too.
    Dead,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "disk.fs-error",
            Self::Dead => "disk.dead",
        }
    }

    /// Possible error messages of a write to the broken file system.
    fn refusals(self) -> &'static [&'static str] {
        match self {
            Self::Error => &["Read-only file system", "Input/output error", "Structure needs cleaning"],
            Self::Dead => &["Input/output error"],
        }
    }
}

impl Broken {
    pub fn fs_error(path: &str) -> Self {
        Self { path: path.to_owned(), kind: Kind::Error, volume: None, is_mended: false }
    }

    pub fn dead(path: &str) -> Self {
        Self { kind: Kind::Dead, ..Self::fs_error(path) }
    }

    /// Has a program in the container write a file to the volume, and read it past the page cache; the inner error is the program's output.
    fn write_and_read(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<Result<(), String>> {
        const SCRIPT: &str =
            r#"dd if=/dev/zero of="$1" bs=4096 count="$2" conv=fsync && dd if="$1" of=/dev/null bs=4096 iflag=direct"#;
        let blocks = (PROBE_BYTES / 4096).to_string();
        let output = target.exec(&["/bin/sh", "-c", SCRIPT, "probe", &volume.probe(), &blocks])?;
        Ok(if output.status == 0 && !output.timed_out { Ok(()) } else { Err(output.tail()) })
    }

    /// Has a program read the file that was on the volume before the fault; the inner error is the program's output.
    fn read(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<Result<(), String>> {
        let output = target.exec(&["cat", &volume.probe()])?;
        Ok(if output.status == 0 && !output.timed_out { Ok(()) } else { Err(output.tail()) })
    }

    /// Mounts the healed volume in every mount namespace of the container that still shows the broken file system. A file that a process
    /// has open stays on the broken file system: every use of it keeps failing.
    fn show_anew(target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<()> {
        let guard = volume.mounts()?;
        let device = guard.device_of(&volume.dir)?;
        let inside = Path::new(&volume.inside);
        for namespace in MountNamespace::all_of(&target.container.pids()) {
            // A service may have left the volume out of its own namespace.
            if namespace.device_of(inside).is_ok_and(|found| found != device) {
                guard.show_in(&volume.dir, &namespace, inside)?;
            }
        }
        Ok(())
    }
}

impl Effect for Broken {
    fn supported(&self) -> anyhow::Result<()> {
        if which("e2fsck").is_some() {
            return Ok(());
        }
        let problem = format!("{}: e2fsck is not installed on this host", self.kind.name());
        Err(Error::Host { problem, help: "`cargo xtask setup` installs e2fsprogs".into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let volume = Volume::on_device(self.kind.name(), &self.path, target)?;
        match Self::write_and_read(target, &volume)? {
            Ok(()) => Ok(format!("{PROBE_BYTES} bytes were written to {} and read", volume.inside)),
            Err(said) => {
                let message = format!(
                    "{}: writing to {} and reading it back fails even without the fault: {said}",
                    self.kind.name(),
                    volume.inside
                );
                Err(usage(message))
            }
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let volume = Volume::on_device(self.kind.name(), &self.path, target)?;
        let device = volume.device()?;
        // The image and all mounts of it go with the lab: nothing of it outlives that.
        self.volume = Some(volume.clone());
        match self.kind {
            Kind::Error => device.trigger_error(),
            Kind::Dead => ext4::shut_down(&volume.top()),
        }
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        let refused = |said: Result<(), String>, what: &str| match said {
            Ok(()) => bail!("{} can still be {what}", volume.inside),
            Err(said) => match line_with(&said, self.kind.refusals()) {
                Some(line) => Ok(line.to_owned()),
                None => {
                    bail!("writing to the volume or reading it failed, but not with the error of a broken disk: {said}")
                }
            },
        };
        let writing = refused(Self::write_and_read(target, volume)?, "written")?;
        match self.kind {
            Kind::Error => Ok(writing),
            Kind::Dead => Ok(format!("{}; {writing}", refused(Self::read(target, volume)?, "read")?)),
        }
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        Ok(match Self::write_and_read(target, volume)? {
            Ok(()) => {
                let instead = format!("{PROBE_BYTES} bytes were written to {} and read", volume.inside);
                Lasted::lost(Keeper::Host, instead)
            }
            Err(said) => match line_with(&said, self.kind.refusals()) {
                Some(line) => Lasted::until_now(line),
                None => Lasted::not_seen(format!(
                    "writing to the volume or reading it failed, but not with the error of a broken disk: {said}"
                )),
            },
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some(volume) = self.volume.as_ref().filter(|_| !self.is_mended) else { return Ok(()) };
        // What the kernel holds in memory of the old device must not be written over the new one's later.
        if let Ok(device) = volume.device() {
            device.flush();
        }
        let (image, path) = (volume.image.clone(), volume.dir.clone());
        target.lab.guard().make(vec![Make::Ext4Anew { image, path }])?;
        // From here on it is in use: a second check would be one of a living file system.
        self.is_mended = true;
        let _ = fs::remove_file(volume.top().join(PROBE)); // lost with the device, perhaps
        Self::show_anew(target, volume)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(volume) = &self.volume else { bail!("the fault was not injected") };
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; the file system of {} was repaired and mounted again", volume.inside));
        }
        match Self::write_and_read(target, volume)? {
            Ok(()) => {
                let _ = fs::remove_file(volume.top().join(PROBE));
                Ok(format!("{PROBE_BYTES} bytes were written to {} and read", volume.inside))
            }
            Err(said) => bail!("{} still cannot be written and read: {said}", volume.inside),
        }
    }
}
