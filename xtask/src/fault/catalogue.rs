//! The catalogue of all faults, each with an example, its needs, and a constructor of its effect.

use std::net::Ipv4Addr;
use std::time::Duration;

use e2e_contract::{Direction, Fault, Partition};

use super::effect::Effect;
use super::{clock, cpu, crashloop, disk, dns, fd, file, io, memory, net, node, pids, process, service};
use crate::error::Error;
use crate::host::disk::ext4;
use crate::manifest::{Init, Template, VolumeKind};

/// Fault of the catalogue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Example parameters whose effect shows even on a small machine.
    pub example: Fault,
    /// Requirements on the container.
    pub needs: Needs,
    /// Number of machines that a lab needs to show the effect.
    pub machines: usize,
    /// Shell command to start in the container beforehand, for faults of running programs.
    pub subject: Option<&'static str>,
}

/// Requirement of a fault on its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Running container, and nothing else.
    Nothing,
    Volume,
    /// Volume that is an ext4 file system on a block device.
    Ext4Volume,
    /// systemd as the container's init.
    Systemd,
}

impl Needs {
    /// Tells whether containers of this template meet the requirement.
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

    fn machines(self, machines: usize) -> Self {
        Self { machines, ..self }
    }

    fn subject(self, subject: &'static str) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// Fails with [`Error::Host`] where this host does not support the fault.
    pub fn supported(&self) -> anyhow::Result<()> {
        if self.needs == Needs::Ext4Volume
            && let Some(problem) = ext4::problem()
        {
            let problem = format!("{}: {problem}", self.example.name());
            let help =
                "a volume with `kind = \"tmpfs\"` is available everywhere, for the faults that need no disk".into();
            return Err(Error::Host { problem, help }.into());
        }
        effect_of(&self.example)?.supported()
    }

    /// Reason why this host does not support the fault, in one line; `None` where it does.
    #[must_use]
    pub fn not_applicable(&self) -> Option<String> {
        let error = format!("{:#}", self.supported().err()?);
        Some(error.lines().next().unwrap_or_default().to_owned())
    }
}

/// Returns the examples of all faults, family by family.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let command = || "sleep 1234".to_owned();
    let sleepers = "sleep 1234 & sleep 1234 &";
    // Where there is no such program, another one is meant.
    let supervised = "cp /bin/busybox /root/tail || exit 0
        while :; do /root/tail -f /dev/null; sleep 0.02; done &
        until pidof tail; do :; done";
    let syncer = || "if=/dev/zero of=/tmp/synced".to_owned();
    let syncing = "while sleep 0.02; do dd if=/dev/zero of=/tmp/synced bs=1 count=1 conv=fsync; done &";
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
        Entry::new(Fault::NetPartition { shape: Partition::Majority }).machines(4),
        Entry::new(Fault::NetOneway { lost: Direction::Inbound, peer: None }),
        Entry::new(Fault::NetFlap { down_ms: 200, up_ms: 300 }),
        Entry::new(Fault::NetDelay { delay_ms: 50, jitter_ms: 5, reorder_percent: 0 }),
        Entry::new(Fault::NetLoss { percent: 30 }),
        Entry::new(Fault::NetNthLoss { every: 3 }),
        Entry::new(Fault::NetDuplicate { percent: 30 }),
        Entry::new(Fault::NetCorrupt { percent: 30 }),
        Entry::new(Fault::NetStall),
        Entry::new(Fault::NetRate { kilobits_per_second: 10_000 }),
        Entry::new(Fault::NetMtuHole { bytes: 1000 }),
        Entry::new(Fault::NetReset { port: None }),
        Entry::new(Fault::NetPortBlock { port: 80 }),
        Entry::new(Fault::DnsDrop),
        Entry::new(Fault::DnsRefuse),
        Entry::new(Fault::DnsServfail),
        Entry::new(Fault::DnsSpoof { address: Ipv4Addr::new(192, 0, 2, 66) }),
        Entry::new(Fault::DiskFull { path: volume(), free_bytes: 0 }).needs(Needs::Volume),
        Entry::new(Fault::DiskInodes { path: volume(), free_inodes: 0 }).needs(Needs::Volume),
        Entry::new(Fault::DiskSlow { path: volume(), kilobytes_per_second: 1000 }).needs(Needs::Ext4Volume),
        Entry::new(Fault::DiskReadonly { path: volume() }).needs(Needs::Volume),
        Entry::new(Fault::DiskFsError { path: volume() }).needs(Needs::Ext4Volume),
        Entry::new(Fault::DiskDead { path: volume() }).needs(Needs::Ext4Volume),
        Entry::new(Fault::IoError { command: syncer(), call: "fsync".into(), error: "EIO".into() }).subject(syncing),
        Entry::new(Fault::IoDelay { command: syncer(), call: "fsync".into(), delay_ms: 100 }).subject(syncing),
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
        Entry::new(Fault::ClockJump { unit: "ssh.service".into(), offset_ms: 3_600_000 }).needs(Needs::Systemd),
        Entry::new(Fault::ClockRate { unit: "ssh.service".into(), percent: 200 }).needs(Needs::Systemd),
    ]
}

/// Creates the effect of a fault; nothing is injected yet.
///
/// # Errors
/// [`Error::Usage`] for a parameter that is out of its range.
pub(super) fn effect_of(fault: &Fault) -> anyhow::Result<Box<dyn Effect>> {
    fault.check().map_err(|problem| Error::Usage(format!("{}: {problem}", fault.name())))?;
    Ok(match fault {
        Fault::NodeKill => Box::new(node::Down::kill()),
        Fault::NodeStop { grace_ms } => Box::new(node::Down::stop(Duration::from_millis(*grace_ms))),
        Fault::NodeFreeze => Box::new(node::Freeze::default()),
        Fault::ProcessKill { command } => Box::new(process::Kill::new(command)),
        Fault::ServiceStop { unit } => Box::new(service::Stop::new(unit)),
        Fault::NetIsolate => net::effect(net::Isolate::default()),
        Fault::NetPartition { shape } => net::effect(net::Partition::new(shape)),
        Fault::NetOneway { lost, peer } => net::effect(net::Oneway::new(*lost, peer.as_deref())),
        Fault::NetFlap { down_ms, up_ms } => net::effect(net::Flap::new(*down_ms, *up_ms)),
        Fault::NetReset { port } => net::effect(net::Reset::new(*port)),
        Fault::NetRate { kilobits_per_second } => net::effect(net::Rate::new(*kilobits_per_second)),
        Fault::NetDelay { delay_ms, jitter_ms, reorder_percent } => {
            net::effect(net::Delay::new(*delay_ms, *jitter_ms, *reorder_percent))
        }
        Fault::NetLoss { percent } => net::effect(net::Loss::random(*percent)),
        Fault::NetNthLoss { every } => net::effect(net::Loss::nth(*every)),
        Fault::NetDuplicate { percent } => net::effect(net::Duplicate::new(*percent)),
        Fault::NetCorrupt { percent } => net::effect(net::Corrupt::new(*percent)),
        Fault::NetStall => net::effect(net::Stall::default()),
        Fault::NetMtuHole { bytes } => net::effect(net::MtuHole::new(*bytes)),
        Fault::NetPortBlock { port } => net::effect(net::PortBlock::new(*port)),
        Fault::DnsDrop => net::effect(dns::Dns::drop()),
        Fault::DnsRefuse => net::effect(dns::Dns::refuse()),
        Fault::DnsServfail => net::effect(dns::Dns::servfail()),
        Fault::DnsSpoof { address } => net::effect(dns::Dns::spoof(*address)),
        Fault::DiskFull { path, free_bytes } => Box::new(disk::Full::new(path, *free_bytes)),
        Fault::DiskInodes { path, free_inodes } => Box::new(disk::Inodes::new(path, *free_inodes)),
        Fault::DiskSlow { path, kilobytes_per_second } => Box::new(disk::Slow::new(path, *kilobytes_per_second)),
        Fault::DiskReadonly { path } => Box::new(disk::Readonly::new(path)),
        Fault::DiskFsError { path } => Box::new(disk::Broken::fs_error(path)),
        Fault::DiskDead { path } => Box::new(disk::Broken::dead(path)),
        Fault::IoError { command, call, error } => Box::new(io::Calls::failing(command, call, error)),
        Fault::IoDelay { command, call, delay_ms } => Box::new(io::Calls::delayed(command, call, *delay_ms)),
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
        Fault::ClockJump { unit, offset_ms } => Box::new(clock::Clock::jump(unit, *offset_ms)),
        Fault::ClockRate { unit, percent } => Box::new(clock::Clock::rate(unit, *percent)),
    })
}
