//! The catalogue: every fault, an example of it, what it needs, and the effect it has.

use std::net::Ipv4Addr;
use std::time::Duration;

use e2e_contract::{Direction, Fault, Partition};

use super::effect::Effect;
use super::{disk, dns, file, net, node, process, service};
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

    fn machines(self, machines: usize) -> Self {
        Self { machines, ..self }
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
    let volume = || "/data".to_owned();
    let hostname = || "/etc/hostname".to_owned();
    vec![
        Entry::new(Fault::NodeKill),
        Entry::new(Fault::NodeStop { grace_ms: 1000 }),
        Entry::new(Fault::NodeFreeze),
        Entry::new(Fault::ProcessKill { command: command() }).subject(sleepers),
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
        Entry::new(Fault::FileBitflip { path: hostname(), offset: 0, bit: 0 }),
        Entry::new(Fault::FileTruncate { path: hostname(), size_bytes: 1 }),
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
        Fault::NetPartition { shape } => Box::new(net::Partition::new(shape)),
        Fault::NetOneway { lost, peer } => Box::new(net::Oneway::new(*lost, peer.as_deref())),
        Fault::NetFlap { down_ms, up_ms } => Box::new(net::Flap::new(*down_ms, *up_ms)),
        Fault::NetReset { port } => Box::new(net::Reset::new(*port)),
        Fault::NetRate { kilobits_per_second } => Box::new(net::Rate::new(*kilobits_per_second)),
        Fault::NetDelay { delay_ms, jitter_ms, reorder_percent } => {
            Box::new(net::Delay::new(*delay_ms, *jitter_ms, *reorder_percent))
        }
        Fault::NetLoss { percent } => Box::new(net::Loss::random(*percent)),
        Fault::NetNthLoss { every } => Box::new(net::Loss::nth(*every)),
        Fault::NetDuplicate { percent } => Box::new(net::Duplicate::new(*percent)),
        Fault::NetCorrupt { percent } => Box::new(net::Corrupt::new(*percent)),
        Fault::NetStall => Box::new(net::Stall::new()),
        Fault::NetMtuHole { bytes } => Box::new(net::MtuHole::new(*bytes)),
        Fault::NetPortBlock { port } => Box::new(net::PortBlock::new(*port)),
        Fault::DnsDrop => Box::new(dns::Dns::drop()),
        Fault::DnsRefuse => Box::new(dns::Dns::refuse()),
        Fault::DnsServfail => Box::new(dns::Dns::servfail()),
        Fault::DnsSpoof { address } => Box::new(dns::Dns::spoof(*address)),
        Fault::DiskFull { path, free_bytes } => Box::new(disk::Full::new(path, *free_bytes)),
        Fault::FileBitflip { path, offset, bit } => Box::new(file::Damage::bitflip(path, *offset, *bit)),
        Fault::FileTruncate { path, size_bytes } => Box::new(file::Damage::truncate(path, *size_bytes)),
        other => anyhow::bail!("{} is not built yet", other.name()),
    })
}
