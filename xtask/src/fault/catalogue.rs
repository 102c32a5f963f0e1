//! Which effect a fault of the contract has.

use std::time::Duration;

use e2e_contract::Fault;

use super::effect::Effect;
use super::{disk, file, net, node, process, service};

pub fn effect_of(fault: &Fault) -> anyhow::Result<Box<dyn Effect>> {
    Ok(match fault {
        Fault::NodeKill => Box::new(node::Down::kill()),
        Fault::NodeStop { grace_ms } => Box::new(node::Down::stop(Duration::from_millis(*grace_ms))),
        Fault::NodeFreeze => Box::new(node::Freeze),
        Fault::ProcessKill { command } => Box::new(process::Kill::new(command)),
        Fault::ServiceStop { unit } => Box::new(service::Stop::new(unit)),
        Fault::NetIsolate => Box::new(net::Isolate::default()),
        Fault::NetRate { kilobits_per_second } => Box::new(net::Rate::new(*kilobits_per_second)),
        Fault::NetDelay { delay_ms, jitter_ms } => Box::new(net::Delay::new(*delay_ms, *jitter_ms)),
        Fault::DiskFull { path, free_bytes } => Box::new(disk::Full::new(path, *free_bytes)),
        Fault::FileBitflip { path, offset, bit } => Box::new(file::Damage::bitflip(path, *offset, *bit)),
        Fault::FileTruncate { path, size_bytes } => Box::new(file::Damage::truncate(path, *size_bytes)),
    })
}
