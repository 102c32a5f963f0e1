//! Guests of QEMU. Their processor is emulated: no hardware virtualization is needed, and everything takes several times as long. A guest
//! has no network: its work lies on a second disk, a systemd unit does the work and powers the guest off, and the record is read from that
//! disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::console;
use super::order::Order;
use super::record::HostRecord;
use super::tree::{Form, LAB_PACKAGES, Scratch, Tree, require_x86_64};
use crate::error::Error;
use crate::host::exec::shell::{Command, which};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

const PROGRAM: &str = "qemu-system-x86_64";

/// Packages of the tree in which QEMU runs, if the host has no QEMU.
const PROGRAM_PACKAGES: &[&str] = &["qemu-system-x86", "seabios", "ipxe-qemu"];

/// Packages of the guest beside [`LAB_PACKAGES`]: a small Debian with what `setup` installs.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "linux-image-cloud-amd64",
    "apparmor",
    "mmdebstrap",
    "debian-archive-keyring",
    "python3-pip",
    "openssh-client",
    "sudo",
    "git",
    "ca-certificates",
];

/// Shell script that finishes the guest's tree: it adds the second disk and the unit for the work, and disables timers and consoles, which
/// would run beside the tests.
const FINISH: &str = "
mkdir -p \"$TREE/var/lib/mancer-e2e\"
cat > \"$TREE/etc/fstab\" <<'END'
/dev/vda / ext4 defaults 0 1
LABEL=e2e-guest /var/lib/mancer-e2e ext4 defaults 0 2
END
cat > \"$TREE/etc/systemd/system/e2e-guest.service\" <<'END'
[Unit]
Description=Order of the machine that made this guest
RequiresMountsFor=/var/lib/mancer-e2e
After=multi-user.target

[Service]
Type=exec
Environment=HOME=/root LC_ALL=C.UTF-8
ExecStart=/bin/sh -c '/var/lib/mancer-e2e/payload/engine guest-order /var/lib/mancer-e2e/payload/order.json; echo guest: the order ended with status $?; sync; systemctl poweroff'
StandardOutput=journal+console
StandardError=journal+console
TasksMax=infinity

[Install]
WantedBy=graphical.target multi-user.target
END
chroot \"$TREE\" systemctl enable e2e-guest.service
chroot \"$TREE\" systemctl mask lxc.service lxc-net.service systemd-networkd-wait-online.service apt-daily.timer \\
    apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer man-db.timer serial-getty@ttyS0.service getty@tty1.service
echo guest > \"$TREE/etc/hostname\"
cp \"$TREE\"/boot/vmlinuz-* \"$OUT/vmlinuz\"
cp \"$TREE\"/boot/initrd.img-* \"$OUT/initrd\"
";

/// Shell script that makes the second disk from the layers that the order needs and the payload.
const DATA: &str = "
set -e
mkdir -p \"$STAGE/payload\" \"$STAGE/layers\"
chmod 711 \"$STAGE\" \"$STAGE/layers\"
mount --bind \"$PAYLOAD\" \"$STAGE/payload\"
for layer in $LAYERS; do
    mkdir \"$STAGE/layers/$layer\"
    mount --bind \"$STORED/$layer\" \"$STAGE/layers/$layer\"
done
truncate --size=20G \"$DISK\"
mke2fs -q -t ext4 -F -L e2e-guest -E root_owner=0:0 -d \"$STAGE\" \"$DISK\"
";

/// Shell script that starts QEMU: the one of the host, or the one in its tree with the folder of the disks at `/mnt`.
const START: &str = "
set -e
if [ -z \"$TREE\" ]; then cd \"$STORE\"; exec \"$@\"; fi
mount --bind \"$STORE\" \"$TREE/mnt\"
exec chroot \"$TREE\" sh -c 'cd /mnt; exec \"$@\"' start \"$@\"
";

/// Folder of the payload inside the guest.
pub const PAYLOAD: &str = "/var/lib/mancer-e2e/payload";

const DISK_DEADLINE: Deadline = Deadline::from_secs(300);
const QUERY_DEADLINE: Deadline = Deadline::from_secs(60);

/// Disk and kernel of the guests, and the tree that QEMU runs in.
#[derive(Debug)]
pub struct Qemu {
    store: PathBuf,
    /// Folder of the guest's disk and kernel.
    guest: PathBuf,
    tree: Option<PathBuf>,
}

/// Checks that guests of QEMU can be made on this host.
///
/// # Errors
/// [`Error::Host`] if the processor is not x86_64.
pub fn require() -> Result<(), Error> {
    require_x86_64("the guests of QEMU")
}

impl Qemu {
    /// Builds the guest's disk, and a tree for QEMU if the host has no QEMU.
    ///
    /// # Errors
    /// [`Error::Host`] if the processor is not x86_64.
    pub fn prepare(suite: &str, store: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        require()?;
        let program = Tree {
            form: Form::Folder,
            kind: "qemu-program",
            suite: "bookworm",
            packages: PROGRAM_PACKAGES.to_vec(),
            finish: "true",
            variables: &[],
        };
        let guest = Tree {
            form: Form::Disk,
            kind: "qemu",
            suite,
            packages: [LAB_PACKAGES, PACKAGES].concat(),
            finish: FINISH,
            variables: &[],
        };
        let tree = match which(PROGRAM) {
            Some(_) => None,
            None => Some(program.ensure(store, say)?.join("tree")),
        };
        Ok(Self { store: store.to_owned(), guest: guest.ensure(store, say)?, tree })
    }

    /// Boots a guest with a payload, waits for its end, and returns its record.
    ///
    /// # Errors
    /// If the guest was killed, panicked, or missed its deadline; the error includes the end of the guest's console.
    pub fn carry_out(
        &self,
        order: &Order,
        payload: &Path,
        layers: &[String],
        stored: &Path,
        invoker: &Invoker,
        deadline: Duration,
    ) -> anyhow::Result<HostRecord> {
        invoker.replace(&payload.join("order.json"), &serde_json::to_vec_pretty(order)?)?;
        let console_path = payload.join("console.log");
        let console = invoker.create(&console_path)?;
        let scratch = Scratch::new(&self.store)?;
        let data = scratch.path().join("data");
        in_own_namespaces(DATA, &[])
            .env("STAGE", scratch.path().join("stage"))
            .env("PAYLOAD", payload)
            .env("LAYERS", layers.join(" "))
            .env("STORED", stored)
            .env("DISK", &data)
            .deadline(DISK_DEADLINE.scaled())
            .run()
            .context("making the disk with the guest's work")?;
        let below = |path: &Path| -> anyhow::Result<String> {
            Ok(path
                .strip_prefix(&self.store)
                .context("a file of the guest does not lie in the store")?
                .display()
                .to_string())
        };
        let (guest, data_name) = (below(&self.guest)?, below(&data)?);
        let ended = in_own_namespaces(START, &arguments(&guest, &data_name))
            .env("STORE", &self.store)
            .env("TREE", self.tree.as_deref().unwrap_or(Path::new("")))
            .env("TMPDIR", ".")
            .deadline(deadline)
            .output_to_files(console.try_clone()?, console)?;
        let guest = format!("guest {} of {}", order.guest, order.name);
        if ended.timed_out {
            let deadline = humantime::format_duration(deadline);
            bail!("{guest} did not end within {deadline}; {}", console::end_of(&console_path));
        }
        let text = Command::new("debugfs")
            .args(["-R", "cat /payload/record.json"])
            .arg(&data)
            .deadline(QUERY_DEADLINE.scaled())
            .run()?
            .text();
        if text.is_empty() {
            let status = ended.status;
            bail!("{guest} left no record (QEMU ended with status {status}); {}", console::end_of(&console_path));
        }
        HostRecord::parse(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("reading the host record that {guest} wrote"))
    }
}

/// Returns a command that runs a shell script with its own mounts and processes, which end with the script.
fn in_own_namespaces(script: &str, args: &[String]) -> Command {
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["sh", "-c", script, "guest"])
        .args(args)
        .dir("/")
}

/// Returns the arguments of QEMU, which is started in the store's folder; `guest` and `data` are the two disks.
fn arguments(guest: &str, data: &str) -> Vec<String> {
    // What is written to the first disk goes to a file that is gone when QEMU ends, so the disk stays as it is.
    let words = [
        PROGRAM.to_owned(),
        "-machine=q35".into(),
        "-accel=tcg,thread=multi".into(),
        "-cpu=max".into(),
        "-smp=2".into(),
        "-m=6144".into(),
        "-display=none".into(),
        "-serial=stdio".into(),
        "-nic=none".into(),
        "-no-reboot".into(),
        format!("-kernel={guest}/vmlinuz"),
        format!("-initrd={guest}/initrd"),
        "-append=root=/dev/vda rw console=ttyS0 panic=-1 quiet loglevel=4 systemd.show_status=0".into(),
        format!("-drive=file={guest}/disk,if=virtio,format=raw,snapshot=on,cache=unsafe"),
        format!("-drive=file={data},if=virtio,format=raw,cache=unsafe"),
    ];
    let split = |word: String| match word.split_once('=') {
        Some((option, value)) if word.starts_with('-') => vec![option.to_owned(), value.to_owned()],
        _ => vec![word],
    };
    words.into_iter().flat_map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_the_tree_is_never_written_to() {
        let words = arguments("qemu-bookworm-1", ".scratch-x/data");
        let drives: Vec<&String> = words.iter().filter(|word| word.starts_with("file=")).collect();
        assert!(drives[0].starts_with("file=qemu-bookworm-1/disk,") && drives[0].contains("snapshot=on"), "{drives:?}");
        assert!(drives[1].starts_with("file=.scratch-x/data,") && !drives[1].contains("snapshot"), "{drives:?}");
        let after = |option: &str| words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].as_str());
        assert!(after("-append").unwrap().starts_with("root=/dev/vda rw "));
        assert_eq!(after("-serial"), Some("stdio"));
    }
}
