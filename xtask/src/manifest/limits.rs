//! `[limits.CONTAINER]` in a `scenario.toml`: maximum resource usage of a case, checked at its end.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::parse::{Source, nearest};
use super::range::{UsageSeconds, UsageSize, Within};
use crate::error::Error;

/// Limit of a container's resource usage, from the scenario's start to the scenario's end.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageLimit {
    /// Name of the container in the lab.
    pub container: String,
    pub kind: LimitKind,
    /// Maximum usage, in bytes or seconds, as the name of the kind says.
    pub most: f64,
    /// Line of the limit in its file, from 1.
    pub line: u32,
}

/// Kinds of resource usage that can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Peak of memory usage, cached files and tmpfs included.
    MemoryPeakBytes,
    /// Processor time.
    CpuSeconds,
    /// Bytes that the container reads from block devices; with cgroup version 1 only from its volumes.
    ReadBytes,
    /// Bytes that the container writes to block devices, which are its volumes; what it writes elsewhere stays in memory.
    WrittenBytes,
    /// Bytes received by the container, headers of Ethernet included.
    ReceivedBytes,
    /// Bytes sent by the container, headers of Ethernet included.
    SentBytes,
}

impl LimitKind {
    /// Returns the key that the kind has in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryPeakBytes => "memory_peak_bytes",
            Self::CpuSeconds => "cpu_seconds",
            Self::ReadBytes => "read_bytes",
            Self::WrittenBytes => "written_bytes",
            Self::ReceivedBytes => "received_bytes",
            Self::SentBytes => "sent_bytes",
        }
    }
}

/// Tables `[limits.CONTAINER]` of a scenario, by the name of the container.
pub(super) type LimitTables = BTreeMap<Spanned<String>, LimitTable>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitTable {
    /// Peak of memory usage, cached files and tmpfs included.
    memory_peak_bytes: Option<Spanned<Within<UsageSize>>>,
    /// Processor time of all the container's programs, in seconds; on a slow machine multiplied by the run's patience factor.
    cpu_seconds: Option<Spanned<Within<UsageSeconds>>>,
    /// Bytes read from block devices; with cgroup version 1 only from its volumes.
    read_bytes: Option<Spanned<Within<UsageSize>>>,
    /// Bytes written to block devices, which are the container's volumes; what it writes elsewhere stays in memory.
    written_bytes: Option<Spanned<Within<UsageSize>>>,
    /// Bytes received at the container's port, headers of Ethernet included.
    received_bytes: Option<Spanned<Within<UsageSize>>>,
    /// Bytes sent at the container's port, headers of Ethernet included.
    sent_bytes: Option<Spanned<Within<UsageSize>>>,
}

/// Checks the limits against the scenario's containers.
pub(super) fn check(tables: LimitTables, source: &Source, containers: &[&str]) -> Result<Vec<UsageLimit>, Error> {
    let mut limits = Vec::new();
    for (container, table) in tables {
        let name = container.get_ref();
        if !containers.contains(&name.as_str()) {
            let hint = nearest(name, containers.iter().copied()).map_or_else(
                || format!("the scenario has {}", containers.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            return Err(source.error_at(&container, format!("there is no container {name:?}: {hint}")));
        }
        let sizes = [
            (LimitKind::MemoryPeakBytes, table.memory_peak_bytes),
            (LimitKind::ReadBytes, table.read_bytes),
            (LimitKind::WrittenBytes, table.written_bytes),
            (LimitKind::ReceivedBytes, table.received_bytes),
            (LimitKind::SentBytes, table.sent_bytes),
        ];
        let before = limits.len();
        let limit = |kind, most, line| UsageLimit { container: name.clone(), kind, most, line };
        for (kind, size) in sizes {
            if let Some(size) = size {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "sizes are up to 16 TiB, which a fraction of 53 bits holds"
                )]
                limits.push(limit(kind, size.get_ref().0 as f64, source.line_of(&size)));
            }
        }
        if let Some(seconds) = table.cpu_seconds {
            limits.push(limit(LimitKind::CpuSeconds, seconds.get_ref().0, source.line_of(&seconds)));
        }
        if limits.len() == before {
            let message = format!("nothing of {name} is limited here: write for example memory_peak_bytes = \"256M\"");
            return Err(source.error_at(&container, message));
        }
    }
    limits.sort_by_key(|limit| limit.line);
    Ok(limits)
}
