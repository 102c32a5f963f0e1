//! Volume that a path in a container lies on: its mount points, and what a program in the container can write there.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::fault::effect::FaultTarget;
use crate::fault::effect::usage;
use crate::host::disk::ext4::LoopDevice;
use crate::host::disk::mountns::MountNamespace;
use crate::manifest::VolumeKind;

/// Name of the file that programs in the container write to test a volume.
pub const PROBE: &str = ".e2e-probe";

/// Number of bytes that an undamaged volume has to accept.
pub const PROBE_BYTES: u64 = 64 << 10;

/// A volume of the container's template.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Mount point in the container.
    pub inside: String,
    /// Mount point in the guard's mount namespace.
    pub dir: PathBuf,
    /// Path of the volume's image in the guard's mount namespace; a tmpfs has no such file.
    pub image: PathBuf,
    pub kind: VolumeKind,
    guard: i32,
}

impl Volume {
    /// Finds the volume that a path in the container lies on; the error names the volumes that there are.
    pub fn of(fault: &str, path: &str, target: &FaultTarget<'_>) -> anyhow::Result<Self> {
        let volumes = &target.container.machine().template.volumes;
        let holds =
            |volume: &str| path.strip_prefix(volume).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let found = volumes.iter().enumerate().find(|(_, volume)| holds(&volume.path));
        let Some((index, volume)) = found else {
            let known: Vec<&str> = volumes.iter().map(|volume| volume.path.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(usage(format!(
                "{fault}: {path} of {} lies on no volume; the volumes of its template: {known}",
                target.name()
            )));
        };
        Ok(Self {
            inside: volume.path.clone(),
            dir: target.container.volume_dir(index),
            image: target.container.volume_image(index),
            kind: volume.kind,
            guard: target.lab.guard().pid().context("the lab's guard is gone")?,
        })
    }

    /// Like [`Volume::of`]; fails where the volume lies in memory.
    pub fn on_device(fault: &str, path: &str, target: &FaultTarget<'_>) -> anyhow::Result<Self> {
        let volume = Self::of(fault, path, target)?;
        match volume.kind {
            VolumeKind::Ext4 => Ok(volume),
            VolumeKind::Tmpfs => {
                let message = format!(
                    "{fault}: the volume {} of {} lies in memory: choose one whose `kind` is \"ext4\"",
                    volume.inside,
                    target.name()
                );
                Err(usage(message))
            }
        }
    }

    /// Returns the path by which the engine opens the volume's root, whether the container runs or not.
    pub fn top(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.guard)).join(self.dir.strip_prefix("/").unwrap_or(&self.dir))
    }

    pub fn mounts(&self) -> anyhow::Result<MountNamespace> {
        MountNamespace::of_guard(self.guard)
    }

    pub fn device(&self) -> anyhow::Result<LoopDevice> {
        LoopDevice::below(&self.top(), &self.image)
    }

    /// Path in the container of the file that tests the volume.
    pub fn probe(&self) -> String {
        format!("{}/{PROBE}", self.inside)
    }

    /// Has a program in the container write this many bytes to the volume; the inner error is the program's output.
    pub fn write(&self, target: &FaultTarget<'_>, bytes: u64) -> anyhow::Result<Result<(), String>> {
        const SCRIPT: &str = r#"dd if=/dev/zero of="$1" bs=4096 count="$2"; status=$?; rm -f "$1"; exit $status"#;
        let blocks = bytes.div_ceil(4096).to_string();
        let output = target.exec(&["/bin/sh", "-c", SCRIPT, "probe", &self.probe(), &blocks])?;
        Ok(if output.status == 0 && !output.timed_out { Ok(()) } else { Err(output.tail()) })
    }
}

/// Returns the first line of a program's output that contains one of `pieces`.
pub fn line_with<'a>(said: &'a str, pieces: &[&str]) -> Option<&'a str> {
    said.lines().find(|line| pieces.iter().any(|piece| line.contains(piece)))
}
