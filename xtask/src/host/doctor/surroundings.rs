//! Container that the engine itself runs in, where there is one, because the help for it differs from the help for a machine.

use std::fs;
use std::path::Path;

/// Kind of the container around the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Instance of Incus, or of LXD before it.
    Incus,
    /// Container of plain LXC.
    Lxc,
    /// Container of Docker, Podman or a similar tool.
    Docker,
    /// Container of another kind.
    Other,
}

/// Container around the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    pub kind: Kind,
    /// Name of the kind, such as `podman`, as the container itself gives it.
    pub name: String,
    /// True if the container's root is an ordinary user outside.
    pub is_unprivileged: bool,
}

/// Name that Linux gives the first PID namespace, which only the machine itself has.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

impl Surroundings {
    /// Finds the container around this process, if any: by systemd's file, else by the first process's environment, else by the files that
    /// Docker and Podman leave.
    pub fn find() -> Option<Self> {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Option<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let of_systemd = Some(text("run/systemd/container").trim().to_owned());
        let environment = fs::read(root.join("proc/1/environ")).unwrap_or_default();
        let of_init = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"container="));
        let of_init = of_init.map(|name| String::from_utf8_lossy(name).into_owned());
        // A machine whose image was made by Docker has the file too; it sees the first processes of its kernel.
        let sees_all =
            fs::read_link(root.join("proc/self/ns/pid")).is_ok_and(|it| it == Path::new(FIRST_PID_NAMESPACE));
        let left = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
        let of_file = || left.iter().find(|(file, _)| !sees_all && root.join(file).exists());
        let said = [of_systemd, of_init].into_iter().flatten().find(|name| !name.is_empty());
        let name = said.or_else(|| of_file().map(|(_, name)| (*name).to_owned()))?;
        let has_socket = |path: &str| root.join(path).exists();
        let kind = match name.as_str() {
            _ if ["dev/incus", "dev/lxd"].iter().any(|path| has_socket(path)) => Kind::Incus,
            "lxc" => Kind::Lxc,
            "docker" | "podman" | "oci" => Kind::Docker,
            _ => Kind::Other,
        };
        // Inside first, outside second.
        let outside = text("proc/self/uid_map").split_whitespace().nth(1).map(str::to_owned);
        Some(Self { kind, name, is_unprivileged: outside.is_some_and(|id| id != "0") })
    }

    /// Describes the container for people.
    pub fn described(&self) -> String {
        let rights = if self.is_unprivileged { "an unprivileged" } else { "a" };
        let name = if self.kind == Kind::Incus { "Incus or LXD" } else { &self.name };
        format!("in {rights} container ({name})")
    }

    /// Help where namespaces or mounts are refused.
    pub fn help_for_rights(&self) -> String {
        match self.kind {
            Kind::Incus => {
                "on the machine around this instance: incus config set INSTANCE security.privileged=true \
                            security.nesting=true, then incus restart INSTANCE"
            }
            Kind::Lxc => {
                "on the machine around this container: lxc.include = /usr/share/lxc/config/nesting.conf in its \
                          config, and no lxc.idmap, then start it again"
            }
            Kind::Docker => "start this container with --privileged --cgroupns=private",
            Kind::Other => "start this container privileged, or run on the machine around it",
        }
        .to_owned()
    }

    /// Help where loop devices cannot be used. `become_root` turns a command into the one that a user types here to run it as root.
    pub fn help_for_loop(&self, become_root: impl Fn(&str) -> String) -> String {
        const RULES: &str =
            "lxc.cgroup2.devices.allow = b 7:* rwm, lxc.cgroup2.devices.allow = c 10:237 rwm (cgroup v1: lxc.cgroup.)";
        let nodes = become_root(
            "sh -c 'mknod /dev/loop-control c 10 237; for n in $(seq 0 15); do mknod /dev/loop$n b 7 $n; done'",
        );
        match (self.kind, self.is_unprivileged) {
            (Kind::Incus, true) => {
                format!(
                    "{}; then run doctor there again, which names the device rules and nodes that are still missing",
                    self.help_for_rights()
                )
            }
            (Kind::Incus, false) => {
                format!(
                    "on the machine around this instance, into its raw.lxc: {RULES}; then incus restart INSTANCE, and here: {nodes}"
                )
            }
            (Kind::Lxc, _) => {
                format!(
                    "on the machine around this container, into its config: {RULES}; then start it again, and here: {nodes}"
                )
            }
            (Kind::Docker, _) => {
                format!("start this container with --privileged, and here, where nodes are missing: {nodes}")
            }
            (Kind::Other, _) => format!("let this container use the devices b 7:* and c 10:237, and here: {nodes}"),
        }
    }

    /// Help where cgroups cannot be written to.
    pub fn help_for_cgroups(&self) -> String {
        match self.kind {
            Kind::Incus => "on the machine around this instance, into its raw.lxc: lxc.mount.auto = proc:rw sys:rw \
                            cgroup:rw:force, then incus restart INSTANCE"
                .to_owned(),
            Kind::Lxc => "on the machine around this container, into its config: lxc.mount.auto = proc:rw sys:rw \
                          cgroup:rw:force, then start it again"
                .to_owned(),
            Kind::Docker | Kind::Other => self.help_for_rights(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(files: &[(&str, &str)], pid_namespace: &str, expected: Option<(Kind, &str, bool)>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(root.path().join("proc/self/ns")).unwrap();
        symlink(pid_namespace, root.path().join("proc/self/ns/pid")).unwrap();
        let found = Surroundings::below(root.path());
        let found = found.as_ref().map(|it| (it.kind, it.name.as_str(), it.is_unprivileged));
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn a_container_is_known_by_what_its_manager_leaves_in_it() {
        let own = "pid:[4026532999]";
        let privileged = ("proc/self/uid_map", "         0          0 4294967295\n");
        let unprivileged = ("proc/self/uid_map", "         0    1000000 1000000000\n");
        check(&[], FIRST_PID_NAMESPACE, None);
        check(&[privileged], own, None);
        check(&[("run/systemd/container", "lxc\n"), privileged], own, Some((Kind::Lxc, "lxc", false)));
        check(&[("proc/1/environ", "A=b\0container=lxc\0"), unprivileged], own, Some((Kind::Lxc, "lxc", true)));
        check(
            &[("proc/1/environ", "container=lxc\0"), ("dev/incus/sock", ""), unprivileged],
            own,
            Some((Kind::Incus, "lxc", true)),
        );
        check(&[("run/systemd/container", "lxc"), ("dev/lxd/sock", "")], own, Some((Kind::Incus, "lxc", false)));
        check(&[(".dockerenv", ""), privileged], own, Some((Kind::Docker, "docker", false)));
        check(&[("run/.containerenv", "engine=podman"), unprivileged], own, Some((Kind::Docker, "podman", true)));
        check(&[("run/systemd/container", "systemd-nspawn")], own, Some((Kind::Other, "systemd-nspawn", false)));
    }

    #[test]
    fn a_machine_whose_image_docker_made_is_no_container() {
        check(&[(".dockerenv", "")], FIRST_PID_NAMESPACE, None);
    }
}
