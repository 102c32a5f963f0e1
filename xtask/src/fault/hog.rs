//! Processes that a fault runs in a container to use up a resource. They end with the container, and a variable in their environment tells
//! them from other processes.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::FaultTarget;
use crate::host::exec::process::Running;
use crate::host::patience::Deadline;
use crate::host::syntax::compose;
use crate::lab::ExecRequest;

const VARIABLE: &str = "E2E_HOG";

/// Deadline for a shell to start the processes, on a machine with next to no processor time.
const START_DEADLINE: Deadline = Deadline::from_secs(20);

/// Deadline for the container to have room for the processes.
pub const ROOM_DEADLINE: Deadline = Deadline::from_secs(5);

/// Interval between two attempts to start the processes, and between two checks whether they have ended.
const POLL: Duration = Duration::from_millis(20);

/// Deadline for the killed processes to end.
const END_DEADLINE: Deadline = Deadline::from_secs(10);

/// Processes that one fault runs in one container, by the name that marks them.
#[derive(Debug, Clone, Copy)]
pub struct Hogs(&'static str);

impl Hogs {
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Name and value of the environment variable that marks the processes.
    pub fn variable(self) -> (&'static str, &'static str) {
        (VARIABLE, self.0)
    }

    fn mark(self) -> String {
        format!("{VARIABLE}={}", self.0)
    }

    /// Has a shell in the container run this script, which leaves the processes behind in the background; its arguments are `$1` and so on.
    pub fn start(self, target: &FaultTarget<'_>, script: &'static str, arguments: &[&str]) -> anyhow::Result<()> {
        let script = compose!(Shell, "exec </dev/null >/dev/null 2>&1\n{script}", script = script);
        let words = ["/bin/sh", "-c", script.as_script(), "hog"].into_iter().chain(arguments.iter().copied());
        let request = ExecRequest {
            argv: words.map(str::to_owned).collect(),
            environment: vec![(VARIABLE.to_owned(), self.0.to_owned())],
            deadline: START_DEADLINE.scaled(),
            streams_dir: target.lab.streams_dir().to_owned(),
            ..ExecRequest::default()
        };
        let begun = Instant::now();
        loop {
            let output = target.container.exec(&request)?;
            let Some(failure) = output.failure() else { return Ok(()) };
            self.end(target)?;
            // There may be no room for processes until those that are dead have been collected.
            if output.timed_out || begun.elapsed() > ROOM_DEADLINE.scaled() {
                bail!("the shell in {} that starts the processes of {} {failure}", target.name(), self.0);
            }
            std::thread::sleep(POLL); // until their parents have looked at them
        }
    }

    pub fn running(self, target: &FaultTarget<'_>) -> Vec<Running> {
        target.container.processes_marked(&self.mark())
    }

    pub fn end(self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        target.container.kill_marked(&self.mark(), END_DEADLINE.scaled())
    }
}
