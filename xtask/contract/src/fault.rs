//! Faults with their parameters, whose names tell their units.

use std::net::Ipv4Addr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Kind of damage to one container of the lab, which [`crate::FaultInject`] injects.
// `remote` derives methods of the same names, which `Deserialize` below calls before it checks the values against their ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(remote = "Self", tag = "name", deny_unknown_fields)]
pub enum Fault {
    /// Kill of the container's first process, and with it of all others. Healed by a start.
    #[serde(rename = "node.kill")]
    NodeKill,
    /// Shutdown of the container as by an operator; processes that do not end in time are killed. Healed by a start.
    #[serde(rename = "node.stop")]
    NodeStop {
        /// Time for the container's processes to end: 0 to 600,000 ms.
        grace_ms: u64,
    },
    /// Freeze of all processes of the container; its memory and connections stay. Healed by a thaw.
    #[serde(rename = "node.freeze")]
    NodeFreeze,
    /// Repeated kills and starts of the container, after which it is down. Healed by a start.
    #[serde(rename = "node.restart-storm")]
    NodeRestartStorm {
        /// Number of starts between the kills: 1 to 20.
        times: u32,
        /// Time for which the container stays up after each start, once it runs programs: 0 to 10,000 ms.
        up_ms: u64,
    },
    /// Kill of all processes whose command line contains a text. Healed when a supervisor or the scenario starts them again.
    #[serde(rename = "process.kill")]
    ProcessKill {
        /// Text that the processes' command lines contain, taken literally.
        command: String,
    },
    /// Pause of all processes whose command line contains a text, and of no others. Healed by continuing them.
    #[serde(rename = "process.pause")]
    ProcessPause {
        /// Text that the processes' command lines contain, taken literally.
        command: String,
    },
    /// A program ends at once with an error, however often it is started; its running processes are killed. Healed by putting the
    /// program back.
    #[serde(rename = "process.crashloop")]
    ProcessCrashloop {
        /// Absolute path of the program's file in the container.
        program: String,
    },
    /// A systemd unit is stopped. Healed by its start.
    #[serde(rename = "service.stop")]
    ServiceStop {
        /// Name of the unit, such as `nginx.service`.
        unit: String,
    },
    /// No packet goes to the container or comes from it. Healed by restoring its link.
    #[serde(rename = "net.isolate")]
    NetIsolate,
    /// Partition of the lab's network into groups of containers that cannot reach each other.
    #[serde(rename = "net.partition")]
    NetPartition {
        /// Shape of the partition.
        shape: Partition,
    },
    /// Packets pass in one direction only.
    #[serde(rename = "net.oneway")]
    NetOneway {
        /// Direction in which packets are lost.
        lost: Direction,
        /// Other container to or from which packets are lost; absent for all containers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// The container's link is down and up in turns.
    #[serde(rename = "net.flap")]
    NetFlap {
        /// Time for which the link is down each time: 50 to 60,000 ms.
        down_ms: u32,
        /// Time for which the link is up in between: 50 to 60,000 ms.
        up_ms: u32,
    },
    /// Delay of each packet to the container.
    #[serde(rename = "net.delay")]
    NetDelay {
        /// Delay: 1 to 10,000 ms.
        delay_ms: u32,
        /// Random variation of the delay of each packet, either way, 0 to 10,000 ms and no more than the delay; packets may overtake each
        /// other.
        #[serde(default)]
        jitter_ms: u32,
        /// Percentage of packets that are not delayed, and overtake the delayed ones: 0 to 90.
        #[serde(default)]
        reorder_percent: u8,
    },
    /// Packets to the container get lost at random.
    #[serde(rename = "net.loss")]
    NetLoss {
        /// Percentage of lost packets: 1 to 100.
        percent: u8,
    },
    /// Exactly every nth packet to the container gets lost.
    #[serde(rename = "net.nth-loss")]
    NetNthLoss {
        /// The n, 2 to 10,000: with 2, every other packet gets lost.
        every: u32,
    },
    /// Packets to the container arrive twice.
    #[serde(rename = "net.duplicate")]
    NetDuplicate {
        /// Percentage of duplicated packets: 1 to 100.
        percent: u8,
    },
    /// Packets to the container arrive with a byte changed, so that their checksum is wrong.
    #[serde(rename = "net.corrupt")]
    NetCorrupt {
        /// Percentage of changed packets: 1 to 100.
        percent: u8,
    },
    /// Packets to the container wait until the fault is healed, and then all arrive.
    #[serde(rename = "net.stall")]
    NetStall,
    /// Rate limit: packets to the container wait at its port on the bridge until the rate allows them.
    #[serde(rename = "net.rate")]
    NetRate {
        /// Rate in kilobits (1000 bits) per second: 8 to 1,000,000.
        kilobits_per_second: u32,
    },
    /// Packets to the container that are longer than a maximum get lost, without a message to the sender.
    #[serde(rename = "net.mtu-hole")]
    NetMtuHole {
        /// Maximum length of a packet that passes, with its IP header, in bytes: 68 to 1,499.
        bytes: u32,
    },
    /// TCP segments to the container are answered with a reset: connections break, and no new one is established.
    #[serde(rename = "net.reset")]
    NetReset {
        /// TCP port of the container, 1 to 65,535; absent for all ports.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// Packets to one TCP port of the container get lost.
    #[serde(rename = "net.port-block")]
    NetPortBlock {
        /// Number of the port: 1 to 65,535.
        port: u16,
    },
    /// Loss of the container's queries to name servers (port 53), which get no answer.
    #[serde(rename = "dns.drop")]
    DnsDrop,
    /// Refusal of the container's queries to name servers, as if no name server listened.
    #[serde(rename = "dns.refuse")]
    DnsRefuse,
    /// SERVFAIL as the answer to the container's queries to name servers.
    #[serde(rename = "dns.servfail")]
    DnsServfail,
    /// A wrong address in the answers to the container's queries to name servers.
    #[serde(rename = "dns.spoof")]
    DnsSpoof {
        /// Address that each name resolves to.
        address: Ipv4Addr,
    },
    /// A volume is full except for a given number of bytes. Healed by freeing its space.
    #[serde(rename = "disk.full")]
    DiskFull {
        /// A path on a volume of the container's template.
        path: String,
        /// Free space that remains, in bytes: 0 to 16 TiB.
        #[serde(default)]
        free_bytes: u64,
    },
    /// A volume accepts only a given number of further files, though it has room. Healed by freeing inodes.
    #[serde(rename = "disk.inodes")]
    DiskInodes {
        /// A path on a volume of the container's template.
        path: String,
        /// Number of further files that the volume accepts: 0 to 10,000.
        #[serde(default)]
        free_inodes: u64,
    },
    /// Slow reads and writes of a volume past the page cache.
    #[serde(rename = "disk.slow")]
    DiskSlow {
        /// A path on an ext4 volume of the container's template.
        path: String,
        /// Maximum rate of reads and of writes, in kilobytes (1000 bytes) per second: 100 to 20,000.
        kilobytes_per_second: u32,
    },
    /// Refusal of writes to a volume on which no file is open for writing.
    #[serde(rename = "disk.readonly")]
    DiskReadonly {
        /// A path on a volume of the container's template.
        path: String,
    },
    /// A volume's file system has met an error, and stops: nothing can be written. Healed by a check and a mount.
    #[serde(rename = "disk.fs-error")]
    DiskFsError {
        /// A path on an ext4 volume of the container's template.
        path: String,
    },
    /// A volume is gone as if its cable was pulled: reading and writing give errors. Healed by a mount.
    #[serde(rename = "disk.dead")]
    DiskDead {
        /// A path on an ext4 volume of the container's template.
        path: String,
    },
    /// A system call of running processes fails.
    #[serde(rename = "io.error")]
    IoError {
        /// Text that the processes' command lines contain, taken literally.
        command: String,
        /// Name of the system call, such as `fdatasync`.
        call: String,
        /// Error that the call returns, such as `EIO`.
        error: String,
    },
    /// A system call of running processes takes longer.
    #[serde(rename = "io.delay")]
    IoDelay {
        /// Text that the processes' command lines contain, taken literally.
        command: String,
        /// Name of the system call, such as `fdatasync`.
        call: String,
        /// Delay of each call: 1 to 60,000 ms.
        delay_ms: u32,
    },
    /// Flip of one bit of a file. Healed by writing the original bytes, unless a program has repaired them.
    #[serde(rename = "file.bitflip")]
    FileBitflip {
        /// Absolute path of the file in the container.
        path: String,
        /// Offset of the byte in the file: 0 to 16 TiB.
        offset: u64,
        /// Number of the bit in that byte: 0 to 7.
        #[serde(default)]
        bit: u8,
    },
    /// A file loses its end. Healed by writing the lost bytes, unless a program has repaired the file.
    #[serde(rename = "file.truncate")]
    FileTruncate {
        /// Absolute path of the file in the container.
        path: String,
        /// Size of the file afterwards, in bytes: 0 to 16 TiB.
        size_bytes: u64,
    },
    /// Memory limit below the container's own.
    #[serde(rename = "memory.limit")]
    MemoryLimit {
        /// Memory limit in bytes: 1 MiB to 16 TiB.
        bytes: u64,
    },
    /// A process in the container takes memory and keeps it.
    #[serde(rename = "memory.pressure")]
    MemoryPressure {
        /// Amount of memory in bytes: 1 MiB to 16 TiB.
        bytes: u64,
    },
    /// Use of more memory than the container may have, until the kernel kills a process in it. Healed by freeing the memory.
    #[serde(rename = "memory.oom")]
    MemoryOom,
    /// Limit of processor time below the container's own.
    #[serde(rename = "cpu.quota")]
    CpuQuota {
        /// Processor time in percent of one processor: 1 to 10,000.
        percent: u32,
    },
    /// Restriction of the container to some processors.
    #[serde(rename = "cpu.pin")]
    CpuPin {
        /// Numbers of the processors, such as `0` or `0-1,3`.
        cpus: String,
    },
    /// Processes in the container use all the processor time that they get.
    #[serde(rename = "cpu.burn")]
    CpuBurn {
        /// Number of processes: 1 to 64.
        processes: u32,
    },
    /// Limit of the container's number of processes.
    #[serde(rename = "pids.cap")]
    PidsCap {
        /// Number of further processes that the container may have: 0 to 1000.
        #[serde(default)]
        free: u32,
    },
    /// Running processes may open only a given number of further files.
    #[serde(rename = "fd.cap")]
    FdCap {
        /// Text that the processes' command lines contain, taken literally.
        command: String,
        /// Number of further files that each process may open: 0 to 256.
        #[serde(default)]
        free: u32,
    },
    /// The clock of a systemd unit's processes jumps. The unit is restarted before the jump, to get a clock of its own, and again when
    /// the fault is healed.
    #[serde(rename = "clock.jump")]
    ClockJump {
        /// Name of the unit, such as `postgresql.service`.
        unit: String,
        /// Size of the jump, negative for a jump backwards: 1000 to 315,360,000,000 ms (ten years) either way.
        offset_ms: i64,
    },
    /// The clock of a systemd unit's processes is too fast or too slow. The unit is restarted before, to get a clock of its own, and
    /// again when the fault is healed.
    #[serde(rename = "clock.rate")]
    ClockRate {
        /// Name of the unit, such as `postgresql.service`.
        unit: String,
        /// Percentage of the right rate, 10 to 10,000 and at least 10 more or less than 100: 200 is twice as fast.
        percent: u32,
    },
}

/// Shape of a network partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// Groups of containers that cannot reach each other; a container in no group can reach all.
    Groups(Vec<Vec<String>>),
    /// Two groups, with this container in the smaller one: the larger one has more than half of the lab.
    Majority,
    /// Two halves of the other containers that cannot reach each other, while this container can reach both.
    Bridge,
    /// Ring in which each container can reach only its two neighbors in the lab's order: at least four containers.
    Ring,
}

/// Direction of packets, seen from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Packets to the container.
    Inbound,
    /// Packets from the container.
    Outbound,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fault = Self::deserialize(deserializer)?;
        fault.check().map_err(D::Error::custom)?;
        Ok(fault)
    }
}

impl Fault {
    /// Names of all faults, family by family.
    pub const NAMES: [&'static str; 46] = [
        "node.kill",
        "node.stop",
        "node.freeze",
        "node.restart-storm",
        "process.kill",
        "process.pause",
        "process.crashloop",
        "service.stop",
        "net.isolate",
        "net.partition",
        "net.oneway",
        "net.flap",
        "net.delay",
        "net.loss",
        "net.nth-loss",
        "net.duplicate",
        "net.corrupt",
        "net.stall",
        "net.rate",
        "net.mtu-hole",
        "net.reset",
        "net.port-block",
        "dns.drop",
        "dns.refuse",
        "dns.servfail",
        "dns.spoof",
        "disk.full",
        "disk.inodes",
        "disk.slow",
        "disk.readonly",
        "disk.fs-error",
        "disk.dead",
        "io.error",
        "io.delay",
        "file.bitflip",
        "file.truncate",
        "memory.limit",
        "memory.pressure",
        "memory.oom",
        "cpu.quota",
        "cpu.pin",
        "cpu.burn",
        "pids.cap",
        "fd.cap",
        "clock.jump",
        "clock.rate",
    ];

    /// Returns the fault's name in the catalogue, such as `net.delay`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeKill => "node.kill",
            Self::NodeStop { .. } => "node.stop",
            Self::NodeFreeze => "node.freeze",
            Self::NodeRestartStorm { .. } => "node.restart-storm",
            Self::ProcessKill { .. } => "process.kill",
            Self::ProcessPause { .. } => "process.pause",
            Self::ProcessCrashloop { .. } => "process.crashloop",
            Self::ServiceStop { .. } => "service.stop",
            Self::NetIsolate => "net.isolate",
            Self::NetPartition { .. } => "net.partition",
            Self::NetOneway { .. } => "net.oneway",
            Self::NetFlap { .. } => "net.flap",
            Self::NetDelay { .. } => "net.delay",
            Self::NetLoss { .. } => "net.loss",
            Self::NetNthLoss { .. } => "net.nth-loss",
            Self::NetDuplicate { .. } => "net.duplicate",
            Self::NetCorrupt { .. } => "net.corrupt",
            Self::NetStall => "net.stall",
            Self::NetRate { .. } => "net.rate",
            Self::NetMtuHole { .. } => "net.mtu-hole",
            Self::NetReset { .. } => "net.reset",
            Self::NetPortBlock { .. } => "net.port-block",
            Self::DnsDrop => "dns.drop",
            Self::DnsRefuse => "dns.refuse",
            Self::DnsServfail => "dns.servfail",
            Self::DnsSpoof { .. } => "dns.spoof",
            Self::DiskFull { .. } => "disk.full",
            Self::DiskInodes { .. } => "disk.inodes",
            Self::DiskSlow { .. } => "disk.slow",
            Self::DiskReadonly { .. } => "disk.readonly",
            Self::DiskFsError { .. } => "disk.fs-error",
            Self::DiskDead { .. } => "disk.dead",
            Self::IoError { .. } => "io.error",
            Self::IoDelay { .. } => "io.delay",
            Self::FileBitflip { .. } => "file.bitflip",
            Self::FileTruncate { .. } => "file.truncate",
            Self::MemoryLimit { .. } => "memory.limit",
            Self::MemoryPressure { .. } => "memory.pressure",
            Self::MemoryOom => "memory.oom",
            Self::CpuQuota { .. } => "cpu.quota",
            Self::CpuPin { .. } => "cpu.pin",
            Self::CpuBurn { .. } => "cpu.burn",
            Self::PidsCap { .. } => "pids.cap",
            Self::FdCap { .. } => "fd.cap",
            Self::ClockJump { .. } => "clock.jump",
            Self::ClockRate { .. } => "clock.rate",
        }
    }

    /// Returns the family of the catalogue that the fault belongs to, such as `net`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else { return Ok(()) };
        for (name, value) in fields.iter().filter(|(name, _)| *name != "name") {
            match value.as_str().filter(|text| !text.is_empty() && !text.contains(char::is_whitespace)) {
                Some(text) => write!(f, " {name}={text}")?,
                None => write!(f, " {name}={value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_by_its_name_and_refused_with_a_stray_parameter() {
        let fault: Fault = serde_json::from_str(r#"{"name":"net.delay","delay_ms":50}"#).unwrap();
        assert_eq!(fault, Fault::NetDelay { delay_ms: 50, jitter_ms: 0, reorder_percent: 0 });
        assert_eq!(fault.to_string(), "net.delay delay_ms=50 jitter_ms=0 reorder_percent=0");
        assert_eq!(serde_json::to_value(&fault).unwrap()["name"], fault.name());
        assert!(serde_json::from_str::<Fault>(r#"{"name":"net.delay","delay_ms":50,"rate":1}"#).is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"name":"net.dely"}"#).is_err());
    }

    #[test]
    fn every_fault_is_named() {
        let source = include_str!("fault.rs");
        let declared: Vec<&str> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("#[serde(rename = \"")?.strip_suffix("\")]"))
            .collect();
        assert_eq!(declared, Fault::NAMES);
    }

    #[test]
    fn parameters_are_shown_as_they_are_given() {
        let shown = |text: &str| serde_json::from_str::<Fault>(text).unwrap().to_string();
        assert_eq!(shown(r#"{"name":"process.kill","command":"sleep 5"}"#), r#"process.kill command="sleep 5""#);
        assert_eq!(
            shown(r#"{"name":"net.partition","shape":{"groups":[["a"],["b","c"]]}}"#),
            r#"net.partition shape={"groups":[["a"],["b","c"]]}"#
        );
        assert_eq!(shown(r#"{"name":"net.oneway","lost":"inbound"}"#), "net.oneway lost=inbound");
        assert_eq!(shown(r#"{"name":"net.isolate"}"#), "net.isolate");
    }
}
