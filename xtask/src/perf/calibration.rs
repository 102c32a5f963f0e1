//! Calibration: a fixed piece of work in a container, which measures how fast the host is at this moment.

use anyhow::{Context as _, bail};

use super::usage::{Meters, milliseconds};
use crate::host::patience::Deadline;
use crate::lab::{ExecRequest, Lab};
use crate::record::{self, Calibration};

/// Shell command of the fixed work: some 10 to 15 ms on a current host, the start of its programs included. Times of different commands
/// cannot be compared.
const WORK: &str = "head -c 1048576 /dev/zero | sha256sum";

/// Deadline of the fixed work; a host that exceeds it hangs, and is not merely slow.
const DEADLINE: Deadline = Deadline::from_secs(10);

/// Runs the fixed work in a lab's first container and returns its times; `None` where that container is down or frozen because of a
/// fault, or was restarted during the work.
///
/// # Errors
/// When the container has no shell, `head` and `sha256sum`.
pub fn calibrate(lab: &Lab, meters: &Meters) -> anyhow::Result<Option<Calibration>> {
    let container = lab.containers().first().context("the lab has no container to calibrate in")?;
    let name = &container.machine().name;
    if container.outage().is_some() {
        return Ok(None);
    }
    let request = ExecRequest {
        argv: ["/bin/sh", "-c", WORK].map(String::from).to_vec(),
        deadline: DEADLINE.scaled(),
        streams_dir: lab.streams_dir().to_owned(),
        ..ExecRequest::default()
    };
    let before = meters.cpu_ns(name);
    let output = match container.exec(&request) {
        Err(_) if container.outage().is_some() => return Ok(None),
        other => other.map_err(anyhow::Error::from).with_context(|| format!("calibrating in {name}"))?,
    };
    let after = meters.cpu_ns(name);
    if let Some(failure) = output.failure() {
        bail!("`{WORK}` in {name} {failure}");
    }
    let (Some((life, before)), Some((life_after, after))) = (before, after) else { return Ok(None) };
    let cpu_ns = after.saturating_sub(before);
    if life != life_after {
        return Ok(None);
    }
    meters.discount(name, cpu_ns);
    Ok(Some(Calibration { wall_ms: record::milliseconds(output.duration), cpu_ms: milliseconds(cpu_ns) }))
}
