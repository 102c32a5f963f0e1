//! Faults of whole machines: killed, stopped, frozen.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::error::Error;
use crate::host::patience::Deadline;

/// Minimum time without a sign of life from a program for its machine to count as frozen.
const STILL_FOR: Deadline = Deadline::from_millis(150);

/// Deadline for the last processes of a machine to end, and the interval between two checks.
const END_DEADLINE: Deadline = Deadline::from_secs(5);
const END_POLL: Duration = Duration::from_millis(1);

/// Interval between two checks of a restarted machine while it has to stay up.
const UP_POLL: Duration = Duration::from_millis(5);

const THAW_DEADLINE: Deadline = Deadline::from_secs(10);

/// Fault that takes a machine down until it is healed (`node.kill`, `node.stop`).
pub struct Down {
    grace: Option<Duration>,
    /// True if this fault, and no other, has taken the machine down.
    is_ours: bool,
}

impl Down {
    pub fn kill() -> Self {
        Self { grace: None, is_ours: false }
    }

    pub fn stop(grace: Duration) -> Self {
        Self { grace: Some(grace), is_ours: false }
    }
}

impl Effect for Down {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        Ok(format!("{} processes run in the container", target.container.running_processes()))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let done = match self.grace {
            None => target.lab.kill(target.container, "node.kill"),
            Some(grace) => target.lab.stop(target.container, grace, "node.stop"),
        };
        self.is_ours = !is_refused(&done);
        done
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        wait_until_empty(target)?;
        Ok("none of the container's processes is left".into())
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        Ok(is_still_down(target))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.is_ours { target.lab.start_again(target.container) } else { Ok(()) }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        run_a_program(target)
    }

    fn starts_container(&self) -> bool {
        true
    }
}

/// Fault that kills and starts a machine several times in a row, and leaves it down until it is healed (`node.restart-storm`).
pub struct RestartStorm {
    times: u32,
    up: Duration,
    seen_up: u32,
    /// True if this fault, and no other, has taken the machine down.
    is_ours: bool,
}

impl RestartStorm {
    pub fn new(times: u32, up_ms: u64) -> Self {
        Self { times, up: Duration::from_millis(up_ms), seen_up: 0, is_ours: false }
    }

    fn kill(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let done = target.lab.kill(target.container, "node.restart-storm");
        self.is_ours = !is_refused(&done);
        done
    }

    /// Waits until the machine has been up for the fault's `up_ms`.
    fn stay_up(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < self.up {
            target.container.fail_if_dead()?;
            std::thread::sleep(UP_POLL.min(self.up.saturating_sub(begun.elapsed()))); // that it stays up is what is asked for
        }
        Ok(())
    }
}

impl Effect for RestartStorm {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        Ok(format!("{} processes run in the container", target.container.running_processes()))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        for _ in 0..self.times {
            self.kill(target)?;
            target.lab.start_again(target.container)?;
            self.seen_up += 1;
            self.stay_up(target)?;
        }
        self.kill(target)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        wait_until_empty(target)?;
        let times = if self.seen_up == 1 { "once".to_owned() } else { format!("{} times", self.seen_up) };
        Ok(format!("the container ran a program {times} in between, and none of its processes is left"))
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        Ok(is_still_down(target))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.is_ours { target.lab.start_again(target.container) } else { Ok(()) }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        run_a_program(target)
    }

    fn starts_container(&self) -> bool {
        true
    }
}

/// Checks that a machine that was taken down still has no processes.
fn is_still_down(target: &FaultTarget<'_>) -> Lasted {
    let left = target.container.running_processes();
    match target.container.outage() {
        Some(outage) if !outage.frozen && left == 0 => Lasted::until_now("none of the container's processes is left"),
        Some(outage) if !outage.frozen => Lasted::lost(Keeper::Host, format!("{left} processes of the container run")),
        _ => Lasted::over("the container was started again"),
    }
}

/// Tells whether an outage was refused because another fault holds the machine down or frozen: only healing the other fault ends that.
fn is_refused(done: &anyhow::Result<()>) -> bool {
    done.as_ref().is_err_and(|error| matches!(Error::of(error), Some(Error::Outage(_))))
}

/// Waits until the machine has no processes: a program that was just being started from outside when the machine ended stays for an
/// instant.
fn wait_until_empty(target: &FaultTarget<'_>) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left = target.container.running_processes();
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > END_DEADLINE.scaled() {
            bail!("{left} processes of {} still run", target.name());
        }
        std::thread::sleep(END_POLL); // the kernel gives no sign when a group is empty
    }
}

/// Runs a program in a restarted machine, as evidence that it is up.
pub(super) fn run_a_program(target: &FaultTarget<'_>) -> anyhow::Result<String> {
    let output = target.exec(&["/bin/true"])?;
    Ok(format!("a program ran in the container in {:.0} ms", output.duration.as_secs_f64() * 1e3))
}

/// Minimum silence as a multiple of the time that a program took before: on a slower machine a sign of life takes longer.
const STILL_TIMES: u32 = 3;

/// Fault that freezes all processes of a machine, with their memory and connections (`node.freeze`).
#[derive(Default)]
pub struct Freeze {
    /// Time that `/bin/true` took to run in the container before the injection, the attaching included.
    usual: Duration,
    /// True if this fault, and no other, has frozen the machine.
    is_ours: bool,
}

impl Effect for Freeze {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let begun = Instant::now();
        if !target.container.runs_a_program(THAW_DEADLINE.scaled())? {
            bail!("even before the fault, no program could be started in {}", target.name());
        }
        self.usual = begun.elapsed();
        Ok(format!("a program ran in the container in {} ms", self.usual.as_millis()))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let done = target.lab.freeze(target.container, "node.freeze");
        self.is_ours = !is_refused(&done);
        done
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (begun, still_for) = (Instant::now(), STILL_FOR.scaled().max(self.usual * STILL_TIMES));
        if target.container.runs_a_program(still_for)? {
            bail!("{} is not frozen: a program that was started in it ran", target.name());
        }
        if begun.elapsed() < still_for {
            bail!("a program could not be started in {}, so that nothing shows whether it is frozen", target.name());
        }
        Ok(format!("a program that was started in the container did nothing for {} ms", still_for.as_millis()))
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        match target.container.outage() {
            Some(outage) if outage.frozen => {}
            Some(outage) => return Ok(Lasted::over(outage.to_string())),
            None => return Ok(Lasted::over("the container was thawed")),
        }
        let still_for = target.within(STILL_FOR.scaled().max(self.usual * STILL_TIMES));
        let begun = Instant::now();
        if target.container.runs_a_program(still_for)? {
            return Ok(Lasted::lost(Keeper::Host, "a program that was started in the container ran"));
        }
        if begun.elapsed() < still_for {
            return Ok(Lasted::not_seen("a program could not be started in the container"));
        }
        Ok(Lasted::until_now(format!(
            "a program that was started in the container did nothing for {} ms",
            still_for.as_millis()
        )))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.is_ours { target.lab.thaw(target.container) } else { Ok(()) }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if !target.container.runs_a_program(THAW_DEADLINE.scaled())? {
            bail!(
                "{} is still frozen: a program that was started in it did nothing for {} s",
                target.name(),
                THAW_DEADLINE.scaled().as_secs()
            );
        }
        Ok("a program runs in the container again".into())
    }

    fn stops_container(&self) -> bool {
        true
    }
}
