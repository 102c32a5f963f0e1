//! Guests of User-Mode Linux: a kernel with control groups of version 2 that runs as an ordinary process.
//!
//! No hypervisor, no network, no systemd: the first process is a shell script that mounts what the engine needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::console;
use super::order::Order;
use super::record::HostRecord;
use super::tree::{Form, LAB_PACKAGES, Tree};
use crate::error::Error;
use crate::host::exec::shell::{Command, quote};
use crate::host::invoker::Invoker;
use crate::host::tools::packages::{Item, Supply, WayToRoot};

/// Shell script that finishes the guest's tree: adds kernel modules, and a first process that runs [`INIT`] from the folder that the host
/// shares, so that the disk never changes.
const FIRST: &str = "
mkdir -p \"$TREE/usr/lib/modules\"
cp -a \"$MODULES\" \"$TREE/usr/lib/modules/\"
chroot \"$TREE\" depmod \"$KERNEL\"
cat > \"$TREE/sbin/e2e-guest\" <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t hostfs none /mnt
exec sh /mnt/init
END
chmod 755 \"$TREE/sbin/e2e-guest\"
";

/// Second part of the guest's first process: mounts file systems, loads kernel modules, runs the order, powers off.
const INIT: &str = "
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ -c /dev/null ] || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for path in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $path; done
mkdir -p /run/lock /e2e
chmod 755 /run
hostname guest
ip link set lo up
for module in loop overlay bridge veth; do modprobe $module; done
cp -r /mnt/repo /e2e/
/mnt/engine guest-order /mnt/order.json
echo \"guest: the order ended with status $?\"
sync
echo o > /proc/sysrq-trigger
sleep 60
";

/// Folder of the projects inside the guest.
pub const REPOSITORY: &str = "/e2e/repo";
/// Folder of the scenarios' programs inside the guest.
pub const PROGRAMS: &str = "/mnt/programs";
/// Path of the record inside the guest.
pub const RECORD: &str = "/mnt/record.json";

/// Name of User-Mode Linux in the table of packages.
const ITEM: &str = "linux.uml";

/// Kernel and disk that all guests of User-Mode Linux share.
#[derive(Debug)]
pub struct Uml {
    kernel: PathBuf,
    disk: PathBuf,
}

impl Uml {
    /// Finds the kernel of User-Mode Linux and builds the guest's disk.
    ///
    /// # Errors
    /// [`Error::Host`] if User-Mode Linux is not installed.
    pub fn prepare(suite: &str, store: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let kernel = kernel()?;
        let version = Command::new(&kernel).arg("--version").run()?.text();
        let modules = kernel.with_file_name("").join("../lib/uml/modules").join(&version);
        if !modules.is_dir() {
            bail!("the kernel modules of {} are missing in {}", kernel.display(), modules.display());
        }
        let tree = Tree {
            form: Form::Disk,
            kind: "uml",
            suite,
            packages: LAB_PACKAGES.to_vec(),
            finish: FIRST,
            variables: &[("KERNEL", version), ("MODULES", modules.display().to_string())],
        };
        let disk = tree.ensure(store, say)?.join("disk");
        Ok(Self { kernel, disk })
    }

    /// Boots a guest whose work lies in a shared folder, waits for its end, and returns its record.
    ///
    /// # Errors
    /// If the guest was killed, panicked, or missed its deadline; the error includes the end of the guest's console.
    pub fn carry_out(
        &self,
        order: &Order,
        shared: &Path,
        invoker: &Invoker,
        deadline: Duration,
    ) -> anyhow::Result<HostRecord> {
        invoker.replace(&shared.join("init"), INIT.as_bytes())?;
        invoker.replace(&shared.join("order.json"), &serde_json::to_vec_pretty(order)?)?;
        let console_path = shared.join("console.log");
        let console = invoker.create(&console_path)?;
        // In its own process namespace: a kernel whose first process is killed leaves stopped processes otherwise.
        // The shell is the first process there, because signals do not end a first process.
        let unshare = ["--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", "\"$@\"; exit $?", "guest"];
        let mut words: Vec<String> = Vec::new();
        if !invoker.is_root() {
            words.extend([
                "setpriv".to_owned(),
                format!("--reuid={}", invoker.uid),
                format!("--regid={}", invoker.gid),
            ]);
            words.extend(["--clear-groups", "--no-new-privs", "--"].map(str::to_owned));
        }
        words.push(self.kernel.display().to_string());
        words.push(format!("ubd0=cow,{}", self.disk.display()));
        words.push(format!("hostfs={}", shared.display()));
        words.extend(
            ["mem=4G", "root=/dev/ubda", "rw", "init=/sbin/e2e-guest", "quiet", "loglevel=4", "selinux=0", "panic=-1"]
                .map(str::to_owned),
        );
        words.extend(["con=null", "con0=null,fd:1", "ssl=null"].map(str::to_owned));
        let command =
            Command::new("unshare").args(unshare).args(&words).env("HOME", shared).dir(shared).deadline(deadline);
        let ended = command.output_to_files(console.try_clone()?, console)?;
        let _ = std::fs::remove_file(shared.join("cow")); // the guest's writes; large, and of no use without the disk
        let guest = format!("guest {} of {}", order.guest, order.name);
        if ended.timed_out {
            let deadline = humantime::format_duration(deadline);
            bail!("{guest} did not end within {deadline}; {}", console::end_of(&console_path));
        }
        let record = shared.join("record.json");
        match std::fs::read_to_string(&record) {
            Ok(text) => HostRecord::parse(&text)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("reading the host record that {guest} wrote")),
            Err(_) => bail!(
                "{guest} left no record ({} ended with status {}); {}",
                quote(&self.kernel.display().to_string()),
                ended.status,
                console::end_of(&console_path)
            ),
        }
    }
}

/// Returns the program that is the kernel of User-Mode Linux.
///
/// # Errors
/// [`Error::Host`] if it is not installed.
pub fn kernel() -> Result<PathBuf, Error> {
    Item::named(ITEM).program().ok_or_else(|| Error::Host {
        problem: "User-Mode Linux is not installed".to_owned(),
        help: Supply::of_this_machine().help(&[ITEM], WayToRoot::of_this_process()),
    })
}

/// Returns the Debian release whose C library runs programs that are built here.
#[must_use]
pub fn default_suite() -> &'static str {
    // SAFETY: it returns a string of the C library itself, which lives as long as the process.
    let version = unsafe { std::ffi::CStr::from_ptr(nix::libc::gnu_get_libc_version()) };
    suite_for(&version.to_string_lossy())
}

fn suite_for(glibc: &str) -> &'static str {
    let minor: u32 = glibc.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    if minor <= 36 { "bookworm" } else { "trixie" }
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::*;
    use crate::host::invoker::is_root;

    /// Runs a guest whose kernel is replaced by a shell script.
    fn guest(kernel: &str, deadline: Duration) -> Option<anyhow::Result<HostRecord>> {
        if !is_root() {
            return None; // a process namespace of its own is root's to make; CI runs as root
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        std::fs::write(&path, format!("#!/bin/sh\n{kernel}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let uml = Uml { kernel: path, disk: folder.path().join("disk") };
        let order = Order::example();
        Some(uml.carry_out(&order, folder.path(), &Invoker::find(), deadline))
    }

    fn failure(kernel: &str, deadline: Duration) -> Option<String> {
        guest(kernel, deadline).map(|record| format!("{:#}", record.unwrap_err()))
    }

    #[test]
    fn a_guest_that_panics_is_killed_or_hangs_is_an_error_with_the_end_of_its_console() {
        let minute = Duration::from_secs(60);
        if let Some(error) = failure("echo 'Kernel panic - not syncing'; exit 1", minute) {
            assert!(error.contains("left no record") && error.contains("Kernel panic - not syncing"), "{error}");
        }
        if let Some(error) = failure("echo boots; kill -9 $$", minute) {
            assert!(error.contains("status 137") && error.contains("boots"), "{error}");
        }
        if let Some(error) = failure("echo hangs; sleep 1000", Duration::from_secs(2)) {
            assert!(error.contains("did not end within 2s") && error.contains("hangs"), "{error}");
        }
    }

    #[test]
    fn a_guest_finds_its_order_and_brings_its_record() {
        let record = HostRecord::new("example", Host::default());
        let kernel =
            format!("test -s init && test -s order.json && cat > record.json <<'END'\n{}END", record.json().unwrap());
        if let Some(brought) = guest(&kernel, Duration::from_secs(60)) {
            assert_eq!(brought.unwrap(), record);
        }
    }

    #[test]
    fn a_release_is_chosen_by_the_c_library() {
        assert_eq!(suite_for("2.36"), "bookworm");
        assert_eq!(suite_for("2.39"), "trixie");
        assert!(["bookworm", "trixie"].contains(&default_suite()));
    }
}
