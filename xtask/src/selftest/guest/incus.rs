//! Guests of Incus, which runs in a Debian tree of its own, with its own mounts, network and processes, and below one control group. So
//! nothing is installed on the host, an Incus of the host is not affected, and all processes end with the first one. An instance has no
//! network: its payload is copied into the instance as an archive, and its record is copied out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

use super::console;
use super::order::Order;
use super::record::HostRecord;
use super::tree::{Form, LAB_PACKAGES, Scratch, Tree, require_x86_64};
use crate::error::Error;
use crate::host::cgroup;
use crate::host::exec::shell::{Command, Output};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

/// Debian release of the tree in which Incus runs: the oldest release that has Incus.
const PROGRAM_SUITE: &str = "trixie";

/// Packages of the tree in which Incus runs. The package `incus` would add virtual machines.
const PROGRAM_PACKAGES: &[&str] = &["incus-base", "incus-client", "kmod", "mount"];

/// Shell script that finishes the tree in which Incus runs: it adds ids for unprivileged instances.
const PROGRAM_FINISH: &str = "
echo root:1000000:1000000000 > \"$TREE/etc/subuid\"
cp \"$TREE/etc/subuid\" \"$TREE/etc/subgid\"
";

/// Packages of an instance beside [`LAB_PACKAGES`]: a small Debian with what `setup` installs for a project of busybox machines.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "dbus",
    "mmdebstrap",
    "debian-archive-keyring",
    "openssh-client",
    "sudo",
    "ca-certificates",
    "libfaketime",
];

/// Shell script that finishes the tree of an instance: it disables timers and consoles, which would run beside the tests, and units that
/// wait half a minute for a network.
const FINISH: &str = "
chroot \"$TREE\" systemctl mask lxc.service lxc-net.service systemd-binfmt.service apt-daily.timer \\
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer console-getty.service
echo guest > \"$TREE/etc/hostname\"
";

/// Shell script that joins the control group in each hierarchy, then starts its arguments in new namespaces. In a hierarchy of version 2
/// the process joins a leaf (`init.scope`) that LXC omits from its own paths, because a group that delegates controllers cannot hold
/// processes.
const ENTER: &str = "
set -e
for top in $HIERARCHIES; do
    own=$top/$GROUP
    mkdir -p \"$own\"
    if [ -e \"$top/cgroup.controllers\" ]; then
        mkdir -p \"$own/init.scope\"
        echo $$ > \"$own/init.scope/cgroup.procs\"
        for controller in $(cat \"$top/cgroup.controllers\"); do
            { echo \"+$controller\" > \"$top/cgroup.subtree_control\"; } 2> /dev/null || :
            { echo \"+$controller\" > \"$own/cgroup.subtree_control\"; } 2> /dev/null || :
        done
    else
        for file in cpuset.cpus cpuset.mems; do
            if [ -e \"$own/$file\" ]; then cat \"$top/$file\" > \"$own/$file\"; fi
        done
        echo $$ > \"$own/cgroup.procs\"
    fi
done
exec unshare --mount --propagation private --uts --ipc --net --pid --fork --kill-child --mount-proc -- sh -c \"$PIVOT\"
";

/// Shell script that makes the tree, read-only, the root of the new namespaces, and mounts the folder of this run at `/mnt`.
const PIVOT: &str = "
set -e
hostname guest-host
ip link set lo up
mount --bind \"$TREE\" \"$TREE\"
mount -t proc proc \"$TREE/proc\"
mount --rbind /dev \"$TREE/dev\"
mount -t sysfs sysfs \"$TREE/sys\"
mount --rbind /sys/fs/cgroup \"$TREE/sys/fs/cgroup\"
mount -t tmpfs -o mode=755 tmpfs \"$TREE/run\"
mount -t tmpfs -o mode=1777 tmpfs \"$TREE/tmp\"
mount --bind \"$SCRATCH\" \"$TREE/mnt\"
for name in payload image; do mkdir \"$TREE/mnt/$name\"; done
mount --bind \"$PAYLOAD\" \"$TREE/mnt/payload\"
mount --bind \"$IMAGE\" \"$TREE/mnt/image\"
mount -o remount,bind,ro \"$TREE\"
cd \"$TREE\"
mkdir run/old run/lock
pivot_root . run/old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LC_ALL=C.UTF-8
cd /
umount -l /run/old
exec sh -c \"$WORK\"
";

/// Shell script that starts Incus and an instance, sends the work in, runs the order, and copies the record back.
const RUN: &str = "
set -e
export INCUS_DIR=/mnt/incus INCUS_CONF=/run/incus-client
within() { timeout --kill-after=5 \"$STEP_S\" \"$@\" || { echo \"guest: status $? of: $*\"; exit 1; }; }
mkdir \"$INCUS_DIR\"
/usr/libexec/incus/incusd &
within incus admin waitready
echo 'guest: Incus is ready'
within incus admin init --preseed <<END
storage_pools: [{name: default, driver: dir}]
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
END
cd /mnt
printf 'architecture: x86_64\\ncreation_date: 1764000000\\nproperties: {description: guest}\\n' > metadata.yaml
tar -cf metadata.tar metadata.yaml
tar --numeric-owner -C image -cf rootfs.tar .
within incus --quiet image import metadata.tar rootfs.tar --alias guest
rm rootfs.tar
within incus --quiet init guest guest -c security.nesting=true -c security.privileged=\"$IS_PRIVILEGED\" -c raw.lxc=\"$RAW\"
within incus --quiet start guest
if [ \"$IS_PRIVILEGED\" = true ]; then
    within incus exec guest -- sh -c 'mknod /dev/loop-control c 10 237; for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; done'
fi
within incus exec guest -- sh -c 'until systemctl is-system-running 2>&1 | grep -Ex \"running|degraded\"; do sleep 0.2; done'
echo 'guest: the instance is ready'
tar -C payload -cf payload.tar .
within incus exec guest -- mkdir /e2e
within incus exec guest -- tar -x -C /e2e --no-same-owner < payload.tar
rm payload.tar
status=0
incus exec guest --env HOME=/root --env LC_ALL=C.UTF-8 -- /e2e/engine guest-order /e2e/order.json < /dev/null || status=$?
echo \"guest: the order ended with status $status\"
within incus exec guest -- cat /e2e/record.json > record.json.new
mv record.json.new record.json
";

/// Folder of the payload inside an instance.
pub const PAYLOAD: &str = "/e2e";

/// Control group of all processes of a test, including those of Incus and LXC.
const GROUP: &str = "mancer-e2e-host-incus";

const STEP_DEADLINE: Deadline = Deadline::from_secs(90);
const END_DEADLINE: Deadline = Deadline::from_secs(20);

/// Kind of an Incus instance, by the rights of its root user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Root of the instance is root of the host.
    Privileged,
    /// Root of the instance is an ordinary user of the host.
    Unprivileged,
}

impl Rights {
    /// Returns the word for these rights in the record's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Unprivileged => "unprivileged",
        }
    }

    /// Returns the checks of `doctor` that are expected to fail with these rights: an unprivileged instance cannot mount ext4, whatever its
    /// settings.
    #[must_use]
    pub const fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::Privileged => &[],
            Self::Unprivileged => &["loop"],
        }
    }

    /// Returns the lines of LXC configuration that the instance needs on a host with this `layout` of control groups, as the help of
    /// `doctor` names them.
    fn raw_lxc(self, layout: &str) -> String {
        let cgroup = if layout == "v2" { "lxc.cgroup2" } else { "lxc.cgroup" };
        let mut lines: Vec<String> = match self {
            Self::Privileged => {
                ["b 7:*", "c 10:237"].map(|device| format!("{cgroup}.devices.allow = {device} rwm")).into()
            }
            Self::Unprivileged => Vec::new(),
        };
        // LXC adds to what Incus has set, unless an empty value comes first.
        lines.push("lxc.mount.auto =".to_owned());
        lines.push("lxc.mount.auto = proc:rw sys:rw cgroup:rw:force".to_owned());
        // Incus sees no AppArmor in its tree, and LXC would take a profile that nobody has loaded.
        lines.push("lxc.apparmor.profile = unconfined".to_owned());
        lines.join("\n")
    }
}

/// Debian trees of Incus and of its instances.
#[derive(Debug)]
pub struct Incus {
    world: World,
    image: PathBuf,
}

/// Checks that instances of Incus can be made on this host.
///
/// # Errors
/// [`Error::Host`] if the processor is not x86_64.
pub fn require() -> Result<(), Error> {
    require_x86_64("the instances of Incus")
}

impl Incus {
    /// Builds the tree in which Incus runs, and the tree of its instances.
    ///
    /// # Errors
    /// [`Error::Host`] if the processor is not x86_64.
    pub fn prepare(suite: &str, store: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        require()?;
        let program = Tree {
            form: Form::Folder,
            kind: "incus-program",
            suite: PROGRAM_SUITE,
            packages: PROGRAM_PACKAGES.to_vec(),
            finish: PROGRAM_FINISH,
            variables: &[],
        };
        let image = Tree {
            form: Form::Folder,
            kind: "incus",
            suite,
            packages: [LAB_PACKAGES, PACKAGES].concat(),
            finish: FINISH,
            variables: &[],
        };
        let tree = program.ensure(store, say)?.join("tree");
        let image = image.ensure(store, say)?.join("tree");
        Ok(Self { world: World { tree, store: store.to_owned(), group: GROUP.to_owned() }, image })
    }

    /// Runs an order in a new instance with a payload, and returns the record.
    ///
    /// # Errors
    /// If Incus or the instance fails or misses its deadline, with the end of the console; if something of them is left on the host.
    pub fn carry_out(
        &self,
        rights: Rights,
        order: &Order,
        payload: &Path,
        invoker: &Invoker,
        deadline: Duration,
    ) -> anyhow::Result<HostRecord> {
        invoker.replace(&payload.join("order.json"), &serde_json::to_vec_pretty(order)?)?;
        let is_privileged = rights == Rights::Privileged;
        let variables = [
            ("IMAGE", self.image.display().to_string()),
            ("IS_PRIVILEGED", is_privileged.to_string()),
            ("RAW", rights.raw_lxc(cgroup::layout())),
            ("STEP_S", STEP_DEADLINE.scaled().as_secs().to_string()),
        ];
        self.world.carry_out(RUN, &variables, order, payload, invoker, deadline)
    }
}

/// Debian tree whose programs are run in namespaces and a control group of their own.
#[derive(Debug)]
struct World {
    tree: PathBuf,
    store: PathBuf,
    group: String,
}

impl World {
    /// Runs a script as the first process of new namespaces whose root is the tree, and returns the record that the script writes to
    /// `/mnt`. Afterwards no process and no control group is left, whether the script succeeded or not.
    fn carry_out(
        &self,
        script: &str,
        variables: &[(&str, String)],
        order: &Order,
        payload: &Path,
        invoker: &Invoker,
        deadline: Duration,
    ) -> anyhow::Result<HostRecord> {
        let lock = File::create(self.store.join(format!(".{}.lock", self.group)))
            .context("creating the lock of tests in Incus")?;
        let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            return Err(Error::Host {
                problem: "another test in Incus is running on this machine".to_owned(),
                help: "wait until it has ended".to_owned(),
            }
            .into());
        };
        let console_path = payload.join("console.log");
        let console = invoker.create(&console_path)?;
        let scratch = Scratch::new(&self.store)?;
        // A test that was killed with SIGKILL may have left its group.
        self.end().context("removing the control group of an earlier test in Incus")?;
        let hierarchies = cgroup::hierarchies().iter().map(|top| top.display().to_string()).collect::<Vec<_>>();
        let ended = Command::new("sh")
            .args(["-c", ENTER])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("HIERARCHIES", hierarchies.join(" "))
            .env("GROUP", &self.group)
            .env("PIVOT", PIVOT)
            .env("WORK", script)
            .env("TREE", &self.tree)
            .env("SCRATCH", scratch.path())
            .env("PAYLOAD", payload)
            .dir("/")
            .deadline(deadline)
            .output_to_files(console.try_clone()?, console);
        let guest = format!("guest {} of {}", order.guest, order.name);
        let cleaned = self.end().with_context(|| format!("ending the processes of {guest}"));
        let record = ended.map_err(anyhow::Error::from).and_then(|ended| {
            let record = scratch.path().join("record.json");
            read_record(&record, &ended, &guest, deadline, &console_path)
        });
        // The reason of a failure is worth more than what was left after it.
        record.and_then(|record| cleaned.map(|()| record))
    }

    /// Kills all processes of the control group, and removes the group.
    fn end(&self) -> anyhow::Result<()> {
        cgroup::Tree::named(&self.group).kill_and_remove(END_DEADLINE.scaled(), || {})
    }
}

fn read_record(
    path: &Path,
    ended: &Output,
    guest: &str,
    deadline: Duration,
    console: &Path,
) -> anyhow::Result<HostRecord> {
    if ended.timed_out {
        let deadline = humantime::format_duration(deadline);
        bail!("{guest} did not end within {deadline}; {}", console::end_of(console));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => HostRecord::parse(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("reading the host record that {guest} wrote")),
        Err(_) => {
            bail!("{guest} left no record (ended with status {}); {}", ended.status, console::end_of(console))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::host::Host;
    use super::*;
    use crate::host::exec::shell::which;
    use crate::host::invoker::is_root;

    /// Runs a script in place of Incus; returns its result, and the processes and groups that it left on the host.
    fn result_of(name: &str, script: &str, deadline: Duration) -> Option<(anyhow::Result<HostRecord>, Vec<String>)> {
        // Namespaces are root's to make, and only a static busybox runs in an empty tree; CI has both.
        let busybox = which("busybox").filter(|_| is_root())?;
        let store = tempfile::tempdir().unwrap();
        let tree = store.path().join("tree");
        for folder in ["bin", "dev", "mnt", "proc", "run", "sys", "tmp"] {
            std::fs::create_dir_all(tree.join(folder)).unwrap();
        }
        std::fs::copy(busybox, tree.join("bin/busybox")).unwrap();
        for applet in ["cat", "mkdir", "setsid", "sh", "sleep", "touch", "umount"] {
            symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
        let (payload, image) = (store.path().join("payload"), store.path().join("image"));
        std::fs::create_dir(&payload).unwrap();
        std::fs::create_dir(&image).unwrap();
        let group = format!("{GROUP}-{name}-{}", std::process::id());
        let world = World { tree: tree.clone(), store: store.path().to_owned(), group: group.clone() };
        let variables = [("IMAGE", image.display().to_string())];
        let result = world.carry_out(script, &variables, &Order::example(), &payload, &Invoker::find(), deadline);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> =
            mounts.lines().filter(|line| line.contains(&*store.path().to_string_lossy())).map(str::to_owned).collect();
        let groups = cgroup::Tree::named(&group);
        left.extend(groups.folders().iter().map(|folder| folder.display().to_string()));
        left.extend(groups.pids().iter().map(i32::to_string));
        let scratch = std::fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().file_name());
        left.extend(scratch.filter_map(|it| it.into_string().ok()).filter(|it| it.starts_with(".scratch")));
        Some((result, left))
    }

    fn check(name: &str, script: &str, deadline: Duration, expected: &[&str]) {
        if let Some((result, left)) = result_of(name, script, deadline) {
            let error = format!("{:#}", result.unwrap_err());
            for part in expected {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
            assert_eq!(left, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn an_instance_that_fails_or_hangs_is_an_error_with_the_end_of_its_console_and_leaves_nothing() {
        let minute = Duration::from_secs(60);
        check("fails", "echo 'no instance'; exit 7", minute, &["left no record", "status 7", "no instance"]);
        // A process in a session of its own, and a group below the group of version 1 or 2, as LXC makes them.
        let outlives = "for top in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir \"$top/$GROUP/lxc.payload.guest\"; done
            setsid sleep 1000 & echo hangs; sleep 1000";
        check("hangs", outlives, Duration::from_secs(3), &["did not end within 3s", "hangs"]);
        check("dies", "setsid sleep 1000 & echo dies", minute, &["left no record", "dies"]);
        check("writes", "touch /bin/more || echo 'read-only'", minute, &["left no record", "read-only"]);
    }

    #[test]
    fn an_instance_finds_its_order_and_brings_its_record() {
        let record = HostRecord::new("example", Host::default());
        let script = format!("cat > /mnt/record.json <<'END'\n{}END", record.json().unwrap());
        if let Some((brought, left)) = result_of("brings", &script, Duration::from_secs(60)) {
            assert_eq!(brought.unwrap(), record);
            assert_eq!(left, Vec::<String>::new());
        }
    }

    #[test]
    fn only_a_privileged_instance_gets_loop_devices() {
        let of = |rights: Rights, layout| rights.raw_lxc(layout);
        let hybrid = of(Rights::Privileged, "hybrid");
        assert!(hybrid.starts_with("lxc.cgroup.devices.allow = b 7:* rwm\nlxc.cgroup.devices.allow = c 10:237 rwm\n"));
        assert!(of(Rights::Privileged, "v2").starts_with("lxc.cgroup2.devices.allow = b 7:* rwm\n"));
        let unprivileged = of(Rights::Unprivileged, "v2");
        assert!(!unprivileged.contains("devices"), "{unprivileged}");
        assert!(unprivileged.starts_with("lxc.mount.auto =\nlxc.mount.auto = proc:rw"), "{unprivileged}");
    }
}
