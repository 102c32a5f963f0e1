//! Faults of memory: a lower limit, a process that holds much of it, or use of all of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cgroup_override::CgroupOverride;
use super::cpu::controller;
use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::hog::{Hogs, ROOM_DEADLINE};
use crate::error::Error;
use crate::host::cgroup::{Gauge, Group, Setting};
use crate::host::exec::process::{self, Running};
use crate::host::machine::load::{Memory, has_swap};
use crate::host::patience::Deadline;

/// Shell script that takes `$1` bytes for a moment. Where memory is short, the kernel kills this program before any other.
const TAKE: &str = r#"echo 1000 > /proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs="$1" count=1"#;

/// Shell script that takes `$1` bytes and keeps them: `tail`, which prints the end of its input, keeps the bytes until the input ends,
/// which `sleep` prevents.
const KEEP: &str = r#"( head -c "$1" /dev/zero; exec sleep 2000000000 ) | tail -c "$1" &"#;

/// Shell script that takes ever more memory, `$1` bytes at most.
const TAKE_ALL: &str = r#"cat /dev/zero | tail -c "$1" &"#;

/// Exit status of a program that SIGKILL has ended.
const KILLED: i32 = 128 + 9;

/// Bytes that a program needs beside the requested amount, and that other programs need meanwhile.
const SLACK_BYTES: u64 = 2 << 20;

/// Maximum number of bytes above a limit that are taken to test the limit.
const EXCESS_BYTES_MAX: u64 = 16 << 20;

/// Bytes that a program takes to show that a container has memory to spare.
const SMALL_BYTES: u64 = 1 << 20;

/// Deadline for a program to take its memory on a busy machine.
const DEADLINE: Deadline = Deadline::from_secs(60);

/// Interval between two readings of memory usage.
const POLL: Duration = Duration::from_millis(2);

/// Fault that limits the memory of a container (`memory.limit`).
pub struct Limit {
    bytes: u64,
    /// Memory limit without the fault, in bytes.
    before: u64,
    bounds: Vec<CgroupOverride>,
}

/// Result of a program that took memory.
struct Taken {
    bytes: u64,
    status: i32,
    refusals: u64,
    kills: u64,
}

impl Taken {
    fn is_whole(&self) -> bool {
        self.status == 0 && self.kills == 0
    }
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.bytes;
        match self.status {
            0 => write!(f, "a program took {bytes} bytes of memory")?,
            KILLED => write!(f, "a program that took {bytes} bytes of memory was killed")?,
            status => write!(f, "a program that took {bytes} bytes of memory ended with status {status}")?,
        }
        if self.refusals > 0 { write!(f, ", and met the memory limit {} times", self.refusals) } else { Ok(()) }
    }
}

/// Has a program in the container take this many bytes.
fn take(target: &FaultTarget<'_>, bytes: u64) -> anyhow::Result<Taken> {
    let group = target.container.group()?;
    let counts = || -> anyhow::Result<_> { Ok((group.gauge(Gauge::MemoryRefusals)?, group.gauge(Gauge::OomKills)?)) };
    let begun = Instant::now();
    loop {
        let before = counts()?;
        let output = target.exec_within(&["/bin/sh", "-c", TAKE, "take", &bytes.to_string()], DEADLINE.scaled())?;
        if output.timed_out {
            bail!(
                "a program in {} could not take {bytes} bytes of memory within {} s",
                target.name(),
                DEADLINE.scaled().as_secs()
            );
        }
        // It did not come so far where there is no room for a process, until those that are dead have been collected.
        if [0, KILLED].contains(&output.status) || begun.elapsed() > target.within(ROOM_DEADLINE.scaled()) {
            let (after, status) = (counts()?, output.status);
            let (refusals, kills) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
            return Ok(Taken { bytes, status, refusals, kills });
        }
        std::thread::sleep(POLL);
    }
}

impl Limit {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, before: 0, bounds: Vec::new() }
    }

    /// Returns a number of bytes that a program gets without the fault and not with it, while other processes hold `held` bytes.
    fn probe_bytes(&self, held: u64) -> u64 {
        let excess = (self.before.saturating_sub(self.bytes) / 2).min(EXCESS_BYTES_MAX);
        self.bytes.saturating_sub(held) + excess
    }

    /// Observes that a program cannot take more memory than the fault leaves.
    fn refuses(&self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let taken = take(target, self.probe_bytes(target.container.group()?.held_bytes()?))?;
        // With swap that cannot be bounded it is not killed, but some of it is moved there.
        if taken.is_whole() && !(has_swap() && taken.refusals > 0) || !taken.is_whole() && taken.kills == 0 {
            bail!("the limit did not take effect: {taken}");
        }
        Ok(taken.to_string())
    }
}

impl Effect for Limit {
    fn supported(&self) -> anyhow::Result<()> {
        controller("memory.limit", Setting::Memory)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let group = target.container.group()?;
        let (bound, held) = (group.bound(Setting::Memory)?, group.held_bytes()?);
        if bound.is_some_and(|bound| bound < target.container.machine().template.limits.memory) {
            let message =
                format!("memory.limit: the memory of {} is limited already: heal that fault first", target.name());
            return Err(usage(message));
        }
        let available = Memory::now().available_bytes + group.gauge(Gauge::MemoryBytes)?;
        self.before = bound.unwrap_or(u64::MAX).min(available);
        let (least, most) = (held + SLACK_BYTES, self.before.saturating_sub(2 * SLACK_BYTES));
        if !(least..=most).contains(&self.bytes) {
            let message = format!(
                "memory.limit: {} holds {held} bytes that the kernel cannot reclaim, and may use {} bytes: choose \
                 a limit of {least} to {most} bytes",
                target.name(),
                self.before
            );
            return Err(usage(message));
        }
        let taken = take(target, self.probe_bytes(held))?;
        if !taken.is_whole() {
            bail!("memory is short in {} without the fault: {taken}", target.name());
        }
        Ok(taken.to_string())
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let group = target.container.group()?;
        let swap = if has_swap() { group.no_swap_text(self.bytes).ok() } else { None };
        let memory = CgroupOverride::set(target, Setting::Memory, self.bytes.to_string());
        let held = group.held_bytes()?;
        // Version 1 refuses a bound below what is in use, and what is in use may have grown.
        let memory = memory.with_context(|| {
            format!("limiting the memory of {}, which holds {held} bytes that the kernel cannot reclaim", target.name())
        })?;
        self.bounds.push(memory);
        if let Some(swap) = swap {
            self.bounds.push(CgroupOverride::set(target, Setting::Swap, swap)?);
        }
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        self.refuses(target)
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let is_set = || self.bounds.first().map_or(Ok(false), |bound| bound.is_set(target));
        Lasted::proved(self.refuses(target), Keeper::Host, is_set)
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        // Swap first: in version 1 its bound is never below that of memory.
        self.bounds.iter().rev().try_for_each(|bound| bound.put_back(target))
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing bounds its memory any more"));
        }
        let held = target.container.group()?.held_bytes()?;
        if held > self.bytes {
            return Ok(format!(
                "the limit is gone: the container's processes hold {held} bytes, more than the fault allowed"
            ));
        }
        let taken = take(target, self.probe_bytes(held))?;
        if !taken.is_whole() {
            bail!("memory is still short in {}: {taken}", target.name());
        }
        Ok(taken.to_string())
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bounds.iter_mut().try_for_each(|bound| bound.set_again(target))
    }
}

/// Fault that runs a process in a container which takes memory and keeps it (`memory.pressure`).
pub struct Pressure {
    bytes: u64,
    held_before: u64,
}

impl Pressure {
    const HOGS: Hogs = Hogs::named("memory.pressure");

    pub fn new(bytes: u64) -> Self {
        Self { bytes, held_before: 0 }
    }

    /// Starts the process and waits until it has its memory; returns the bytes that the process holds, and those that the container holds
    /// in all.
    fn take(&self, target: &FaultTarget<'_>) -> anyhow::Result<(u64, u64)> {
        let group = target.container.group()?;
        Self::HOGS.start(target, KEEP, &[&self.bytes.to_string()])?;
        let begun = Instant::now();
        loop {
            let hogs = Self::HOGS.running(target);
            let (taken, held) = (hogs.iter().map(Running::memory_bytes).sum(), group.held_bytes()?);
            // What is in swap is not counted as held.
            if taken >= self.bytes && (held >= self.held_before + self.bytes * 4 / 5 || has_swap()) {
                return Ok((taken, held));
            }
            if hogs.is_empty() {
                bail!("the fault's process that takes memory has ended: the kernel has killed it");
            }
            if begun.elapsed() > DEADLINE.scaled() {
                bail!("the fault's process has taken only {taken} bytes within {} s", DEADLINE.scaled().as_secs());
            }
            std::thread::sleep(POLL); // until it has taken more
        }
    }
}

impl Effect for Pressure {
    fn supported(&self) -> anyhow::Result<()> {
        controller("memory.pressure", Setting::Memory)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        if !Self::HOGS.running(target).is_empty() {
            return Err(usage(format!(
                "memory.pressure: {} has a fault of this kind already: heal that fault first",
                target.name()
            )));
        }
        let (bound, held) = may_hold(target)?;
        let most = bound.saturating_sub(held).saturating_sub(SLACK_BYTES);
        // The lists in which it is kept need a little more.
        if !(SMALL_BYTES..=most - most / 32).contains(&self.bytes) {
            let message = format!(
                "memory.pressure: {} holds {held} of {bound} bytes: the fault can take {SMALL_BYTES} to {} bytes",
                target.name(),
                most - most / 32
            );
            return Err(usage(message));
        }
        self.held_before = held;
        Ok(format!("the container's processes hold {held} of {bound} bytes of memory"))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.take(target).map(drop)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let taken: u64 = Self::HOGS.running(target).iter().map(Running::memory_bytes).sum();
        let held = target.container.group()?.held_bytes()?;
        if taken < self.bytes {
            bail!("the fault's process holds only {taken} bytes: the kernel has killed it");
        }
        Ok(format!("the fault's process holds {taken} bytes, and all processes of {} {held} bytes", target.name()))
    }

    /// Verifies the effect again before healing. A process that the kernel has killed for want of memory has given the memory back.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        Ok(match self.verify_effect(target) {
            Ok(evidence) => Lasted::until_now(evidence),
            Err(error) => Lasted::lost(Keeper::Container, format!("{error:#}")),
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Self::HOGS.end(target)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        given_back(target, Self::HOGS)
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if !Self::HOGS.running(target).is_empty() {
            return Ok(());
        }
        self.held_before = target.container.group()?.held_bytes()?;
        self.take(target).map(drop)
    }
}

/// Fault that takes memory in a container until the kernel kills a process (`memory.oom`). Where that ends the machine, the fault is blamed
/// for it, and the machine stays down until the fault is healed.
pub struct OutOfMemory {
    /// Memory limit in bytes, and number of kills, before the injection.
    before: (u64, u64),
    swap: Option<CgroupOverride>,
    was_down: bool,
}

impl OutOfMemory {
    const NAME: &str = "memory.oom";
    const HOGS: Hogs = Hogs::named(Self::NAME);

    pub fn new() -> Self {
        Self { before: (0, 0), swap: None, was_down: false }
    }

    /// Tells whether the machine has ended for want of memory.
    fn is_down(target: &FaultTarget<'_>) -> bool {
        target.container.notice_end();
        target.container.outage().is_some_and(|outage| outage.cause == Self::NAME)
    }

    fn kills(target: &FaultTarget<'_>) -> anyhow::Result<u64> {
        target.container.group()?.gauge(Gauge::OomKills)
    }
}

impl Effect for OutOfMemory {
    fn supported(&self) -> anyhow::Result<()> {
        controller("memory.oom", Setting::Memory)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let group = target.container.group()?;
        let (now, available) = (group.gauge(Gauge::MemoryBytes)?, Memory::now().available_bytes);
        let bound = group.bound(Setting::Memory)?.filter(|bound| *bound < available + now);
        let Some(bound) = bound else {
            let problem = format!(
                "memory.oom: {} may use more memory than this host has left ({available} bytes)",
                target.name()
            );
            let help =
                "limit memory in the container's template (`[limits] memory`), or by memory.limit, or free memory on the host"
                    .into();
            return Err(Error::Host { problem, help }.into());
        };
        if has_swap() && group.no_swap_text(bound).is_err() {
            let problem =
                "memory.oom: this host has swap, and its kernel cannot limit what a container uses of the swap";
            let help = "boot with swapaccount=1, or run `swapoff -a`".into();
            return Err(Error::Host { problem: problem.into(), help }.into());
        }
        self.before = (bound, Self::kills(target)?);
        Ok(format!(
            "the container's processes use {now} of {bound} bytes of memory; the kernel has killed {} of them",
            self.before.1
        ))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (bound, _) = self.before;
        if has_swap() {
            let none = target.container.group()?.no_swap_text(bound)?;
            self.swap = Some(CgroupOverride::set(target, Setting::Swap, none)?);
        }
        target.container.claim_end(Self::NAME);
        let started = Self::HOGS.start(target, TAKE_ALL, &[&(bound + EXCESS_BYTES_MAX).to_string()]);
        started.or_else(|error| if Self::is_down(target) { Ok(()) } else { Err(error) })
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (_, before) = self.before;
        let begun = Instant::now();
        loop {
            let (hogs, kills) = (Self::HOGS.running(target).len(), Self::kills(target));
            if Self::is_down(target) {
                return Ok("process 1 has ended while memory was taken: the machine is down".into());
            }
            let kills = kills?.saturating_sub(before);
            // Process 1 takes all others with it before it is gone itself.
            let is_going = target.container.init_pid().is_ok_and(process::is_ending);
            if hogs == 0 && kills > 0 && !is_going {
                let killed = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") };
                if let Some(swap) = self.swap.take() {
                    swap.put_back(target)?;
                }
                return Ok(format!(
                    "the kernel has killed {killed} for want of memory; the fault's processes are gone"
                ));
            }
            if (hogs == 0 && !is_going) || begun.elapsed() > DEADLINE.scaled() {
                bail!(
                    "the fault did not finish: the kernel's OOM killer ended {kills} processes, and {hogs} of the fault's \
                     processes still hold memory"
                );
            }
            std::thread::sleep(POLL); // until it has taken all
        }
    }

    fn lasts(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        Ok(Lasted::Momentary)
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let is_down = Self::is_down(target);
        self.was_down |= is_down;
        target.container.release_end();
        self.swap.as_ref().map_or(Ok(()), |swap| swap.put_back(target))?;
        if is_down { target.lab.start_again(target.container) } else { Self::HOGS.end(target) }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        given_back(target, Self::HOGS)
    }

    fn starts_container(&self) -> bool {
        self.was_down
    }
}

/// Returns the memory limit of the container, and the bytes that it holds.
fn may_hold(target: &FaultTarget<'_>) -> anyhow::Result<(u64, u64)> {
    let group = target.container.group()?;
    let (now, held): (u64, u64) = (group.gauge(Gauge::MemoryBytes)?, group.held_bytes()?);
    let bound = group.bound(Setting::Memory)?.unwrap_or(u64::MAX);
    Ok((bound.min(Memory::now().available_bytes + now), held))
}

/// Verifies that no process of the fault takes memory any more, and that another process gets some; returns the observation.
fn given_back(target: &FaultTarget<'_>, hogs: Hogs) -> anyhow::Result<String> {
    if let Some(outage) = target.container.outage() {
        return Ok(format!("{outage}; nothing takes its memory when it goes on"));
    }
    let left = hogs.running(target).len();
    if left > 0 {
        bail!("{left} of the fault's processes still take memory");
    }
    let taken = take(target, SMALL_BYTES)?;
    let held = Group::held_bytes(&target.container.group()?)?;
    if !taken.is_whole() {
        bail!("memory is still short in {}: {taken}; all processes of the container hold {held} bytes", target.name());
    }
    Ok(format!("{taken}; all processes of {} hold {held} bytes", target.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_tried_out_between_what_is_there_with_it_and_without() {
        for (bytes, before, held) in
            [(32 << 20, 64 << 20, 1 << 20), (1 << 30, 64 << 30, 0), (60 << 20, 64 << 20, 9 << 20)]
        {
            let limit = Limit { before, ..Limit::new(bytes) };
            let taken = held + limit.probe_bytes(held);
            assert!(taken >= bytes + SLACK_BYTES && taken + SLACK_BYTES <= before, "{taken} of {bytes} to {before}");
        }
    }

    #[test]
    fn only_what_was_taken_without_a_kill_is_whole() {
        let taken = |status: i32, refusals: u64, kills: u64| Taken { bytes: 5, status, refusals, kills };
        assert!(taken(0, 0, 0).is_whole() && !taken(KILLED, 3, 1).is_whole() && !taken(0, 3, 1).is_whole());
        let text = taken(KILLED, 3, 1).to_string();
        assert_eq!(text, "a program that took 5 bytes of memory was killed, and met the memory limit 3 times");
    }
}
