//! Files that this process inherits, and files that the programs which it starts inherit.

use std::os::unix::process::CommandExt as _;

/// Has the kernel close every file but the three standard streams when the program of this command starts.
pub(super) fn hand_on_streams_only(command: &mut std::process::Command) {
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            keep_no_files_above(2);
            Ok(())
        });
    }
}

/// Has the kernel close every file above this number when the program starts. A kernel before 5.11 cannot: there [`hand_on_no_files`] has
/// marked inherited files, and the engine marks the files that it opens.
pub(super) fn keep_no_files_above(last: u32) {
    // SAFETY: a system call on numbers; it touches no memory.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, last + 1, u32::MAX, nix::libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Keeps the files that this process inherits, beside its three standard streams, from every program that it will start: a folder of the
/// host that whoever started the engine had open would be a way out of a container. To be called before anything else, and before any
/// thread.
pub fn hand_on_no_files() {
    keep_no_files_above(2);
    // The kernel may not know that call.
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: a system call on numbers. One of them is that of the folder that was listed, which is closed by now.
        unsafe {
            nix::libc::fcntl(number, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC);
        }
    }
}

/// Name of a standard stream of this process that is a folder: a program that inherits it could reach the files around it.
#[must_use]
pub fn stream_on_a_folder() -> Option<&'static str> {
    let is_folder =
        |number: &usize| std::fs::metadata(format!("/proc/self/fd/{number}")).is_ok_and(|found| found.is_dir());
    let number = (0..3).find(is_folder)?;
    ["standard input", "standard output", "standard error"].get(number).copied()
}
