//! Faults of processor time: a quota, fewer processors, or other processes that use the time up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;

use super::cgroup_override::CgroupOverride;
use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::hog::Hogs;
use crate::error::Error;
use crate::host::cgroup::{CpuShare, Gauge, Group, Setting, cpus_at_most, parse_cpus};
use crate::host::exec::process::Running;
use crate::host::machine::hardware::processors;
use crate::host::patience::Deadline;

/// Shell script that starts `$1` busy programs.
const BUSY: &str = r#"n=0; while [ "$n" -lt "$1" ]; do (while :; do :; done) & n=$((n + 1)); done"#;

/// Minimum duration of one measurement of the processor time of busy programs.
const WINDOW: Duration = Duration::from_millis(300);

/// Minimum number of the quota's periods in one measurement: enough to see the quota throttle several times.
const PERIODS: u64 = 8;

/// Deadline for an observation on a busy machine.
const DEADLINE: Deadline = Deadline::from_secs(20);

/// Interval between two readings of a program's processor time.
const POLL: Duration = Duration::from_millis(2);

/// Maximum number of busy programs that are started at once.
const BUSY_MAX: u32 = 64;

/// Maximum quota whose effect can be observed, as a fraction of the processor time that the container gets without the fault.
const SHARE_OF_NOW_MAX: f64 = 0.8;

/// Minimum factor between two shares of processor time that count as different.
const MARGIN: f64 = 1.25;

/// Fault that limits the processor time of a container (`cpu.quota`).
pub struct Quota {
    percent: u32,
    before: Option<CpuShare>,
    bound: Option<CgroupOverride>,
}

/// Processor time that busy programs used in one measurement.
#[derive(Debug, Clone, Copy)]
struct Window {
    took: Duration,
    used: Duration,
    periods: u64,
    throttled: u64,
}

impl Window {
    fn percent(&self) -> f64 {
        self.used.as_secs_f64() * 100.0 / self.took.as_secs_f64()
    }
}

impl Quota {
    const PROBE: Hogs = Hogs::named("cpu.quota-probe");

    pub fn new(percent: u32) -> Self {
        Self { percent, before: None, bound: None }
    }

    /// Runs busy programs and measures windows of time, each ended by `is_full`, until `is_enough` is true of one; returns the last window.
    fn watch(
        &self,
        target: &FaultTarget<'_>,
        is_full: impl Fn(&Window) -> bool,
        is_enough: impl Fn(&Window) -> bool,
    ) -> anyhow::Result<Window> {
        let group = target.container.group()?;
        let busy = (self.percent.div_ceil(100) + 1).min(BUSY_MAX);
        Self::PROBE.start(target, BUSY, &[&busy.to_string()])?;
        let seen = self.windows(&group, target.within(DEADLINE.scaled()), is_full, is_enough);
        Self::PROBE.end(target)?;
        seen
    }

    fn windows(
        &self,
        group: &Group,
        deadline: Duration,
        is_full: impl Fn(&Window) -> bool,
        is_enough: impl Fn(&Window) -> bool,
    ) -> anyhow::Result<Window> {
        let gauges = || -> anyhow::Result<_> {
            Ok((group.gauge(Gauge::CpuPeriods)?, group.gauge(Gauge::CpuThrottled)?, group.cpu_time()?))
        };
        let deadline = Instant::now() + deadline;
        loop {
            let (begun, (periods, throttled, used)) = (Instant::now(), gauges()?);
            loop {
                let now = gauges()?;
                let window = Window {
                    took: begun.elapsed(),
                    used: now.2.saturating_sub(used),
                    periods: now.0.saturating_sub(periods),
                    throttled: now.1.saturating_sub(throttled),
                };
                let late = Instant::now() > deadline;
                if is_full(&window) || late {
                    if is_enough(&window) || late {
                        return Ok(window);
                    }
                    break;
                }
                std::thread::sleep(POLL); // until the kernel has counted more
            }
        }
    }

    /// Tells whether busy programs get clearly more processor time than the fault leaves them.
    fn is_free(&self, window: &Window) -> bool {
        window.percent() > f64::from(self.percent) * MARGIN
    }

    /// Tells whether programs got so little processor time, from a busy host, that the measurement does not show whether the quota
    /// throttled them.
    fn is_starved(&self, before: &CpuShare, window: &Window) -> bool {
        let quota_us = (before.period_us * u64::from(self.percent) / 100) as f64;
        (window.used.as_secs_f64() * 1e6) < quota_us * window.periods as f64 * 0.9
    }

    /// Tells whether only the fault's quota explains a window: the quota was used up several times, and programs got no more than it
    /// allows, while the quota from before the fault would have given them more in as many periods.
    fn is_bound(&self, before: &CpuShare, window: &Window) -> bool {
        let quota_us = (before.period_us * u64::from(self.percent) / 100) as f64;
        let used_us = window.used.as_secs_f64() * 1e6;
        // A period is begun at each end, and each processor keeps a little from one to the next.
        let most_us = quota_us * (window.periods + 1) as f64 * 1.05 + 10_000.0;
        let least_before_us =
            before.quota_us.map_or(f64::INFINITY, |quota| quota as f64 * window.throttled as f64 * 0.9);
        window.throttled >= 3 && used_us <= most_us && used_us < least_before_us
    }
}

impl Effect for Quota {
    fn supported(&self) -> anyhow::Result<()> {
        controller("cpu.quota", Setting::CpuTime)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let share = target.container.group()?.cpu_share()?;
        let configured = target.container.machine().template.limits.cpus.min(cpus_at_most()) * 100.0;
        if share.percent().is_some_and(|now| now < configured * 0.99) {
            let message =
                format!("cpu.quota: the processor time of {} is limited already: heal that fault first", target.name());
            return Err(usage(message));
        }
        let processors = processors();
        let now = share.percent().unwrap_or(f64::INFINITY).min(processors as f64 * 100.0);
        if f64::from(self.percent) > now * SHARE_OF_NOW_MAX {
            let most = now * SHARE_OF_NOW_MAX;
            let message = format!(
                "cpu.quota: {} may use {now:.0} % of a processor now: choose at most {most:.0} %",
                target.name()
            );
            return Err(usage(message));
        }
        let window = self.watch(target, |window| window.took >= WINDOW, |window| self.is_free(window))?;
        if !self.is_free(&window) {
            let problem = format!(
                "cpu.quota: even without the fault, busy programs in {} get only {:.0} % of a processor",
                target.name(),
                window.percent()
            );
            let help = "choose a lower percentage, or a host with less to do".into();
            return Err(Error::Host { problem, help }.into());
        }
        self.before = Some(share);
        Ok(format!("busy programs in {} got {:.0} % of a processor", target.name(), window.percent()))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let value = target.container.group()?.cpu_share_text(self.percent)?;
        self.bound = Some(CgroupOverride::set(target, Setting::CpuTime, value)?);
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let before = self.before.context("the state before the fault was not observed")?;
        let is_bound = |window: &Window| self.is_bound(&before, window);
        let window = self.watch(target, |window| window.periods >= PERIODS, is_bound)?;
        let seen = format!(
            "busy programs in {} got {:.1} % of a processor, and used up their quota in {} of {} periods",
            target.name(),
            window.percent(),
            window.throttled,
            window.periods
        );
        if !is_bound(&window) && self.is_starved(&before, &window) {
            let problem =
                format!("cpu.quota: {seen}: the host leaves these programs less processor time than the fault allows");
            let help = "choose a lower percentage, or a host with less to do".into();
            return Err(Error::Host { problem, help }.into());
        }
        if !is_bound(&window) {
            bail!("{seen}: this does not show that the limit takes effect");
        }
        Ok(seen)
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let proof = self.verify_effect(target);
        Lasted::proved(proof, Keeper::Host, || self.bound.as_ref().map_or(Ok(false), |bound| bound.is_set(target)))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_ref().map_or(Ok(()), |bound| bound.put_back(target))?;
        Self::PROBE.end(target)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing bounds its processor time any more"));
        }
        let window = self.watch(target, |window| window.took >= WINDOW, |window| self.is_free(window))?;
        let seen = format!("busy programs in {} got {:.0} % of a processor", target.name(), window.percent());
        if !self.is_free(&window) {
            bail!("{seen}, hardly more than with the fault");
        }
        Ok(seen)
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_mut().map_or(Ok(()), |bound| bound.set_again(target))
    }
}

/// Fault that leaves a container fewer processors (`cpu.pin`).
pub struct Pin {
    text: String,
    cpus: Vec<usize>,
    /// A processor that the fault takes away.
    lost: usize,
    bound: Option<CgroupOverride>,
}

/// Minimum number of observations of a program, and minimum processor time that the program uses meanwhile, to tell on which processors it
/// runs.
const LOOKS_MIN: usize = 20;
const LOOK_TIME: Duration = Duration::from_millis(50);

impl Pin {
    const PROBE: Hogs = Hogs::named("cpu.pin-probe");

    pub fn new(cpus: &str) -> Self {
        Self { text: cpus.to_owned(), cpus: Vec::new(), lost: 0, bound: None }
    }

    /// Runs a busy program in the container while `look` observes it.
    fn with_program<T>(target: &FaultTarget<'_>, look: impl Fn(&Running) -> anyhow::Result<T>) -> anyhow::Result<T> {
        Self::PROBE.start(target, BUSY, &["1"])?;
        let looked = Self::PROBE
            .running(target)
            .first()
            .context("the busy program that tests the fault has ended")
            .and_then(look);
        Self::PROBE.end(target)?;
        looked
    }

    /// Binds a program to a processor that the fault takes away, and waits until the program runs there; the inner error is the kernel's
    /// refusal.
    fn runs_on_lost(&self, program: &Running) -> anyhow::Result<Result<(), Errno>> {
        if let Err(error) = program.bind_to(self.lost) {
            return Ok(Err(error));
        }
        let used = program.cpu_time().context("the busy program that tests the fault has ended")?;
        let begun = Instant::now();
        loop {
            let now = program.cpu_time().context("the busy program that tests the fault has ended")?;
            if now > used && program.processor() == Some(self.lost) {
                return Ok(Ok(()));
            }
            if begun.elapsed() > DEADLINE.scaled() {
                bail!("a busy program that was bound to processor {} was not seen running on it", self.lost);
            }
            std::thread::sleep(POLL); // until it has its turn
        }
    }

    /// Returns the processors on which a program was observed to run.
    fn seen_on(target: &FaultTarget<'_>, program: &Running) -> anyhow::Result<Vec<usize>> {
        let gone = || "the busy program that tests the fault has ended".to_owned();
        let (begun, used) = (Instant::now(), program.cpu_time().with_context(gone)?);
        let (mut seen, mut looks) = (Vec::new(), 0);
        loop {
            let processor = program.processor().with_context(gone)?;
            if !seen.contains(&processor) {
                seen.push(processor);
            }
            looks += 1;
            if looks >= LOOKS_MIN && program.cpu_time().with_context(gone)?.saturating_sub(used) >= LOOK_TIME {
                seen.sort_unstable();
                return Ok(seen);
            }
            if begun.elapsed() > target.within(DEADLINE.scaled()) {
                bail!("a busy program in {} gets no processor time", target.name());
            }
            std::thread::sleep(POLL); // until it has its turn
        }
    }

    /// Processors that the container may use now, and those that it may use without a fault.
    fn allowed(target: &FaultTarget<'_>) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
        let now = Self::with_program(target, |program| {
            program.processors().context("the busy program that tests the fault has ended")
        })?;
        let slot = Group::named(&target.container.cgroup_name());
        let above = slot.read(Setting::Cpus).ok().and_then(|list| parse_cpus(&list)).filter(|list| !list.is_empty());
        Ok((now.clone(), above.unwrap_or(now)))
    }
}

impl Effect for Pin {
    fn supported(&self) -> anyhow::Result<()> {
        controller("cpu.pin", Setting::Cpus)?;
        if processors() > 1 {
            return Ok(());
        }
        let problem = "cpu.pin: this host has only one processor, so none can be taken away".into();
        Err(Error::Host { problem, help: "use a host with more processors".into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(cpus) = parse_cpus(&self.text).filter(|cpus| !cpus.is_empty()) else {
            let message = format!("cpu.pin: {:?} is no list of processors such as 0 or 0-1,3", self.text);
            return Err(usage(message));
        };
        let (now, above) = Self::allowed(target)?;
        if now.len() < above.len() {
            let message =
                format!("cpu.pin: the processors of {} are limited already: heal that fault first", target.name());
            return Err(usage(message));
        }
        let stray = cpus.iter().find(|cpu| !now.contains(cpu));
        let lost = now.iter().find(|cpu| !cpus.contains(cpu));
        let (None, Some(lost)) = (stray, lost) else {
            let message =
                format!("cpu.pin: {} may use the processors {now:?}: name some of them, not all", target.name());
            return Err(usage(message));
        };
        (self.cpus, self.lost) = (cpus, *lost);
        match Self::with_program(target, |program| self.runs_on_lost(program))? {
            Ok(()) => Ok(format!("a busy program in {} ran on processor {}", target.name(), self.lost)),
            Err(error) => bail!(
                "even without the fault, a program of {} cannot be bound to processor {}: {error}",
                target.name(),
                self.lost
            ),
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound = Some(CgroupOverride::set(target, Setting::Cpus, self.text.trim().to_owned())?);
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (seen, moved) =
            Self::with_program(target, |program| Ok((Self::seen_on(target, program)?, program.bind_to(self.lost))))?;
        if let Some(stray) = seen.iter().find(|processor| !self.cpus.contains(processor)) {
            bail!("a busy program in {} ran on processor {stray}, which the fault takes away", target.name());
        }
        match moved {
            Err(Errno::EINVAL) => Ok(format!(
                "a busy program in {} ran on processors {seen:?} only, and could not be bound to processor {}",
                target.name(),
                self.lost
            )),
            Err(error) => {
                bail!(
                    "binding a program of {} to processor {} failed, but not because the program may not use the processor: {error}",
                    target.name(),
                    self.lost
                )
            }
            Ok(()) => bail!(
                "a program of {} could still be bound to processor {}, which the fault takes away",
                target.name(),
                self.lost
            ),
        }
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let proof = self.verify_effect(target);
        Lasted::proved(proof, Keeper::Host, || self.bound.as_ref().map_or(Ok(false), |bound| bound.is_set(target)))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_ref().map_or(Ok(()), |bound| bound.put_back(target))?;
        Self::PROBE.end(target)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing bounds its processors any more"));
        }
        match Self::with_program(target, |program| self.runs_on_lost(program))? {
            Ok(()) => Ok(format!("a busy program in {} ran on processor {} again", target.name(), self.lost)),
            Err(error) => {
                bail!("a program of {} still cannot be bound to processor {}: {error}", target.name(), self.lost)
            }
        }
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.bound.as_mut().map_or(Ok(()), |bound| bound.set_again(target))
    }
}

/// Fault that runs busy processes in a container, which use all the processor time they get (`cpu.burn`).
pub struct Burn {
    processes: u32,
}

impl Burn {
    const HOGS: Hogs = Hogs::named("cpu.burn");

    pub fn new(processes: u32) -> Self {
        Self { processes }
    }

    fn start(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Self::HOGS.start(target, BUSY, &[&self.processes.to_string()])
    }

    /// Returns a sentence on the processor time that the container's processes use during one measurement.
    fn used(target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let group = target.container.group()?;
        let (begun, used) = (Instant::now(), group.cpu_time()?);
        while begun.elapsed() < WINDOW {
            std::thread::sleep(POLL); // the window's length is what is measured over
        }
        let used = group.cpu_time()?.saturating_sub(used);
        Ok(format!(
            "the container's processes used {} ms of processor time in {} ms",
            used.as_millis(),
            begun.elapsed().as_millis()
        ))
    }
}

impl Effect for Burn {
    fn supported(&self) -> anyhow::Result<()> {
        controller("cpu.burn", Setting::CpuTime)
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let (there, group) = (Self::HOGS.running(target).len(), target.container.group()?);
        if there > 0 {
            let message = format!(
                "cpu.burn: {there} processes of an earlier cpu.burn run in {}: heal that fault first",
                target.name()
            );
            return Err(usage(message));
        }
        let now = group.gauge(Gauge::Processes)?;
        // One more for the shell that starts them, and one for what brings it there.
        if let Some(most) = group.bound(Setting::Processes)?.filter(|most| now + u64::from(self.processes) + 2 > *most)
        {
            let message = format!(
                "cpu.burn: {} has no room for the fault's processes: it runs {now} and may run {most}: choose fewer",
                target.name()
            );
            return Err(usage(message));
        }
        Self::used(target)
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.start(target)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let group = target.container.group()?;
        let (begun, used) = (Instant::now(), group.cpu_time()?);
        loop {
            let hogs = Self::HOGS.running(target);
            let times: Vec<Duration> = hogs.iter().filter_map(Running::cpu_time).collect();
            let all = times.iter().sum::<Duration>();
            let counted = group.cpu_time()?.saturating_sub(used);
            let each_runs = times.len() == self.processes as usize && times.iter().all(|time| !time.is_zero());
            if each_runs && all >= LOOK_TIME && counted >= LOOK_TIME {
                let took = begun.elapsed().as_millis();
                return Ok(format!(
                    "{} busy processes run; all processes of the machine used {} ms of processor time in {took} ms",
                    times.len(),
                    counted.as_millis()
                ));
            }
            if begun.elapsed() > target.within(DEADLINE.scaled()) {
                bail!(
                    "the fault's processes do not all run, or get too little time: {} run, and have used {} ms of processor time together",
                    times.len(),
                    all.as_millis()
                );
            }
            std::thread::sleep(POLL); // until each has had its turn
        }
    }

    /// Verifies the effect again before healing. The kernel, or somebody in the container, may have killed the busy processes.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let running = Self::HOGS.running(target).len();
        if running < self.processes as usize {
            return Ok(Lasted::lost(
                Keeper::Container,
                format!("only {running} of the fault's {} processes run", self.processes),
            ));
        }
        Lasted::proved(self.verify_effect(target), Keeper::Container, || Ok(true))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Self::HOGS.end(target)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing uses up its processor time when it goes on"));
        }
        let left = Self::HOGS.running(target).len();
        if left > 0 {
            bail!("{left} of the fault's processes still run");
        }
        Self::used(target)
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if Self::HOGS.running(target).is_empty() { self.start(target) } else { Ok(()) }
    }
}

/// Fails where the kernel lacks the cgroup controller of the setting that a fault changes.
pub(super) fn controller(fault: &str, setting: Setting) -> anyhow::Result<()> {
    let Some(name) = setting.missing_controller() else { return Ok(()) };
    let problem = format!("{fault}: the kernel has no cgroup controller {name}");
    let help = format!("boot a kernel that has it, without cgroup_disable={name}; `cargo xtask doctor` says more");
    Err(Error::Host { problem, help }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_seen_only_where_no_other_bound_explains_it() {
        let quota = Quota::new(20);
        let before = CpuShare { quota_us: Some(50_000), period_us: 100_000 };
        let free = CpuShare { quota_us: None, period_us: 100_000 };
        let window = |used_ms: u64, throttled: u64| Window {
            took: Duration::from_millis(800),
            used: Duration::from_millis(used_ms),
            periods: 8,
            throttled,
        };
        assert!(quota.is_bound(&before, &window(160, 8)));
        assert!(quota.is_bound(&before, &window(160, 4)));
        assert!(!quota.is_bound(&before, &window(160, 3)), "three periods of the bound before are 150 ms");
        assert!(!quota.is_bound(&before, &window(400, 8)), "that is what it got before");
        assert!(!quota.is_bound(&before, &window(100, 0)), "something else kept it from running");
        assert!(quota.is_starved(&before, &window(100, 0)));
        assert!(!quota.is_starved(&before, &window(400, 8)));
        assert!(quota.is_bound(&free, &window(160, 3)));
        assert!(!quota.is_bound(&free, &window(160, 0)));
    }
}
