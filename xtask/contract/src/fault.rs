//! What can be broken on purpose, with parameters and units in their names.

use serde::{Deserialize, Serialize};

/// One kind of damage. It is done to one container of the lab; [`crate::FaultInject`] names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "name", deny_unknown_fields)]
pub enum Fault {
    /// The first process is killed, and all others with it. Healed by a start.
    #[serde(rename = "node.kill")]
    NodeKill,
    /// It is shut down as an operator would; what does not end in time is killed. Healed by a start.
    #[serde(rename = "node.stop")]
    NodeStop {
        /// How long its processes may take.
        grace_ms: u64,
    },
    /// No process of it runs, and its memory and connections stay. Healed by a thaw.
    #[serde(rename = "node.freeze")]
    NodeFreeze,
    /// All processes whose command is this one are killed. Healed by whoever starts it again: a supervisor, or the
    /// scenario.
    #[serde(rename = "process.kill")]
    ProcessKill {
        /// A piece of the command line, as `pgrep -f` takes it, but literally.
        command: String,
    },
    /// A systemd unit is stopped. Healed by its start.
    #[serde(rename = "service.stop")]
    ServiceStop {
        /// Such as `nginx.service`.
        unit: String,
    },
    /// No packet goes to it or comes from it. Healed by the link.
    #[serde(rename = "net.isolate")]
    NetIsolate,
    /// What is sent to it waits at its port on the bridge until the rate allows it.
    #[serde(rename = "net.rate")]
    NetRate {
        /// Bound, in kilobits (1000 bits) per second: 8 to 1,000,000.
        kilobits_per_second: u32,
    },
    /// Each packet to it takes longer.
    #[serde(rename = "net.delay")]
    NetDelay {
        /// By this much: 1 to 10,000 ms.
        delay_ms: u32,
        /// Give or take this much, no more than the delay, drawn for each packet: one may overtake another.
        #[serde(default)]
        jitter_ms: u32,
    },
    /// A volume has no room left but this. Healed by room.
    #[serde(rename = "disk.full")]
    DiskFull {
        /// A path on a volume of the container's template.
        path: String,
        /// How much stays free.
        #[serde(default)]
        free_bytes: u64,
    },
    /// One bit of a file is turned over. Healed by the bytes that were there, unless somebody repaired them.
    #[serde(rename = "file.bitflip")]
    FileBitflip {
        /// Absolute path in the container.
        path: String,
        /// Byte in the file, from 0.
        offset: u64,
        /// Bit in that byte, from 0.
        #[serde(default)]
        bit: u8,
    },
    /// A file ends early. Healed by the bytes that were there, unless somebody repaired it.
    #[serde(rename = "file.truncate")]
    FileTruncate {
        /// Absolute path in the container.
        path: String,
        /// What is left of it.
        size_bytes: u64,
    },
}

impl Fault {
    /// Its name in the catalogue, such as `net.delay`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeKill => "node.kill",
            Self::NodeStop { .. } => "node.stop",
            Self::NodeFreeze => "node.freeze",
            Self::ProcessKill { .. } => "process.kill",
            Self::ServiceStop { .. } => "service.stop",
            Self::NetIsolate => "net.isolate",
            Self::NetRate { .. } => "net.rate",
            Self::NetDelay { .. } => "net.delay",
            Self::DiskFull { .. } => "disk.full",
            Self::FileBitflip { .. } => "file.bitflip",
            Self::FileTruncate { .. } => "file.truncate",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::NodeKill | Self::NodeFreeze | Self::NetIsolate => Ok(()),
            Self::NodeStop { grace_ms } => write!(f, " grace_ms={grace_ms}"),
            Self::ProcessKill { command } => write!(f, " command={command:?}"),
            Self::ServiceStop { unit } => write!(f, " unit={unit}"),
            Self::NetRate { kilobits_per_second } => write!(f, " kilobits_per_second={kilobits_per_second}"),
            Self::NetDelay { delay_ms, jitter_ms } => write!(f, " delay_ms={delay_ms} jitter_ms={jitter_ms}"),
            Self::DiskFull { path, free_bytes } => write!(f, " path={path} free_bytes={free_bytes}"),
            Self::FileBitflip { path, offset, bit } => write!(f, " path={path} offset={offset} bit={bit}"),
            Self::FileTruncate { path, size_bytes } => write!(f, " path={path} size_bytes={size_bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_by_its_name_and_refused_with_a_stray_parameter() {
        let fault: Fault = serde_json::from_str(r#"{"name":"net.delay","delay_ms":50}"#).unwrap();
        assert_eq!(fault, Fault::NetDelay { delay_ms: 50, jitter_ms: 0 });
        assert_eq!(fault.to_string(), "net.delay delay_ms=50 jitter_ms=0");
        assert_eq!(serde_json::to_value(&fault).unwrap()["name"], fault.name());
        assert!(serde_json::from_str::<Fault>(r#"{"name":"net.delay","delay_ms":50,"rate":1}"#).is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"name":"net.dely"}"#).is_err());
    }
}
