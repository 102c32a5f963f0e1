//! Measurement of the time from a program's start to its end, without work of the engine in between.

use std::io;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Time that a program took from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramTime {
    /// Elapsed time.
    pub wall: Duration,
    /// Processor time; where the kernel counts only ticks, a whole number of them.
    pub processor: Duration,
}

/// Runs a program without output, and measures its time. `None` where it cannot be started, or does not end within the deadline: then it is
/// killed.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "starts the program that it times")]
pub fn time_of(program: &str, deadline: Duration) -> Option<ProgramTime> {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
        let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Some(Duration::from_micros(microseconds.unsigned_abs()))
    };
    let before = used()?;
    let (reader, writer) = io::pipe().ok()?;
    let begun = Instant::now();
    let mut command = std::process::Command::new(program);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    drop(command); // it holds the pipe's other end
    let timeout = PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX);
    let ended = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0);
    if !ended {
        let _ = child.kill();
    }
    child.wait().ok()?;
    let wall = begun.elapsed();
    let processor = used()?.saturating_sub(before);
    ended.then_some(ProgramTime { wall, processor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_program_is_that_until_its_end() {
        let ProgramTime { wall, processor } = time_of("true", Duration::from_secs(10)).unwrap();
        assert!(wall > Duration::ZERO && wall < Duration::from_secs(10), "{wall:?}");
        assert!(processor < Duration::from_secs(10), "{processor:?}");
        assert_eq!(time_of("no-such-program-here", Duration::from_secs(10)), None);
    }
}
