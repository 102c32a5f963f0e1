//! The catalogue: every fault, an example of it, what it needs, and the effect it has.

use std::time::Duration;

use e2e_contract::Fault;

use super::effect::Effect;
use super::{cpu, crashloop, disk, fd, file, memory, net, node, pids, process, service};
use crate::manifest::{Init, Template, VolumeKind};

/// A row of the catalogue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// With parameters that show something on a small machine.
    pub example: Fault,
    /// What it needs of its container.
    pub needs: Needs,
    /// How many machines the lab needs for it to be seen.
    pub machines: usize,
    /// What a shell starts in the container beforehand, for what is done to running programs.
    pub subject: Option<&'static str>,
}

/// What a fault needs of the container that it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// That it runs.
    Nothing,
    /// A volume.
    Volume,
    /// A volume that is a file system of its own on a block device.
    Ext4Volume,
    /// systemd as its init.
    Systemd,
}

impl Needs {
    /// Whether a container of this template has it.
    #[must_use]
    pub fn are_met_by(self, template: &Template) -> bool {
        match self {
            Self::Nothing => true,
            Self::Volume => !template.volumes.is_empty(),
            Self::Ext4Volume => template.volumes.iter().any(|volume| volume.kind == VolumeKind::Ext4),
            Self::Systemd => matches!(template.init, Init::Systemd),
        }
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::Volume => "a volume",
            Self::Ext4Volume => "an ext4 volume",
            Self::Systemd => "systemd",
        })
    }
}

impl Entry {
    fn new(example: Fault) -> Self {
        Self { example, needs: Needs::Nothing, machines: 2, subject: None }
    }

    fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    fn subject(self, subject: &'static str) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// Whether this host can do it.
    ///
    /// # Errors
    /// What is missing, and the cure.
    pub fn supported(&self) -> anyhow::Result<()> {
        effect_of(&self.example)?.supported()
    }
}

/// All faults, family by family.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let command = || "sleep 1234".to_owned();
    let sleepers = "sleep 1234 & sleep 1234 &";
    // Where there is no such program, another one is meant.
    let supervised = "cp /bin/busybox /root/tail || exit 0
        while :; do /root/tail -f /dev/null; sleep 0.02; done &
        until pidof tail; do :; done";
    let volume = || "/data".to_owned();
    let hostname = || "/etc/hostname".to_owned();
    vec![
        Entry::new(Fault::NodeKill),
        Entry::new(Fault::NodeStop { grace_ms: 1000 }),
        Entry::new(Fault::NodeFreeze),
        Entry::new(Fault::NodeRestartStorm { times: 3, up_ms: 100 }),
        Entry::new(Fault::ProcessKill { command: command() }).subject(sleepers),
        Entry::new(Fault::ProcessPause { command: command() }).subject(sleepers),
        Entry::new(Fault::ProcessCrashloop { program: "/root/tail".into() }).subject(supervised),
        Entry::new(Fault::ServiceStop { unit: "ssh.service".into() }).needs(Needs::Systemd),
        Entry::new(Fault::NetIsolate),
        Entry::new(Fault::NetDelay { delay_ms: 50, jitter_ms: 5, reorder_percent: 0 }),
        Entry::new(Fault::NetRate { kilobits_per_second: 10_000 }),
        Entry::new(Fault::DiskFull { path: volume(), free_bytes: 0 }).needs(Needs::Volume),
        Entry::new(Fault::FileBitflip { path: hostname(), offset: 0, bit: 0 }),
        Entry::new(Fault::FileTruncate { path: hostname(), size_bytes: 1 }),
        Entry::new(Fault::MemoryLimit { bytes: 32 << 20 }),
        Entry::new(Fault::MemoryPressure { bytes: 32 << 20 }),
        Entry::new(Fault::MemoryOom),
        Entry::new(Fault::CpuQuota { percent: 20 }),
        Entry::new(Fault::CpuPin { cpus: "0".into() }),
        Entry::new(Fault::CpuBurn { processes: 2 }),
        Entry::new(Fault::PidsCap { free: 0 }),
        Entry::new(Fault::FdCap { command: command(), free: 0 }).subject(sleepers),
    ]
}

/// The effect of a fault, not begun yet.
///
/// # Errors
/// None for what the catalogue has.
pub(super) fn effect_of(fault: &Fault) -> anyhow::Result<Box<dyn Effect>> {
    Ok(match fault {
        Fault::NodeKill => Box::new(node::Down::kill()),
        Fault::NodeStop { grace_ms } => Box::new(node::Down::stop(Duration::from_millis(*grace_ms))),
        Fault::NodeFreeze => Box::new(node::Freeze),
        Fault::ProcessKill { command } => Box::new(process::Kill::new(command)),
        Fault::ServiceStop { unit } => Box::new(service::Stop::new(unit)),
        Fault::NetIsolate => Box::new(net::Isolate::default()),
        Fault::NetRate { kilobits_per_second } => Box::new(net::Rate::new(*kilobits_per_second)),
        Fault::NetDelay { delay_ms, jitter_ms, .. } => Box::new(net::Delay::new(*delay_ms, *jitter_ms)),
        Fault::DiskFull { path, free_bytes } => Box::new(disk::Full::new(path, *free_bytes)),
        Fault::FileBitflip { path, offset, bit } => Box::new(file::Damage::bitflip(path, *offset, *bit)),
        Fault::FileTruncate { path, size_bytes } => Box::new(file::Damage::truncate(path, *size_bytes)),
        Fault::CpuQuota { percent } => Box::new(cpu::Quota::new(*percent)),
        Fault::CpuPin { cpus } => Box::new(cpu::Pin::new(cpus)),
        Fault::CpuBurn { processes } => Box::new(cpu::Burn::new(*processes)),
        Fault::MemoryLimit { bytes } => Box::new(memory::Limit::new(*bytes)),
        Fault::MemoryPressure { bytes } => Box::new(memory::Pressure::new(*bytes)),
        Fault::MemoryOom => Box::new(memory::OutOfMemory::new()),
        Fault::NodeRestartStorm { times, up_ms } => Box::new(node::RestartStorm::new(*times, *up_ms)),
        Fault::ProcessPause { command } => Box::new(process::Pause::new(command)),
        Fault::ProcessCrashloop { program } => Box::new(crashloop::Crashloop::new(program)),
        Fault::FdCap { command, free } => Box::new(fd::Cap::new(command, *free)),
        Fault::PidsCap { free } => Box::new(pids::Cap::new(*free)),
        other => anyhow::bail!("{} is not built yet", other.name()),
    })
}
