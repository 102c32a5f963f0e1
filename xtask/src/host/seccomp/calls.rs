//! System calls by name, with the decision on each, and the parts of the kernel that templates ask for.

use std::fmt::Write as _;

use nix::libc;
use serde::{Deserialize, Serialize};

/// Architecture number of this processor's system calls (`AUDIT_ARCH_*`), by which a filter tells them from those of other architectures.
pub(super) const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// Architecture number of the 32-bit programs that this processor runs too.
pub(super) const ARCHITECTURE_32_BIT: u32 = if cfg!(target_arch = "x86_64") { 0x4000_0003 } else { 0x4000_0028 };

/// System call: its name and its number on this processor.
pub(super) type Call = (&'static str, libc::c_long);

macro_rules! calls {
    ($($name:ident)*) => {
        &[$((stringify!($name), libc::$name)),*]
    };
}

/// Calls that every machine may make.
pub(super) const ALLOWED: &[Call] = calls! {
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_chroot SYS_clock_adjtime
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_clock_settime SYS_close SYS_close_range SYS_connect
    SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir
    SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock
    SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_mempolicy
    SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer
    SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid
    SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr
    SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup
    SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kcmp SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr
    SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create SYS_mincore SYS_mkdirat
    SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mount SYS_move_pages SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv
    SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat SYS_openat
    SYS_openat2 SYS_personality SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pivot_root SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_madvise
    SYS_process_mrelease SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev
    SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_reboot SYS_recvfrom SYS_recvmmsg SYS_recvmsg
    SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask
    SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile
    SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy SYS_set_mempolicy_home_node SYS_set_robust_list
    SYS_set_tid_address SYS_setdomainname SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname SYS_setitimer
    SYS_setns SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setsockopt
    SYS_settimeofday SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack
    SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_tee
    SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create
    SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_umount2 SYS_uname SYS_unlinkat
    SYS_utimensat SYS_vhangup SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// Calls that every machine may make and only older processors have.
#[cfg(target_arch = "x86_64")]
pub(super) const ALLOWED_HERE: &[Call] = calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait SYS_eventfd
    SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_getrlimit SYS_inotify_init SYS_lchown SYS_link SYS_lstat SYS_mkdir
    SYS_mknod SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_select SYS_setrlimit
    SYS_signalfd SYS_stat SYS_symlink SYS_sync_file_range SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
};

/// Calls that every machine may make and that the libc crate lacks for this processor.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ALLOWED_HERE: &[Call] =
    &[("SYS_renameat", 38), ("SYS_sync_file_range", 84), ("SYS_getrlimit", 163), ("SYS_setrlimit", 164)];

/// Newer calls that every machine may make. They have the same number on all processors.
pub(super) const ALLOWED_NEWER: &[Call] = &[
    ("SYS_cachestat", 451),
    ("SYS_fchmodat2", 452),
    ("SYS_map_shadow_stack", 453),
    ("SYS_futex_wake", 454),
    ("SYS_futex_wait", 455),
    ("SYS_futex_requeue", 456),
    ("SYS_statmount", 457),
    ("SYS_listmount", 458),
    ("SYS_mseal", 462),
    ("SYS_setxattrat", 463),
    ("SYS_getxattrat", 464),
    ("SYS_listxattrat", 465),
    ("SYS_removexattrat", 466),
];

/// Calls of the parts that a template may ask for. The error of a refused one is `ENOSYS`, on which programs fall back, with two
/// exceptions: `bpf` and `open_by_handle_at` are refused to root of a container by most kernels anyway, with `EPERM`, which programs
/// expect.
pub(super) const ASKED_FOR: &[(Part, &[Call], libc::c_int)] = &[
    (Part::IoUring, calls! { SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register }, libc::ENOSYS),
    (Part::Keyring, calls! { SYS_add_key SYS_request_key SYS_keyctl }, libc::ENOSYS),
    (Part::Bpf, calls! { SYS_bpf }, libc::EPERM),
    (Part::Perf, calls! { SYS_perf_event_open }, libc::ENOSYS),
    (Part::Userfaultfd, calls! { SYS_userfaultfd }, libc::ENOSYS),
    (
        Part::MountApi,
        calls! {
            SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_mount_setattr
        },
        libc::ENOSYS,
    ),
    (Part::FileHandles, calls! { SYS_open_by_handle_at }, libc::EPERM),
    (Part::Fanotify, calls! { SYS_fanotify_init SYS_fanotify_mark }, libc::ENOSYS),
];

/// Calls that no machine may make. They fail with the error for missing rights, as they do in any container.
pub(super) const REFUSED: &[Call] = calls! {
    SYS_kexec_load SYS_kexec_file_load SYS_init_module SYS_finit_module SYS_delete_module SYS_swapon SYS_swapoff SYS_acct
    SYS_quotactl SYS_quotactl_fd SYS_syslog SYS_lookup_dcookie
};

/// Calls with flags in their first argument, one of which makes a user namespace.
pub(super) const WITH_NAMESPACES: &[Call] = calls! { SYS_clone SYS_unshare };

/// System call that makes sockets. Its first argument is their family.
pub(super) const SOCKET: libc::c_long = libc::SYS_socket;

/// Families of sockets that every machine has.
pub(super) const FAMILIES: [libc::c_int; 5] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Part of the kernel that a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// User namespaces inside the machine.
    UserNamespaces,
    /// `io_uring`.
    IoUring,
    /// Keys and keyrings.
    Keyring,
    /// BPF programs and maps.
    Bpf,
    /// Counters of the processor and tracepoints.
    Perf,
    /// Page faults handled by a program.
    Userfaultfd,
    /// The newer calls for mounts, such as `fsopen` and `open_tree`.
    MountApi,
    /// Files opened by their handles.
    FileHandles,
    /// Notifications about files of whole file systems.
    Fanotify,
    /// Sockets of other families than Unix, IPv4, IPv6, netlink and packet.
    Sockets,
    /// Programs of 32 bits, whose calls pass without the engine's filter.
    #[serde(rename = "programs_32_bit")]
    Programs32Bit,
}

impl Part {
    /// List of all parts, each with its name in a template's file.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::UserNamespaces, "user_namespaces"),
        (Self::IoUring, "io_uring"),
        (Self::Keyring, "keyring"),
        (Self::Bpf, "bpf"),
        (Self::Perf, "perf"),
        (Self::Userfaultfd, "userfaultfd"),
        (Self::MountApi, "mount_api"),
        (Self::FileHandles, "file_handles"),
        (Self::Fanotify, "fanotify"),
        (Self::Sockets, "sockets"),
        (Self::Programs32Bit, "programs_32_bit"),
    ];

    /// Returns the part's name in a template's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(each, _)| *each == self).map_or("", |(_, name)| name)
    }
}

/// A line of the policy: the denied system call, the error that it returns, a condition on its arguments, and the part of the kernel that
/// leaves this line out where a template asks for it.
struct Rule {
    call: &'static str,
    error: libc::c_int,
    condition: &'static str,
    unless: Option<Part>,
}

const fn rule(call: &'static str, error: libc::c_int, condition: &'static str, unless: Option<Part>) -> Rule {
    Rule { call, error, condition, unless }
}

/// `CLONE_NEWUSER` in the first argument.
const NEW_USER: &str = " [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]";

/// Lines of the policy. They are few, because libseccomp compiles them at each start of a program: calls that LXC itself needs to start a
/// machine, so that the engine's filter lets them pass then; and calls that a program of a person's own `lxc-attach` must not make,
/// because there the engine's filter is missing.
const RULES: &[Rule] = &[
    rule("clone", libc::EPERM, NEW_USER, Some(Part::UserNamespaces)),
    rule("unshare", libc::EPERM, NEW_USER, Some(Part::UserNamespaces)),
    rule("clone3", libc::ENOSYS, "", None),
    rule("add_key", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("request_key", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("keyctl", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("io_uring_setup", libc::ENOSYS, "", Some(Part::IoUring)),
    rule("bpf", libc::EPERM, "", Some(Part::Bpf)),
    rule("perf_event_open", libc::ENOSYS, "", Some(Part::Perf)),
    rule("userfaultfd", libc::ENOSYS, "", Some(Part::Userfaultfd)),
    rule("open_by_handle_at", libc::EPERM, "", Some(Part::FileHandles)),
];

/// Makes the policy of machines whose template asks for these parts, in version 2 of LXC's format.
#[must_use]
pub fn policy(parts: &[Part]) -> String {
    let mut text = String::from("2\ndenylist\n[all]\n");
    for Rule { call, error, condition, .. } in
        RULES.iter().filter(|rule| rule.unless.is_none_or(|part| !parts.contains(&part)))
    {
        let _ = writeln!(text, "{call} errno {error}{condition}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_name_in_files_and_its_line_in_the_documentation() {
        let page = include_str!("../../../../docs/isolation.md");
        for (part, name) in Part::ALL {
            assert_eq!(serde_json::to_value(part).unwrap(), name);
            assert_eq!(part.name(), name);
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` | "))), "{name}");
        }
    }

    #[test]
    fn a_policy_has_a_line_for_each_call_that_is_not_asked_for() {
        let lines = |parts: &[Part]| policy(parts).lines().map(str::to_owned).collect::<Vec<_>>();
        let all = lines(&[]);
        assert_eq!(all[..3], ["2", "denylist", "[all]"]);
        assert_eq!(all[3], "clone errno 1 [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]");
        assert_eq!(all.len(), 3 + RULES.len());
        let left = lines(&[Part::UserNamespaces, Part::Keyring]);
        assert_eq!(left[3], "clone3 errno 38");
        assert_eq!(left.len(), all.len() - 5);
    }
}
