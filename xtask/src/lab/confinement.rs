//! Confinement of a machine: what it may do to the other machines of its lab.

use crate::host::port_lock;

/// Lines that say what this host lacks for the isolation of machines, which run without it then.
#[must_use]
pub fn isolation_problems() -> Vec<String> {
    let ports = port_lock::problem()
        .map(|problem| format!("machines of a lab can take each other's addresses: ports are not locked: {problem}"));
    ports.into_iter().collect()
}
