//! Attempts to escape by system calls, sockets and processes.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::ptr::null;
use std::time::Duration;

use nix::libc::{self, c_int, c_long, c_ulong};
use nix::sched::{CloneFlags, unshare};

use super::world::{Attempt, Seen, World, held, refused};

/// Maximum wait for an answer that may never come.
const ANSWER: Duration = Duration::from_millis(300);

macro_rules! attempts {
    ($($name:literal, $gain:literal, $make:expr;)*) => {
        &[$(Attempt { name: $name, gain: $gain, make: $make }),*]
    };
}

pub const ATTEMPTS: &[Attempt] = attempts! {
    "nested-user-namespace", "all capabilities in a namespace of one's own, and the kernel's code behind them", |_| unshared(CloneFlags::CLONE_NEWUSER);
    "nested-user-namespace-by-clone", "the same by clone", |_| cloned(libc::CLONE_NEWUSER);
    "nested-user-namespace-by-clone3", "the same by clone3", |_| cloned3(libc::CLONE_NEWUSER);
    "key-ring", "keys of other machines, and the budget of keys", |_| refused(keys(libc::SYS_add_key));
    "key-ring-operations", "keys of other machines", |_| call(libc::SYS_keyctl, [0, c_ulong::MAX - 3, 1, 0, 0, 0]);
    "key-request", "a program that the kernel starts as the host's root", |_| refused(keys(libc::SYS_request_key));
    "io-uring", "a part of the kernel with many defects, past the profile's other calls", io_uring;
    "bpf", "programs in the kernel", |_| call(libc::SYS_bpf, [0, 0, 0, 0, 0, 0]);
    "performance-events", "what other processes of the host do", performance_events;
    "userfaultfd", "races in the kernel that one can hold open", |_| call(libc::SYS_userfaultfd, [0, 0, 0, 0, 0, 0]);
    "module", "code in the kernel", |_| call(libc::SYS_init_module, [0, 0, 0, 0, 0, 0]);
    "module-by-file", "code in the kernel", |_| call(libc::SYS_finit_module, [c_ulong::MAX, 0, 0, 0, 0, 0]);
    "module-removal", "a part of the kernel less", |_| {
        let name = CString::default();
        refused(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
    };
    "another-kernel", "another kernel", |_| call(libc::SYS_kexec_load, [0, 0, 0, 0xffff, 0, 0]);
    "clock", "the host's clock", set_clock;
    "clock-adjustment", "the host's clock", adjust_clock;
    "swap", "the host's memory on a disk of one's own", |_| {
        let path = CString::new("/tmp/none").unwrap_or_default();
        refused(unsafe { libc::syscall(libc::SYS_swapon, path.as_ptr(), 0) })
    };
    "accounting", "a list of the host's processes", |_| {
        let path = CString::new("/tmp/none/none").unwrap_or_default();
        refused(unsafe { libc::syscall(libc::SYS_acct, path.as_ptr()) })
    };
    "kernel-log", "the host's kernel log", kernel_log;
    "file-watch", "what others read and write", |_| call(libc::SYS_fanotify_init, [0, 0, 0, 0, 0, 0]);
    "ports", "the host's input and output ports", |_| call(libc::SYS_iopl, [3, 0, 0, 0, 0, 0]);
    "real-time", "processors that nobody else gets", real_time;
    "priority", "more of the processors than the others", |_| call(libc::SYS_setpriority, [0, 0, 0xffff_ffff_ffff_ffec, 0, 0, 0]);
    "more-files", "more open files than the machine may have", more_files;
    "locked-memory", "memory that cannot be taken back", |_| call(libc::SYS_mlockall, [1, 0, 0, 0, 0, 0]).and_then(|_| bounded_lock());
    "vsock", "services of the host's hypervisor", |_| socket(40, libc::SOCK_STREAM, 0);
    "crypto-socket", "a part of the kernel with many defects", |_| socket(38, libc::SOCK_SEQPACKET, 0);
    "bluetooth", "the host's devices", |_| socket(31, libc::SOCK_RAW, 1);
    "rds", "a part of the kernel with many defects", |_| socket(21, libc::SOCK_SEQPACKET, 0);
    "tipc", "a part of the kernel with many defects", |_| socket(30, libc::SOCK_SEQPACKET, 0);
    "kernel-messages", "the host's audit messages", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT).and_then(|_| audit());
    "host-loopback", "services of the host that trust its loopback", |w| connected(&format!("127.0.0.1:{}", w.port));
    "host-by-gateway", "services of the host", |w| by_first_address(w);
    "outside", "the network outside", |_| connected("192.0.2.1:9");
    "abstract-socket", "services of the host by their abstract sockets", abstract_socket;
    "shared-memory", "memory that the host's programs share", shared_memory;
    "signal", "an end of the host's processes", |w| signal(w);
    "trace", "the memory of the host's processes", trace;
    "host-namespace-by-pid", "the host's namespaces", |w| namespace(&w.pid);
    "terminal-input", "commands in the caller's terminal", terminal;
};

fn call(number: c_long, words: [c_ulong; 6]) -> Seen {
    // SAFETY: the calls are asked with numbers, null pointers and lengths of 0: the kernel refuses them or does nothing.
    refused(unsafe { libc::syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]) })
}

fn unshared(flags: CloneFlags) -> Seen {
    unshare(flags).map(|()| "a namespace was made".into()).map_err(|error| error.to_string())
}

/// Ends the child at once where a `clone` was permitted; in the parent, returns the result as evidence.
fn child_or(result: c_long) -> Seen {
    match result {
        0 => {
            // SAFETY: ends the child only.
            unsafe { libc::_exit(0) }
        }
        other => refused(other),
    }
}

fn cloned(flag: c_int) -> Seen {
    let flags = u64::from((flag | libc::SIGCHLD).unsigned_abs());
    // SAFETY: as fork: no stack is given, so that the child goes on with a copy of this one.
    child_or(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

fn cloned3(flag: c_int) -> Seen {
    let words: [u64; 8] = [u64::from(flag.unsigned_abs()), 0, 0, 0, 17, 0, 0, 0];
    // SAFETY: the kernel reads the words, whose length is given; no stack is, so that the child has a copy of this one.
    child_or(unsafe { libc::syscall(libc::SYS_clone3, words.as_ptr(), size_of_val(&words)) })
}

fn keys(number: c_long) -> c_long {
    let (kind, name) = (CString::new("user").unwrap_or_default(), CString::new("escape").unwrap_or_default());
    const PROCESS_RING: c_int = -2;
    // SAFETY: two texts that end, and a payload of the length that is given; `request_key` takes its third word as a text.
    unsafe {
        match number {
            libc::SYS_add_key => libc::syscall(number, kind.as_ptr(), name.as_ptr(), name.as_ptr(), 6, PROCESS_RING),
            _ => libc::syscall(number, kind.as_ptr(), name.as_ptr(), null::<u8>(), PROCESS_RING),
        }
    }
}

fn io_uring(_: &World) -> Seen {
    let mut parameters = [0_u64; 15];
    // SAFETY: the kernel fills a structure of 120 bytes.
    refused(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
}

/// Counts switches of tasks of all processes on the first processor.
fn performance_events(_: &World) -> Seen {
    let mut attributes = [0_u32; 32];
    (attributes[0], attributes[1], attributes[2]) = (1, 128, 3);
    // SAFETY: the structure has the length that it names.
    refused(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 0) })
}

/// Sets the clock to the time that it shows.
fn set_clock(_: &World) -> Seen {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is the kernel's.
    refused(unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        libc::syscall(libc::SYS_clock_settime, libc::CLOCK_REALTIME, &raw const now)
    })
}

/// Sets the clock's estimated error, which nothing depends on, to its present value.
fn adjust_clock(_: &World) -> Seen {
    // SAFETY: zeros are a valid structure, which asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is the kernel's.
    refused(unsafe {
        libc::syscall(libc::SYS_adjtimex, &raw mut state);
        state.modes = libc::MOD_ESTERROR;
        libc::syscall(libc::SYS_adjtimex, &raw mut state)
    })
}

fn kernel_log(_: &World) -> Seen {
    let mut text = [0_u8; 4096];
    const READ_ALL: c_int = 3;
    // SAFETY: the kernel writes no more than the length that is given.
    refused(unsafe { libc::syscall(libc::SYS_syslog, READ_ALL, text.as_mut_ptr(), text.len()) })
}

fn real_time(_: &World) -> Seen {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure is the kernel's.
    refused(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const parameters) })
}

fn more_files(_: &World) -> Seen {
    let wanted = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is the kernel's.
    refused(c_long::from(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) }))
}

/// Checks the limit of locked memory: locking within the limit is permitted.
fn bounded_lock() -> Seen {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    match limit.rlim_max {
        libc::RLIM_INFINITY => Ok("without a bound".into()),
        bound => Err(format!("bounded to {bound} bytes, and by the machine's memory")),
    }
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> Seen {
    // SAFETY: three numbers.
    match unsafe { libc::socket(family, kind, protocol) } {
        -1 => Err(io::Error::last_os_error().to_string()),
        _ => Ok("a socket was made".into()),
    }
}

/// Listens to audit messages: everybody may make the socket, and only permitted processes may listen.
fn audit() -> Seen {
    // SAFETY: a socket of three numbers, and an address of the length that is given.
    unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK.unsigned_abs().try_into().unwrap_or_default();
        address.nl_groups = 1;
        let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
        refused(c_long::from(libc::bind(socket, (&raw const address).cast(), length)))
    }
}

fn connected(address: &str) -> Seen {
    let address: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    held(TcpStream::connect_timeout(&address, ANSWER), |_| format!("connected to {address}"))
}

/// Connects to the first address of the lab's network, which would be the host's if the bridge had one.
fn by_first_address(world: &World) -> Seen {
    let network = world.peer.rsplit_once('.').map(|(network, _)| network).ok_or("the peer has no address")?;
    connected(&format!("{network}.1:{}", world.port))
}

fn abstract_socket(world: &World) -> Seen {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&world.abstract_name);
    held(address.and_then(|address| UnixStream::connect_addr(&address)), |_| "connected".into())
}

fn shared_memory(world: &World) -> Seen {
    let own = std::fs::read_link("/proc/self/ns/ipc").map_err(|error| error.to_string())?;
    if own.display().to_string() == world.ipc {
        Ok("the host's table".into())
    } else {
        Err("a table of the machine's own".into())
    }
}

/// Checks whether the host's process could be signaled, without a signal.
fn signal(world: &World) -> Seen {
    let pid: i32 = world.pid.parse().map_err(|_| "no process".to_owned())?;
    let is_ours =
        std::fs::read_to_string(format!("/proc/{pid}/environ")).is_ok_and(|text| text.contains("E2E_SOCKET="));
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        Ok(()) if is_ours => Ok(format!("process {pid} of the host")),
        Ok(()) => Err("a process of the machine's own".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks for a process with a variable in its environment that only processes of the host have.
fn trace(_: &World) -> Seen {
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path().join("environ")) else { continue };
        seen += 1;
        if text.contains("E2E_SOCKET=") {
            return Ok(format!("{} is the host's", entry.path().display()));
        }
    }
    Err(format!("{seen} processes, all of the machine's own"))
}

fn namespace(pid: &str) -> Seen {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).map_err(|error| error.to_string())?;
    nix::sched::setns(file, CloneFlags::CLONE_NEWNS).map(|()| "entered".into()).map_err(|error| error.to_string())
}

/// Opens the caller's terminal, and tries to type into it with `TIOCSTI`.
fn terminal(_: &World) -> Seen {
    let file = std::fs::File::open("/dev/tty").map_err(|error| error.to_string())?;
    use std::os::fd::AsRawFd as _;
    // SAFETY: asks for a number.
    refused(c_long::from(unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCSTI, c"".as_ptr()) }))
}
