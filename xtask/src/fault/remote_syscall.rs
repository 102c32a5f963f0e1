//! System calls made in the name of a running process: the kernel answers them as it would answer the process.
//!
//! The process is stopped for a moment with ptrace(2), makes harmless calls on a descriptor it has, and goes on where it was: a call that
//! it was blocked in begins again.

use std::time::Duration;

use crate::host::patience::Deadline;
use anyhow::{Context as _, bail};
use nix::errno::Errno;

/// Deadline for a process to stop, or to make a call.
const STOP_DEADLINE: Deadline = Deadline::from_secs(5);

const POLL: Duration = Duration::from_micros(200);

/// Result of opening files in the name of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Number of files that were opened, and closed again.
    pub count: u32,
    /// Error with which the kernel refused the next file; `None` where it refused none.
    pub refusal: Option<Errno>,
}

/// Reason why this host cannot make system calls in the name of another process; `None` where it can.
#[must_use]
pub fn problem() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the engine can make system calls in the name of another process on x86-64 only");
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    (scope.trim() == "3").then_some("the kernel lets no process trace another (kernel.yama.ptrace_scope is 3)")
}

/// Has a process open one of its files up to `most` more times, until the kernel refuses, and close them again. The process must be no
/// child of this process: a parent that waits for its children is told of their stops, too.
///
/// # Errors
/// When the process has ended, has no open file, or is traced already (`EPERM` in the chain).
pub fn open_more(pid: i32, most: u32) -> anyhow::Result<Opened> {
    if let Some(problem) = problem() {
        bail!("{problem}");
    }
    let context = || format!("making system calls in the name of process {pid}");
    // A thread of its own: with its end the process goes on, whatever happens here.
    let done = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("tracer".into()).spawn_scoped(scope, || calls::open_more(pid, most));
        thread.map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the tracing thread panicked"))))
    });
    done.context("starting the tracing thread").flatten().with_context(context)
}

#[cfg(not(target_arch = "x86_64"))]
mod calls {
    pub fn open_more(_pid: i32, _most: u32) -> anyhow::Result<super::Opened> {
        anyhow::bail!("the engine can make system calls in the name of another process on x86-64 only")
    }
}

#[cfg(target_arch = "x86_64")]
mod calls {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::time::Instant;

    use anyhow::{Context as _, bail};
    use nix::libc::{PTRACE_EVENT_STOP, SYS_close, SYS_dup, SYS_restart_syscall, user_regs_struct};
    use nix::sys::ptrace;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::{Errno, Opened, POLL, STOP_DEADLINE};

    /// x86-64 instruction that makes a system call.
    const SYSCALL: [u8; 2] = [0x0f, 0x05];

    /// Code segment selector of 64-bit programs.
    const CODE_64: u64 = 0x33;

    /// Kernel-internal results of an interrupted call that is to begin again, or to go on.
    const BEGINS_AGAIN: [i64; 3] = [-512, -513, -514];
    const GOES_ON: i64 = -516;

    pub fn open_more(pid: i32, most: u32) -> anyhow::Result<Opened> {
        let listed =
            std::fs::read_dir(format!("/proc/{pid}/fd")).context("the process has ended")?.filter_map(Result::ok);
        let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        let file = numbers.min().context("the process has no open file")?;
        let instruction = find_syscall(pid)?;
        let mut stopped = Stopped::stop(pid, instruction)?;
        let opened = stopped.open_more(file, most);
        stopped.let_go()?;
        opened
    }

    /// Returns the address in the process of an instruction that makes a system call: the vdso, which the kernel maps into each process,
    /// has one.
    fn find_syscall(pid: i32) -> anyhow::Result<u64> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("the process has ended")?;
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).context("the process has no vdso")?;
        let (first, last) = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'))
            .context("the address of the vdso has an unexpected format")?;
        let (first, last) = (u64::from_str_radix(first, 16)?, u64::from_str_radix(last, 16)?);
        let mut code = vec![0; usize::try_from(last - first)?];
        let memory = File::open(format!("/proc/{pid}/mem")).context("opening the memory of the process")?;
        memory.read_exact_at(&mut code, first).context("reading the memory of the process")?;
        let place = code
            .windows(2)
            .position(|bytes| bytes == SYSCALL)
            .context("the vdso has no instruction that makes a system call")?;
        Ok(first + place as u64)
    }

    /// Process that this thread has stopped and traces.
    struct Stopped {
        pid: Pid,
        saved: user_regs_struct,
        instruction: u64,
        /// Signals that came for the process while it was stopped.
        signals: Vec<Signal>,
    }

    impl Stopped {
        fn stop(pid: i32, instruction: u64) -> anyhow::Result<Self> {
            let pid = Pid::from_raw(pid);
            ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).context("tracing the process")?;
            ptrace::interrupt(pid).context("stopping the process")?;
            let mut signals = Vec::new();
            loop {
                match wait(pid)? {
                    WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_STOP) => break,
                    WaitStatus::Stopped(_, signal) => signals.push(signal),
                    _ => {}
                }
                ptrace::cont(pid, None).context("letting the process go on")?;
            }
            let saved = ptrace::getregs(pid).context("reading the registers of the process")?;
            let stopped = Self { pid, saved, instruction, signals };
            if saved.cs != CODE_64 {
                stopped.let_go()?;
                bail!("the process does not run a 64-bit program");
            }
            Ok(stopped)
        }

        fn open_more(&mut self, file: u64, most: u32) -> anyhow::Result<Opened> {
            let mut opened = Vec::new();
            let mut refusal = None;
            while opened.len() < most as usize && refusal.is_none() {
                match self.call(SYS_dup, file)? {
                    number if number >= 0 => opened.push(number.cast_unsigned()),
                    error => refusal = Some(Errno::from_raw(i32::try_from(-error)?)),
                }
            }
            for number in &opened {
                self.call(SYS_close, *number)?;
            }
            Ok(Opened { count: u32::try_from(opened.len())?, refusal })
        }

        /// Makes one call in the process; returns the kernel's answer.
        fn call(&mut self, number: i64, argument: u64) -> anyhow::Result<i64> {
            let none = u64::MAX; // no call that the kernel would begin again
            let registers = user_regs_struct {
                rip: self.instruction,
                rax: number.cast_unsigned(),
                orig_rax: none,
                rdi: argument,
                ..self.saved
            };
            ptrace::setregs(self.pid, registers).context("writing the registers of the process")?;
            // Into the call, and out of it.
            for _ in 0..2 {
                ptrace::syscall(self.pid, None).context("letting the process make a call")?;
                loop {
                    match wait(self.pid)? {
                        WaitStatus::PtraceSyscall(_) => break,
                        WaitStatus::Stopped(_, signal) => self.signals.push(signal),
                        _ => {}
                    }
                    ptrace::syscall(self.pid, None).context("letting the process make a call")?;
                }
            }
            Ok(ptrace::getregs(self.pid).context("reading the registers of the process")?.rax.cast_signed())
        }

        /// Lets the process go on where it was; begins an interrupted call again, as the kernel does after a signal.
        fn let_go(self) -> anyhow::Result<()> {
            ptrace::setregs(self.pid, resumed(self.saved)).context("putting the registers of the process back")?;
            ptrace::detach(self.pid, None).context("letting the process go")?;
            for signal in self.signals {
                kill(self.pid, signal).context("sending the process the signals that came while it was stopped")?;
            }
            Ok(())
        }
    }

    fn resumed(saved: user_regs_struct) -> user_regs_struct {
        let none = u64::MAX;
        let again =
            |call: u64| user_regs_struct { rax: call, rip: saved.rip - SYSCALL.len() as u64, orig_rax: none, ..saved };
        match saved.rax.cast_signed() {
            _ if saved.orig_rax == none => saved,
            answer if BEGINS_AGAIN.contains(&answer) => again(saved.orig_rax),
            GOES_ON => again(SYS_restart_syscall.cast_unsigned()),
            _ => user_regs_struct { orig_rax: none, ..saved },
        }
    }

    fn wait(pid: Pid) -> anyhow::Result<WaitStatus> {
        let begun = Instant::now();
        loop {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).context("waiting for the process")? {
                WaitStatus::StillAlive => {}
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => bail!("the process has ended"),
                status => return Ok(status),
            }
            if begun.elapsed() > STOP_DEADLINE.scaled() {
                bail!("a traced process did not reach a ptrace stop within {} s", STOP_DEADLINE.scaled().as_secs());
            }
            std::thread::sleep(POLL); // ptrace has no wait with a deadline
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn registers(rax: i64, orig_rax: u64) -> user_regs_struct {
            // SAFETY: a structure of numbers, for which zeros are a value.
            let zeros: user_regs_struct = unsafe { std::mem::zeroed() };
            user_regs_struct { rax: rax.cast_unsigned(), orig_rax, rip: 1002, ..zeros }
        }

        #[test]
        fn an_interrupted_call_begins_again_or_goes_on() {
            let check = |rax: i64, orig_rax: u64, expected: (i64, u64)| {
                let resumed = resumed(registers(rax, orig_rax));
                assert_eq!((resumed.rax.cast_signed(), resumed.rip), expected, "{rax} {orig_rax}");
            };
            check(-512, 7, (7, 1000));
            check(-516, 35, (SYS_restart_syscall, 1000));
            check(5, 0, (5, 1002));
            check(-512, u64::MAX, (-512, 1002));
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::time::Instant;

    use nix::libc::SYS_clock_nanosleep;

    use super::*;
    use crate::host::exec::process::{FileBound, Running};
    use crate::host::exec::shell::Command;

    fn is_in_call(pid: i32, number: i64) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        call.split(' ').next() == Some(&number.to_string())
    }

    #[test]
    fn a_sleeping_process_opens_files_up_to_its_bound_and_sleeps_on() {
        let begun = Instant::now();
        // No child of this process: whoever waits for a child takes the news of its stops from the tracer.
        let sleeper = std::thread::spawn(|| Command::new("sh").args(["-c", "sleep 3.5217; exit 0"]).run());
        let process = loop {
            let found = Running::of_command_line("sleep 3.5217");
            // While it begins it has its libraries open.
            if let Some(process) = found.first().filter(|process| is_in_call(process.pid, SYS_clock_nanosleep)) {
                break process.clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not sleep");
            std::thread::yield_now();
        };
        let (before, files) = (process.file_bound().unwrap(), process.open_files());
        assert_eq!(open_more(process.pid, 3).unwrap(), Opened { count: 3, refusal: None });
        assert_eq!(process.open_files(), files, "they are closed again");
        let third = (0..).filter(|number| !files.contains(number)).nth(2).unwrap();
        process.bound_files(FileBound { soft: third, ..before }).unwrap();
        assert_eq!(open_more(process.pid, 3).unwrap(), Opened { count: 2, refusal: Some(Errno::EMFILE) });
        process.bound_files(before).unwrap();
        assert_eq!(open_more(process.pid, 3).unwrap().refusal, None);
        sleeper.join().unwrap().unwrap();
        let slept = begun.elapsed();
        assert!(slept >= Duration::from_secs(3), "it woke early, after {slept:?}");
    }
}
