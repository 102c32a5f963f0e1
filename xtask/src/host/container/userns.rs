//! User namespaces, in which root is an ordinary user of the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2, read, write};

use crate::host::exec::shell::path_of;
use crate::program::named;

/// User namespace, which lives as long as this value.
#[derive(Debug)]
pub struct UserNamespace {
    file: File,
}

impl UserNamespace {
    /// Makes a namespace of `count` ids, whose ids from 0 on are those from `first` on outside. Needs root.
    pub fn new(first: u32, count: u32) -> io::Result<Self> {
        Self::mapping(0, first, count)
    }

    /// Makes a namespace of `count` ids, whose ids from `inside` on are those from `outside` on outside. Needs root.
    #[expect(
        clippy::disallowed_methods,
        reason = "the child runs no program: it holds the namespace open for a moment"
    )]
    pub fn mapping(inside: u32, outside: u32, count: u32) -> io::Result<Self> {
        let map = format!("{inside} {outside} {count}\n");
        // A program that another thread starts meanwhile must not hold them open.
        let (ready_read, ready_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (end_read, end_write) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child makes system calls only and leaves by _exit: nothing of a thread that held a lock at the
        // time of the fork is touched.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(end_write);
                let made = unshare(CloneFlags::CLONE_NEWUSER).is_ok();
                let _ = write(&ready_write, if made { b"y" } else { b"n" });
                let _ = read(&end_read, &mut [0]);
                // SAFETY: ends this process only.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                drop((ready_write, end_read));
                let opened = open_mapped(&ready_read, child.as_raw(), &map);
                drop(end_write);
                waitpid(child, None)?;
                Ok(Self { file: opened? })
            }
        }
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns the first words of a command line that runs the words after them as root of this namespace. Only this process and its
    /// descendants can run such a command line.
    #[must_use]
    pub fn enter_words(&self) -> Vec<String> {
        let place = format!("--user=/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let program = path_of("nsenter");
        [&program, &place, "--setuid", "0", "--setgid", "0"].map(str::to_owned).to_vec()
    }
}

fn open_mapped(ready: &OwnedFd, child: i32, map: &str) -> io::Result<File> {
    let mut answer = [0];
    read(ready, &mut answer)?;
    if answer != *b"y" {
        return Err(io::Error::other(named("the kernel refuses to make a user namespace: see `cargo xtask doctor`")));
    }
    std::fs::write(format!("/proc/{child}/uid_map"), map)?;
    std::fs::write(format!("/proc/{child}/gid_map"), map)?;
    File::open(format!("/proc/{child}/ns/user"))
}
