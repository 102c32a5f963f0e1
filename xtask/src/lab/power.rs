//! Power of a whole machine, for faults: taking a container down and starting it again, freezing and thawing it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::container::{Container, Outage};
use super::exec::ExecRequest;
use super::readiness::WaitError;
use super::up::{Lab, spawn};
use crate::host::container::lxc;
use crate::host::exec::process;
use crate::host::patience::Deadline;
use crate::host::undo::Undo;
use crate::manifest::Init;

/// Deadline for LXC to report the end of a container.
const END_DEADLINE: Deadline = Deadline::from_secs(20);

/// Deadline for programs that were run in a container to end after the container.
const LEAVE_DEADLINE: Deadline = Deadline::from_secs(20);

/// Deadline for a started container to run its first program.
const START_DEADLINE: Deadline = Deadline::from_secs(30);

/// Deadline for detecting a reboot that explains the failure of another action.
const REBOOT_SIGN_DEADLINE: Deadline = Deadline::from_secs(2);
const REBOOT_POLL: Duration = Duration::from_millis(5);

/// Deadline for one attempt to run a program in a container: an lxc-attach during a reboot is never answered.
const TRY_DEADLINE: Deadline = Deadline::from_secs(5);

/// Interval between two attempts to run a program in a container that starts.
const START_POLL: Duration = Duration::from_millis(5);

impl Lab {
    /// Kills process 1 of a container, and with it all its processes. Later attempts to use the container fail with `cause`.
    ///
    /// # Errors
    /// [`Outage`] when the container is down or frozen already. When the container does not end.
    pub fn kill(&self, container: &Container, cause: &str) -> anyhow::Result<()> {
        self.take_down(container, cause, || {
            let init = Pid::from_raw(container.init_pid()?);
            match kill(init, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error).with_context(|| format!("killing process {init}")),
            }
        })
    }

    /// Shuts a container down as an operator would; processes that have not ended after `grace` are killed.
    pub fn stop(&self, container: &Container, grace: Duration, cause: &str) -> anyhow::Result<()> {
        self.take_down(container, cause, || lxc::stop(&container.machine().host_name, grace))
    }

    /// Starts a container again that was taken down, with its old disk; returns when the container runs programs. Does nothing to a running
    /// container.
    pub fn start_again(&self, container: &Container) -> anyhow::Result<()> {
        if container.outage().is_none_or(|outage| outage.frozen) {
            return Ok(());
        }
        // LXC lets programs in before the container has its root: one on its way in would find the host's files.
        if !container.wait_until_all_have_left(LEAVE_DEADLINE.scaled()) {
            bail!(
                "{} cannot be started again: a program that was run in it still runs after its end",
                container.machine().host_name
            );
        }
        container.count_start();
        let process = spawn(self.guard(), container.machine())?;
        container.started_again(process);
        let runs = self.wait_until_it_runs(container);
        // One that has ended again did so by itself: the fault is over with the start.
        if runs.is_ok() || container.process().exited().is_some() {
            container.end_outage();
        }
        runs
    }

    /// Waits until the probes of a container pass, each within its own timeout, or all within `deadline`; returns the time that this took.
    pub fn wait_until_ready_again(
        &self,
        container: &Container,
        deadline: Option<Duration>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Duration, WaitError> {
        let watch = self.clock().watch();
        self.wait_for_one(container, &|| watch.elapsed(), deadline, stop).map(|()| watch.elapsed())
    }

    /// Tells whether a container has rebooted by itself since its number of reboots was `reboots`, or is about to. If the container is
    /// shutting down, waits for its end, because it answers nothing in that phase.
    #[must_use]
    pub fn has_rebooted_since(&self, container: &Container, reboots: u64) -> bool {
        let begun = Instant::now();
        loop {
            if container.reboots() > reboots {
                return true;
            }
            if container.outage().is_some() || container.is_dead() {
                return false;
            }
            let is_late = begun.elapsed() > REBOOT_SIGN_DEADLINE.scaled();
            let goes_down = if is_late { self.is_going_down(container) } else { has_lost_process_1(container) };
            if is_late && !(goes_down && begun.elapsed() < END_DEADLINE.scaled()) {
                return false;
            }
            std::thread::sleep(REBOOT_POLL); // the hook of its start gives no sign
        }
    }

    /// Tells whether a container is about to end or reboot: its process 1 has ended, or systemd is stopping all services.
    pub fn is_going_down(&self, container: &Container) -> bool {
        has_lost_process_1(container) || self.shuts_down(container)
    }

    /// Tells whether systemd in a container reports that it is stopping all services.
    fn shuts_down(&self, container: &Container) -> bool {
        let argv = ["systemctl", "is-system-running"].map(str::to_owned).to_vec();
        let streams_dir = self.streams_dir().to_owned();
        let request =
            ExecRequest { argv, deadline: REBOOT_SIGN_DEADLINE.scaled(), streams_dir, ..ExecRequest::default() };
        container.machine().template.init == Init::Systemd
            && container.exec(&request).is_ok_and(|output| output.tail().contains("stopping"))
    }

    /// Waits until a container that was started runs programs.
    pub fn wait_until_it_runs(&self, container: &Container) -> anyhow::Result<()> {
        let (process, started) = (container.process(), Instant::now());
        let left = || START_DEADLINE.scaled().saturating_sub(started.elapsed()).min(TRY_DEADLINE.scaled());
        while !(container.has_its_root() && container.runs_a_program(left())?) {
            let name = &container.machine().host_name;
            if let Some(end) = process.exited() {
                bail!("{name} ended while it was started again (lxc-start {end}){}", container.last_words());
            }
            if started.elapsed() >= START_DEADLINE.scaled() {
                bail!("{name} cannot run a program {START_DEADLINE} after its start{}", container.last_words());
            }
            std::thread::sleep(START_POLL); // LXC gives no sign when a container can be attached to
        }
        Ok(())
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Outage`] when the container is down or frozen already.
    pub fn freeze(&self, container: &Container, cause: &str) -> anyhow::Result<()> {
        begin_outage(container, cause, true)?;
        let frozen =
            self.guard().note(vec![thaw_step(container)]).and_then(|()| lxc::freeze(&container.machine().host_name));
        if frozen.is_err() {
            container.end_outage();
        }
        frozen
    }

    /// Thaws the processes of a frozen container. Does nothing to a running container.
    pub fn thaw(&self, container: &Container) -> anyhow::Result<()> {
        if container.outage().is_none_or(|outage| !outage.frozen) {
            return Ok(());
        }
        self.guard().undo(vec![thaw_step(container)])?;
        // LXC keeps in mind that it is frozen, and would not freeze it a second time.
        lxc::unfreeze(&container.machine().host_name)?;
        container.end_outage();
        Ok(())
    }

    fn take_down(
        &self,
        container: &Container,
        cause: &str,
        end: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // First, so that whoever meets the end knows that it is meant.
        begin_outage(container, cause, false)?;
        let ended = end().and_then(|()| match container.process().wait(END_DEADLINE.scaled()) {
            Some(_) => Ok(()),
            None => bail!("{} has not ended {END_DEADLINE} after it was told to", container.machine().host_name),
        });
        if ended.is_err() && container.process().exited().is_none() {
            container.end_outage();
        }
        ended
    }
}

fn has_lost_process_1(container: &Container) -> bool {
    container.init_pid().is_ok_and(process::is_ending)
}

fn begin_outage(container: &Container, cause: &str, frozen: bool) -> anyhow::Result<()> {
    let name = container.machine().name.clone();
    container.begin_outage(Outage { container: name, cause: cause.to_owned(), frozen })?;
    Ok(())
}

fn thaw_step(container: &Container) -> Undo {
    Undo::Thaw { name: container.cgroup_name() }
}
