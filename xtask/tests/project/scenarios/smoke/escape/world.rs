//! Attempt to escape, and its knowledge of the host.

use nix::errno::Errno;

/// Content of the host's file that attempts try to read.
pub const MARK: &str = "a file of the host\n";

/// Result of an attempt: `Ok` with the evidence that it succeeded, or `Err` with what has stopped it.
pub type Seen = Result<String, String>;

/// Attempt to escape, made by root inside the machine.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub name: &'static str,
    /// Gain of an attacker if the attempt succeeds.
    pub gain: &'static str,
    pub make: fn(&World) -> Seen,
}

/// Things of the host, by names that mean nothing inside the machine.
pub struct World {
    /// Path of a file with [`MARK`].
    pub marker: String,
    /// Process id of the scenario on the host.
    pub pid: String,
    /// TCP port on which the scenario listens on the host's loopback.
    pub port: String,
    /// Name of the abstract socket on which the scenario listens.
    pub abstract_name: String,
    /// Address of machine `b`.
    pub peer: String,
    /// IPC namespace of the host, in which its shared memory is.
    pub ipc: String,
}

impl World {
    pub fn from_environment() -> Self {
        let read = |name: &str| std::env::var(format!("ESCAPE_{name}")).unwrap_or_default();
        Self {
            marker: read("MARKER"),
            pid: read("PID"),
            port: read("PORT"),
            abstract_name: read("ABSTRACT"),
            peer: read("PEER"),
            ipc: read("IPC"),
        }
    }

    pub fn variables(&self) -> impl Iterator<Item = (String, &String)> {
        let all = [
            ("MARKER", &self.marker),
            ("PID", &self.pid),
            ("PORT", &self.port),
            ("ABSTRACT", &self.abstract_name),
            ("PEER", &self.peer),
            ("IPC", &self.ipc),
        ];
        all.into_iter().map(|(name, value)| (format!("ESCAPE_{name}"), value))
    }
}

/// Turns the result of a system call that the kernel should refuse into the result of the attempt: any other error comes from the call's
/// own work, so the call was permitted.
pub fn refused(result: nix::libc::c_long) -> Seen {
    if result >= 0 {
        return Ok(format!("done: {result}"));
    }
    match Errno::last() {
        refusal @ (Errno::EPERM
        | Errno::EACCES
        | Errno::ENOSYS
        | Errno::EROFS
        | Errno::EAFNOSUPPORT
        | Errno::EPROTONOSUPPORT) => Err(refusal.to_string()),
        other => Ok(format!("let through to the call's own work: {other}")),
    }
}

/// Turns the result of an action on a path or device into the result of the attempt: an error has stopped it.
pub fn held<T>(result: std::io::Result<T>, evidence: impl FnOnce(T) -> String) -> Seen {
    result.map(evidence).map_err(|error| error.to_string())
}
