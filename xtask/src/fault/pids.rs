//! Fault that limits the number of a container's processes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cgroup_override::CgroupOverride;
use super::cpu::controller;
use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::hog::Hogs;
use crate::host::cgroup::{Gauge, Setting};
use crate::host::patience::Deadline;

/// Shell script that starts `$1` processes side by side, prints the number of each, and ends them when it ends, for whatever reason.
const START: &str = r#"trap 'kill $all 2>/dev/null; wait' EXIT
n=0; while [ "$n" -lt "$1" ]; do sleep 1000 >/dev/null 2>&1 & all="$all $!"; n=$((n + 1)); echo "$n"; done"#;

/// Number of processes that the check tries to start beyond the limit.
const EXCESS: u32 = 3;

/// Minimum room, in processes, before the fault: for the two that bring a program into the container, and for others that come meanwhile.
const ROOM: u64 = 8;

/// Deadline for starting processes; some shells repeat a refused start for 15 s.
const DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for killed processes to leave the kernel's count; other processes may have come meanwhile.
const REAP_DEADLINE: Deadline = Deadline::from_secs(3);

/// Interval between two readings of the number of processes.
const POLL: Duration = Duration::from_millis(2);

/// Deadline for the number of processes to settle after a count that included short-lived programs.
const COUNT_DEADLINE: Deadline = Deadline::from_secs(5);

/// Fault that limits the number of a container's processes (`pids.cap`).
pub struct Cap {
    free: u32,
    bound: Option<CgroupOverride>,
}

/// Number of processes that a shell could start of those that it tried to start.
struct Started {
    count: u32,
    wanted: u32,
    /// Message of the shell where a process could not be started.
    refusal: Option<String>,
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.refusal {
            None => write!(f, "a program could start {} processes", self.count),
            Some(said) => write!(f, "a program could start {} of {} processes: {said}", self.count, self.wanted),
        }
    }
}

impl Cap {
    const PROBE: Hogs = Hogs::named("pids.cap-probe");

    pub fn new(free: u32) -> Self {
        Self { free, bound: None }
    }

    fn count(target: &FaultTarget<'_>) -> anyhow::Result<u64> {
        target.container.group()?.gauge(Gauge::Processes)
    }

    /// Runs a shell in the container's pids cgroup that tries to start `free` + [`EXCESS`] processes; returns how many it could start, and
    /// its message where one was refused. The container's `exec` cannot be used: LXC would first start processes of its own, which count as
    /// well.
    fn start(&self, target: &FaultTarget<'_>) -> anyhow::Result<Started> {
        let wanted = self.free + EXCESS;
        let command =
            target.container.counted_command("pids", &["/bin/sh", "-c", START, "start", &wanted.to_string()])?;
        let (name, value) = Self::PROBE.variable();
        let before = Self::count(target)?;
        let output = command.env(name, value).deadline(target.within(DEADLINE.scaled())).output();
        Self::PROBE.end(target)?;
        // What is dead is counted until its parent has looked at it.
        let begun = Instant::now();
        while Self::count(target)? > before && begun.elapsed() < target.within(REAP_DEADLINE.scaled()) {
            std::thread::sleep(POLL);
        }
        let output = output.with_context(|| format!("starting processes in {}", target.name()))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let refusal = said.lines().find(|line| line.to_lowercase().contains("fork")).map(str::to_owned);
        let count = u32::try_from(output.text().lines().count())?;
        if refusal.is_none() && (output.status != 0 || count != wanted) {
            bail!("starting processes in {} ended with status {}: {said}", target.name(), output.status);
        }
        Ok(Started { count, wanted, refusal })
    }
}

impl Effect for Cap {
    fn supported(&self) -> anyhow::Result<()> {
        controller("pids.cap", Setting::Processes)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let group = target.container.group()?;
        let (now, bound) = (Self::count(target)?, group.bound(Setting::Processes)?);
        if bound.is_some_and(|bound| bound < u64::from(target.container.machine().template.limits.pids)) {
            let message = format!(
                "pids.cap: the number of processes of {} is limited already: heal that fault first",
                target.name()
            );
            return Err(usage(message));
        }
        if let Some(bound) = bound.filter(|bound| now + u64::from(self.free) + ROOM > *bound) {
            let message = format!(
                "pids.cap: {} has {now} processes and may have {bound}: choose fewer free processes",
                target.name()
            );
            return Err(usage(message));
        }
        let started = self.start(target)?;
        if started.refusal.is_some() {
            bail!("{} cannot start enough processes without the fault: {started}", target.name());
        }
        Ok(format!("{started}, beside the {now} that run already"))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let most = Self::count(target)? + u64::from(self.free);
        self.bound = Some(CgroupOverride::set(target, Setting::Processes, most.to_string())?);
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let started = self.start(target)?;
            if started.refusal.is_some() && started.count <= self.free {
                return Ok(started.to_string());
            }
            if begun.elapsed() > COUNT_DEADLINE.scaled() {
                bail!("{} can start more processes than the fault leaves it: {started}", target.name());
            }
            self.heal(target)?;
            self.inject(target)?;
        }
    }

    /// Verifies the effect again before healing: only as many processes can be started as have ended meanwhile.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let started = self.start(target)?;
        let is_bound = started.refusal.is_some() && started.count <= self.free;
        let proof = if is_bound {
            Ok(started.to_string())
        } else {
            Err(anyhow::anyhow!("{started}, more than the fault leaves"))
        };
        Lasted::proved(proof, Keeper::Host, || self.bound.as_ref().map_or(Ok(false), |bound| bound.is_set(target)))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_ref().map_or(Ok(()), |bound| bound.put_back(target))?;
        Self::PROBE.end(target)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(outage) = target.container.outage() {
                return Ok(format!("{outage}; nothing bounds its processes any more"));
            }
            let started = self.start(target)?;
            if started.refusal.is_none() {
                return Ok(started.to_string());
            }
            // What could not start before may take up all that there is for a moment.
            if begun.elapsed() > DEADLINE.scaled() {
                bail!("{} still cannot start enough processes: {started}", target.name());
            }
        }
    }

    /// Sets the fault's limit again after a restart. The limit is the one computed before the restart, however many processes run now.
    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_mut().map_or(Ok(()), |bound| bound.set_again(target))
    }
}
