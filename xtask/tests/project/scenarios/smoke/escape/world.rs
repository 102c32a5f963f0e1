//! An attempt, and what it knows of the host.

use nix::errno::Errno;

/// Content of the host's file that attempts are after.
pub const MARK: &str = "a file of the host\n";

/// Evidence that an attempt has worked, or what has held it.
pub type Seen = Result<String, String>;

/// Way out, tried by root inside the machine.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub name: &'static str,
    /// Gain of an attacker by it.
    pub gain: &'static str,
    pub make: fn(&World) -> Seen,
}

/// Things of the host, by names that lead to nothing inside the machine.
pub struct World {
    /// Path of a file with [`MARK`].
    pub marker: String,
    /// Process of the scenario.
    pub pid: String,
    /// TCP port on which the scenario listens on the host's loopback.
    pub port: String,
    /// Abstract socket on which it listens.
    pub abstract_name: String,
    /// Address of machine `b`.
    pub peer: String,
    /// Namespace of the host's shared memory.
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

/// The kernel's answer to a call that it should refuse: an answer of the call's own work means that it was let through.
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

/// The end of an action on a path or device: an error has held it.
pub fn held<T>(result: std::io::Result<T>, evidence: impl FnOnce(T) -> String) -> Seen {
    result.map(evidence).map_err(|error| error.to_string())
}
