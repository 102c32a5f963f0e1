//! Standstill without a fault of the run: a machine frozen from outside, or its `lxc-start` or the guard stopped by a signal.

use std::fmt;

use super::container::Container;
use super::up::Lab;
use crate::guard::Holder;
use crate::host::cgroup::Tree;
use crate::host::exec::process;

/// Part of a lab that was stopped or frozen from outside the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standstill {
    what: String,
    /// Command that lets the stopped part continue.
    help: String,
}

impl std::error::Error for Standstill {}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, help } = self;
        write!(f, "{what}, but not by a fault of this run (`{help}` continues it)")
    }
}

impl Container {
    /// Returns the part of the container that is stopped without a fault: its `lxc-start`, or all its processes.
    #[must_use]
    pub fn standstill(&self) -> Option<Standstill> {
        let name = &self.machine().name;
        let monitor = self.process();
        if monitor.exited().is_none() && process::is_stopped(monitor.pid()) {
            let pid = monitor.pid();
            let what = format!("the lxc-start of {name} (process {pid}) was stopped by a signal");
            return Some(Standstill { what, help: format!("kill -CONT {pid}") });
        }
        // A fault notes its outage before it freezes, and takes that back after the thaw.
        let is_frozen =
            || self.group().is_ok_and(|group| Tree::named(group.name()).is_frozen_itself()) && self.outage().is_none();
        if self.outage().is_none() && is_frozen() {
            let help = format!("lxc-unfreeze -n {}", self.machine().host_name);
            return Some(Standstill { what: format!("{name} is frozen"), help });
        }
        None
    }
}

impl Lab {
    /// Returns the first part of the lab that is stopped without a fault: the guard, or a container.
    #[must_use]
    pub fn standstill(&self) -> Option<Standstill> {
        let slot = self.guard().slot();
        let holder = slot.holder().ok().flatten().filter(Holder::is_stopped);
        let guard = holder.and_then(|holder| holder.pid).map(|pid| Standstill {
            what: format!("the guard of slot {} (process {pid}) was stopped by a signal", slot.name()),
            help: format!("kill -CONT {pid}"),
        });
        guard.or_else(|| self.containers().iter().find_map(Container::standstill))
    }
}
