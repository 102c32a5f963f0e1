//! Queueing disciplines, which treat packets that leave through a network device.

use std::time::Duration;

use anyhow::Context as _;

use super::netns::NetworkNamespace;
use crate::host::exec::shell::which;
use crate::host::machine::kernel_part::{self, Trial, one_line};

/// Message of tc where the kernel has no such discipline.
const UNKNOWN_KIND: &str = "qdisc kind is unknown";

/// Queueing discipline for the root of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qdisc {
    /// Token bucket (tbf).
    Rate {
        bits_per_second: u64,
        /// Bytes that pass at once after a pause.
        burst_bytes: u64,
        /// Maximum number of bytes that wait; more are dropped.
        limit_bytes: u64,
    },
    /// Delay of each packet (netem).
    Delay {
        /// Time that a packet waits.
        delay: Duration,
        /// Largest deviation from `delay`, drawn for each packet.
        jitter: Duration,
        /// Percentage of packets that do not wait.
        reorder_percent: u8,
    },
    /// Duplication of some packets (netem).
    Duplicate {
        /// Percentage of packets that leave twice.
        percent: u8,
    },
}

impl Qdisc {
    /// Adds the discipline to a device that has none.
    ///
    /// # Errors
    /// Also when the device has a discipline already.
    pub fn set(&self, network: &NetworkNamespace, device: &str) -> anyhow::Result<()> {
        network.command("tc").args(["qdisc", "add", "dev", device, "root"]).args(self.words()).run()?;
        Ok(())
    }

    /// Reason, in one line, why this host cannot use such a discipline; `None` where it can. Tried once a boot, in a namespace of its own.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Some(tc) = which("tc") else { return Some("tc is not installed on this host".into()) };
        let words = self.words();
        kernel_part::problem(&format!("{} {}", tc.display(), words.join(" ")), || {
            match NetworkNamespace::make().and_then(|network| self.set(&network, "lo")) {
                Ok(()) => Trial::Works,
                Err(error) if format!("{error:#}").contains(UNKNOWN_KIND) => Trial::Lacks(self.module()),
                Err(error) => Trial::Fails(one_line(&error)),
            }
        })
    }

    /// Returns the name of the kernel's module with the discipline.
    #[must_use]
    pub fn module(&self) -> String {
        format!("sch_{}", self.words()[0])
    }

    fn words(&self) -> Vec<String> {
        match self {
            Self::Rate { bits_per_second, burst_bytes, limit_bytes } => vec![
                "tbf".into(),
                "rate".into(),
                format!("{bits_per_second}bit"),
                "burst".into(),
                format!("{burst_bytes}b"),
                "limit".into(),
                format!("{limit_bytes}b"),
            ],
            Self::Delay { delay, jitter, reorder_percent } => {
                let mut words = vec!["netem".into(), "limit".into(), "65536".into(), "delay".into(), micros(*delay)];
                if !jitter.is_zero() {
                    words.push(micros(*jitter));
                }
                if *reorder_percent > 0 {
                    words.extend(["reorder".into(), format!("{reorder_percent}%")]);
                }
                words
            }
            Self::Duplicate { percent } => {
                vec!["netem".into(), "limit".into(), "65536".into(), "duplicate".into(), format!("{percent}%")]
            }
        }
    }
}

fn micros(duration: Duration) -> String {
    format!("{}us", duration.as_micros())
}

/// Returns the kind of the discipline at a device's root, such as `tbf`; `None` where there is none, or no such device.
pub fn root_kind(network: &NetworkNamespace, device: &str) -> anyhow::Result<Option<String>> {
    let list = network.command("tc").args(["-json", "qdisc", "show"]).run()?.text();
    root_kind_in(&list, device)
}

/// Removes the discipline at a device's root; does nothing where there is none, or no such device.
pub fn delete_root(network: &NetworkNamespace, device: &str) -> anyhow::Result<()> {
    if root_kind(network, device)?.is_some() {
        let deleted = network.command("tc").args(["qdisc", "delete", "dev", device, "root"]).run();
        // A container that ends meanwhile takes its port along.
        if let Err(error) = deleted
            && root_kind(network, device)?.is_some()
        {
            return Err(error.into());
        }
    }
    Ok(())
}

fn root_kind_in(list: &str, device: &str) -> anyhow::Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Listed {
        kind: String,
        dev: String,
        #[serde(default)]
        root: bool,
    }
    let listed: Vec<Listed> = serde_json::from_str(list).context("parsing the output of `tc -json qdisc show`")?;
    let at_root = listed.into_iter().find(|qdisc| qdisc.root && qdisc.dev == device);
    Ok(at_root.map(|qdisc| qdisc.kind).filter(|kind| kind != "noqueue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disciplines_are_said_in_tcs_words() {
        let rate = Qdisc::Rate { bits_per_second: 64_000, burst_bytes: 4000, limit_bytes: 20_000 };
        assert_eq!(rate.words().join(" "), "tbf rate 64000bit burst 4000b limit 20000b");
        let delay = |jitter, reorder_percent| {
            let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(jitter));
            Qdisc::Delay { delay, jitter, reorder_percent }.words().join(" ")
        };
        assert_eq!(delay(0, 0), "netem limit 65536 delay 50000us");
        assert_eq!(delay(5, 0), "netem limit 65536 delay 50000us 5000us");
        assert_eq!(Qdisc::Duplicate { percent: 30 }.words().join(" "), "netem limit 65536 duplicate 30%");
        assert_eq!(delay(5, 25), "netem limit 65536 delay 50000us 5000us reorder 25%");
    }

    #[test]
    fn only_a_devices_own_root_counts() {
        let list = r#"[{"kind":"noqueue","handle":"0:","dev":"port11","root":true,"refcnt":2,"options":{}},
            {"kind":"tbf","handle":"8001:","dev":"port12","root":true,"refcnt":2,"options":{"rate":125000}},
            {"kind":"pfifo","handle":"8002:","dev":"port13","parent":"8001:1","options":{}}]"#;
        assert_eq!(root_kind_in(list, "port11").unwrap(), None);
        assert_eq!(root_kind_in(list, "port12").unwrap().as_deref(), Some("tbf"));
        assert_eq!(root_kind_in(list, "port13").unwrap(), None);
        assert_eq!(root_kind_in(list, "gone").unwrap(), None);
        assert!(root_kind_in("", "port11").is_err());
    }
}
