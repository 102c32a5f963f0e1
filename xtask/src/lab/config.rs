//! A container's LXC configuration, as text.

use std::fmt::Write as _;
use std::path::Path;

use super::machine::Machine;
use crate::guard::Slot;
use crate::host::apparmor::{Confinement, confinement};
use crate::host::cgroup;
use crate::manifest::Init;

/// Where the parts of one container lie on the host, below the slot's folder.
#[derive(Debug, Clone)]
pub struct Places {
    /// The container's folder.
    pub dir: std::path::PathBuf,
    /// The slot's cgroup.
    pub slot_cgroup: String,
}

impl Places {
    /// Those of a machine in a slot.
    pub fn of(slot: &Slot, machine: &Machine) -> Self {
        Self { dir: slot.dir().join("containers").join(&machine.name), slot_cgroup: slot.cgroup() }
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.dir.join("root")
    }

    pub fn hook(&self) -> std::path::PathBuf {
        self.dir.join("hook.sh")
    }

    pub fn init_pid(&self) -> std::path::PathBuf {
        self.dir.join("init.pid")
    }

    /// A line for each start of the container, by whomever.
    pub fn starts(&self) -> std::path::PathBuf {
        self.dir.join("starts")
    }

    pub fn writes(&self) -> std::path::PathBuf {
        self.dir.join("writes")
    }

    pub fn upper(&self) -> std::path::PathBuf {
        self.writes().join("upper")
    }

    pub fn volume(&self, index: usize) -> std::path::PathBuf {
        self.dir.join(format!("volume{index}"))
    }

    pub fn images(&self) -> std::path::PathBuf {
        self.dir.join("images")
    }

    pub fn image(&self, index: usize) -> std::path::PathBuf {
        self.images().join(format!("{index}.img"))
    }
}

/// What this host has that the configuration depends on.
#[derive(Debug, Clone)]
pub struct HostTraits {
    pub cgroup: cgroup::Version,
    /// Processors that it grants at most, in fractions of one.
    pub cpus: f64,
    pub confinement: Confinement,
}

impl HostTraits {
    /// Looks at this host, and loads the profile that containers are confined by.
    ///
    /// # Errors
    /// When the kernel wants a profile, and it cannot be loaded.
    pub fn of_this_host() -> anyhow::Result<Self> {
        Ok(Self { cgroup: cgroup::version(), cpus: cgroup::cpus_at_most(), confinement: confinement()? })
    }
}

pub fn lxc_config(machine: &Machine, places: &Places, host: &HostTraits) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    let template = &machine.template;
    let show = |path: &Path| path.display().to_string();
    line("lxc.uts.name", &machine.name);
    line("lxc.rootfs.path", &format!("dir:{}", show(&places.root())));
    line("lxc.cgroup.dir", &format!("{}/{}", places.slot_cgroup, machine.name));
    if !template.privileged {
        for kind in ["u", "g"] {
            line("lxc.idmap", &format!("{kind} 0 {} {}", machine.ids.first, machine.ids.count));
        }
    }
    line("lxc.net.0.type", "empty");
    line("lxc.hook.start-host", &format!("/bin/sh {}", show(&places.hook())));
    line("lxc.mount.auto", "proc:mixed sys:mixed cgroup:mixed");
    line("lxc.autodev", "1");
    line("lxc.tty.max", "0");
    line("lxc.pty.max", "1024");
    line("lxc.cap.drop", "sys_module mac_admin mac_override sys_time");
    for (index, volume) in template.volumes.iter().enumerate() {
        let target = volume.path.trim_start_matches('/');
        line("lxc.mount.entry", &format!("{} {target} none bind,create=dir 0 0", show(&places.volume(index))));
    }
    let limits = cgroup::Limits {
        memory_bytes: template.limits.memory,
        cpus: template.limits.cpus.min(host.cpus),
        pids: template.limits.pids,
    };
    for (key, value) in cgroup::limit_lines(host.cgroup, &limits) {
        line(key, &value);
    }
    match &template.init {
        Init::Systemd => {
            line("lxc.init.cmd", "/sbin/init");
            line("lxc.signal.halt", "SIGRTMIN+3");
        }
        Init::Command(argv) => {
            line("lxc.init.cmd", &argv.join(" "));
        }
    }
    line("lxc.environment", "container=lxc");
    for (name, value) in &template.environment {
        line("lxc.environment", &format!("{name}={value}"));
    }
    let logs = machine.log_dir();
    line("lxc.console.logfile", &show(&logs.join("console.log")));
    match &host.confinement {
        Confinement::None => {}
        Confinement::Inherited => line("lxc.apparmor.profile", "unchanged"),
        Confinement::Profile(name) => line("lxc.apparmor.profile", name),
    }
    text
}
