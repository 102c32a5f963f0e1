//! LXC configuration of a container, as text.

use super::confinement;
use super::machine::Machine;
use crate::guard::Slot;
use crate::host::cgroup;
use crate::host::container::apparmor::{self, Confinement};
use crate::host::container::lxc;
use crate::host::syntax::{LxcConfig, ShellWord, Unwritable, compose};
use crate::manifest::Init;

/// File name of the log of a container's console.
pub(super) const CONSOLE: &str = "console.log";

/// Maximum bytes of a console's log on the host. A full log is renamed to `console.log.1`, replacing an older one of that name, and a new
/// log begins.
pub const CONSOLE_BYTES_MAX: u64 = 8 << 20;

/// Paths on the host of one container's files and folders, below the slot's folder.
#[derive(Debug, Clone)]
pub struct Places {
    pub dir: std::path::PathBuf,
    /// Cgroup of the slot, relative to the top of each cgroup hierarchy.
    pub slot_cgroup: String,
}

impl Places {
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

    /// Path of a file that gets one line for each start of the container, also for reboots from inside.
    pub fn starts(&self) -> std::path::PathBuf {
        self.dir.join("starts")
    }

    /// Path of LXC's seccomp policy for a machine, beside its configuration.
    pub fn policy(machine: &Machine) -> std::path::PathBuf {
        lxc::container_dir(&machine.host_name).join("seccomp")
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

/// Features of this host that the configuration depends on.
#[derive(Debug, Clone)]
pub struct HostTraits {
    pub cgroup: cgroup::Version,
    /// Maximum number of processors that this host grants, such as 1.5.
    pub cpus: f64,
    pub confinement: Confinement,
}

impl HostTraits {
    /// Detects the features of this host, and loads the AppArmor profile that confines containers.
    ///
    /// # Errors
    /// When the kernel requires an AppArmor profile, but loading the profile fails.
    pub fn of_this_host() -> anyhow::Result<Self> {
        Ok(Self { cgroup: cgroup::version(), cpus: cgroup::cpus_at_most(), confinement: apparmor::confinement()? })
    }
}

/// Composes the LXC configuration of a machine.
pub fn lxc_config(machine: &Machine, places: &Places, host: &HostTraits) -> Result<LxcConfig, Unwritable> {
    let mut config = LxcConfig::default();
    let template = &machine.template;
    config.set("lxc.uts.name", &machine.name)?;
    config.set_folder("lxc.rootfs.path", &places.root())?;
    config.set("lxc.cgroup.dir", &format!("{}/{}", places.slot_cgroup, machine.name))?;
    if !template.privileged {
        for kind in ["u", "g"] {
            config.set("lxc.idmap", &format!("{kind} 0 {} {}", machine.ids.first, machine.ids.count))?;
        }
    }
    config.set("lxc.net.0.type", "empty")?;
    let hook = ShellWord::path(&places.hook())?;
    config.set_script("lxc.hook.start-host", &compose!(Shell, "/bin/sh {hook}", hook = hook))?;
    config.set("lxc.mount.auto", "proc:mixed sys:mixed cgroup:mixed")?;
    config.set("lxc.autodev", "1")?;
    config.set("lxc.tty.max", "0")?;
    config.set("lxc.pty.max", "1024")?;
    if confinement::parts(machine).is_some() {
        config.set_path("lxc.seccomp.profile", &Places::policy(machine))?;
        // The engine's own filter is on lxc-start already.
        config.set("lxc.seccomp.allow_nesting", "1")?;
    }
    for (key, value) in confinement::lines(machine) {
        config.set(key, &value)?;
    }
    for (index, volume) in template.volumes.iter().enumerate() {
        config.bind(&places.volume(index), volume.path.trim_start_matches('/'))?;
    }
    let limits = cgroup::Limits {
        memory_bytes: template.limits.memory,
        cpus: template.limits.cpus.min(host.cpus),
        pids: template.limits.pids,
    };
    for (key, value) in cgroup::limit_lines(host.cgroup, &limits) {
        config.set(key, &value)?;
    }
    match &template.init {
        Init::Systemd => {
            config.set("lxc.init.cmd", "/sbin/init")?;
            config.set("lxc.signal.halt", "SIGRTMIN+3")?;
        }
        Init::Command(argv) => config.set_words("lxc.init.cmd", argv)?,
    }
    config.set_variable("container", "lxc")?;
    for (name, value) in &template.environment {
        config.set_variable(name, value)?;
    }
    config.set_path("lxc.console.logfile", &machine.log_dir().join(CONSOLE))?;
    // A full one becomes `console.log.1`, so that the newest bytes are there whatever a machine prints.
    config.set("lxc.console.size", &CONSOLE_BYTES_MAX.to_string())?;
    config.set("lxc.console.rotate", "1")?;
    match &host.confinement {
        Confinement::None => {}
        Confinement::Inherited => config.set("lxc.apparmor.profile", "unchanged")?,
        Confinement::Profile(name) => config.set("lxc.apparmor.profile", name)?,
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::host::container::ids::IdRange;
    use crate::manifest::{Network, Template};

    /// Parses a template with this init, environment variable and volume path; an error has the message of the template's parser.
    fn template(init: &[String], environment: &str, volume: &str) -> Result<Template, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let (init, value, path) = (json!(init), json!(environment), json!(volume)); // TOML reads these, too
        let text = format!(
            "from = 'scratch'\ninit = {init}\n[environment]\nA = {value}\nB = 'b'\n[[volumes]]\npath = {path}\nsize = '1M'\n"
        );
        fs::write(folder.path().join("a/template.toml"), text).unwrap();
        match Template::read_all(folder.path()) {
            Ok(mut all) => Ok(all.remove("a").unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn config_of(template: Template) -> Result<String, Unwritable> {
        let machine = Machine {
            name: "a".into(),
            host_name: "mancer-e2e-a".into(),
            template,
            layers: Vec::new(),
            first_ids: Vec::new(),
            network: Network { base: std::net::Ipv4Addr::new(10, 77, 0, 0) },
            octet: 11,
            ids: IdRange { first: 100_000, count: 65_536 },
        };
        let places = Places { dir: "/run/mancer-e2e/1/containers/a".into(), slot_cgroup: "mancer-e2e-1".into() };
        let host = HostTraits { cgroup: cgroup::Version::V1, cpus: 2.0, confinement: Confinement::None };
        lxc_config(&machine, &places, &host).map(LxcConfig::into_string)
    }

    fn odd() -> impl Strategy<Value = String> {
        let characters: Vec<char> =
            "\n\r\t\0 \"'\\#=%$`;{}a/.\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{202e}é漢".chars().collect();
        prop::collection::vec(prop::sample::select(characters), 0..8).prop_map(|found| found.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_template_that_is_accepted_makes_the_expected_lines_and_no_others(
            word in odd(), value in odd(), volume in odd()
        ) {
            let plain = config_of(template(&["/init".into()], "x", "/v").unwrap()).unwrap();
            for (init, value, volume) in [(&word[..], "x", "v"), ("w", &value, "v"), ("w", "x", &volume)] {
                let init = ["/init".to_owned(), init.to_owned()];
                let Ok(template) = template(&init, value, &format!("/{volume}")) else { continue };
                let text = config_of(template).unwrap();
                let lines: Vec<&str> = text.split('\n').collect();
                prop_assert_eq!(lines.len(), plain.split('\n').count());
                for line in [
                    format!("lxc.init.cmd = /init {}", init[1]),
                    format!("lxc.environment = A={value}"),
                    "lxc.environment = B=b".to_owned(),
                    format!("lxc.mount.entry = /run/mancer-e2e/1/containers/a/volume0 {volume} none bind,create=dir 0 0"),
                ] {
                    prop_assert!(lines.contains(&line.as_str()), "{line} is not in {text}");
                }
            }
        }
    }

    #[test]
    fn what_lxc_cannot_hold_is_refused_where_the_template_is_read() {
        let error = |init: &str, value: &str, volume: &str| {
            template(&["/init".into(), init.to_owned()], value, volume).unwrap_err()
        };
        let hook = "x\nlxc.hook.pre-start = /bin/touch /x";
        for (text, place) in [
            (error("w", hook, "/v"), "a/template.toml:4:5: "),
            (error("w", "x", &format!("/{hook}")), "a/template.toml:7:8: "),
            (error(hook, "x", "/v"), "a/template.toml:2:8: "),
            (error("a b", "x", "/v"), "a/template.toml:2:8: "),
        ] {
            assert!(text.contains(place), "{text}");
        }
        assert!(template(&["/init".into(), "a\"b'#$x".into()], "a b # \"c\" %n", "/v").is_ok());
    }
}
