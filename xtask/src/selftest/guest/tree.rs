//! Debian trees of guests, as disk images or folders. A tree is built once, and stored under the hash of all inputs of its build.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::host::exec::shell::Command;
use crate::host::machine::load::Memory;
use crate::host::patience::Deadline;
use crate::host::tools::packages::{SYSTEM_KEYRINGS, debian_keyring};

/// Version of the build script, which is part of the hash: a change rebuilds all trees.
const BUILDER_VERSION: u32 = 1;

const DEADLINE: Deadline = Deadline::from_secs(900);

/// Number of trees kept of each kind and release, so that switching between checkouts does not rebuild them.
const KEPT: usize = 3;

/// Available memory in bytes above which a tree is built in memory: on a disk, dpkg syncs after each file.
const MEMORY_BYTES: u64 = 4 << 30;

/// Packages that a guest needs for labs of busybox machines and for scenarios in Python.
pub const LAB_PACKAGES: &[&str] = &[
    "kmod",
    "lxc",
    "busybox-static",
    "iproute2",
    "nftables",
    "iptables",
    "strace",
    "e2fsprogs",
    "mount",
    "procps",
    "python3",
    "slirp4netns",
];

/// Form in which a tree is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An ext4 image, in the file `disk`.
    Disk,
    /// A folder, named `tree`.
    Folder,
}

/// Recipe from which a Debian tree is built.
#[derive(Debug)]
pub struct Tree<'a> {
    pub form: Form,
    /// Kind of guest, such as `uml`.
    pub kind: &'a str,
    /// Debian release that is installed in the tree.
    pub suite: &'a str,
    pub packages: Vec<&'a str>,
    /// Shell script that finishes the tree at `$TREE`, and puts files that belong beside the disk into `$OUT`.
    pub finish: &'a str,
    /// Environment variables of the script `finish`; they are part of the hash.
    pub variables: &'a [(&'a str, String)],
}

/// Shell script that builds the tree, in memory if enough is available, and, for `Form::Disk`, the disk without mounting it.
const SCRIPT: &str = "
set -e
if [ -n \"$IN_MEMORY\" ]; then mount -t tmpfs -o size=3G,mode=755 tree \"$WORK\"; fi
mkdir \"$WORK/tmp\"
TREE=$WORK/tree OUT=$WORK/out
mkdir \"$OUT\"
TMPDIR=$WORK/tmp mmdebstrap \"$@\" \"$SUITE\" \"$TREE\"
. \"$FINISH\"
if [ \"$FORM\" = tree ]; then mv \"$TREE\" \"$OUT/tree\"; else
    truncate --size=12G \"$OUT/disk\"
    mke2fs -q -t ext4 -F -E root_owner=0:0 -d \"$TREE\" \"$OUT/disk\"
fi
cp --archive --sparse=always \"$OUT\" \"$RESULT\"
";

/// Checks that this machine has an x86_64 processor, which guests need; `guests` names them in the error.
///
/// # Errors
/// [`Error::Host`] if the processor is not x86_64.
pub fn require_x86_64(guests: &str) -> Result<(), Error> {
    if std::env::consts::ARCH == "x86_64" {
        return Ok(());
    }
    Err(Error::Host {
        problem: format!("{guests} need an x86_64 processor, and this machine is {}", std::env::consts::ARCH),
        help: "use `cargo xtask test host --kind here`".to_owned(),
    })
}

impl Form {
    const fn file(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Folder => "tree",
        }
    }
}

impl Tree<'_> {
    /// Returns the name of the tree's folder: kind, release, and hash of the recipe.
    #[must_use]
    pub fn name(&self) -> String {
        let mut hash = Sha256::new();
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let parts = [
            BUILDER_VERSION.to_string(),
            self.suite.to_owned(),
            self.form.file().to_owned(),
            self.packages.join(" "),
            SCRIPT.to_owned(),
            self.finish.to_owned(),
            variables.join("\n"),
        ];
        for part in &parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut text = String::new();
        for byte in &hash.finalize()[..6] {
            let _ = write!(text, "{byte:02x}");
        }
        format!("{}-{}-{text}", self.kind, self.suite)
    }

    /// Returns the folder that contains the `disk` or `tree` and the files beside it; builds them if the folder does not exist.
    pub fn ensure(&self, store: &Path, say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(store);
        made.with_context(|| format!("creating the folder {}", store.display()))?;
        Scratch::remove_stale(store);
        let lock = File::create(store.join(".lock")).context("creating the lock of the guests' disks")?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .context("waiting for another build of a guest's disk")?;
        let folder = store.join(self.name());
        if folder.join(self.form.file()).exists() {
            File::open(&folder)?.set_modified(std::time::SystemTime::now())?;
            return Ok(folder);
        }
        say(&format!("building a tree of Debian {} with {} packages", self.suite, self.packages.len()));
        self.build(store, &folder).with_context(|| format!("building the guest's tree {}", folder.display()))?;
        self.remove_old(store);
        Ok(folder)
    }

    fn build(&self, store: &Path, folder: &Path) -> anyhow::Result<()> {
        let scratch = Scratch::new(store)?;
        let (work, result) = (scratch.path().join("work"), scratch.path().join("result"));
        std::fs::create_dir(&work)?;
        let finish = scratch.path().join("finish.sh");
        std::fs::write(&finish, self.finish)?;
        let in_memory = Memory::now().available_bytes >= MEMORY_BYTES;
        // With its own mounts: whatever ends it, none of them is left.
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["sh", "-c", SCRIPT, "build"])
            .args(["--mode=root", "--variant=minbase", "--format=directory", "--quiet"])
            .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\""])
            .args(["man", "info", "locale", "doc"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
            .arg(format!("--include={}", self.packages.join(",")))
            .args(
                debian_keyring()
                    .filter(|file| !file.starts_with(SYSTEM_KEYRINGS))
                    .map(|file| format!("--keyring={}", file.display())),
            )
            .env("WORK", &work)
            .env("RESULT", &result)
            .env("FINISH", &finish)
            .env("FORM", self.form.file())
            .env("SUITE", self.suite)
            .env("IN_MEMORY", if in_memory { "yes" } else { "" })
            .env("LC_ALL", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .dir("/")
            .deadline(DEADLINE.scaled())
            .run()?;
        std::fs::rename(&result, folder).with_context(|| format!("renaming the new tree to {}", folder.display()))
    }

    /// Removes the oldest trees of this kind and release beyond [`KEPT`]. A running guest keeps the files of a removed tree open.
    fn remove_old(&self, store: &Path) {
        let prefix = format!("{}-{}-", self.kind, self.suite);
        let entries = std::fs::read_dir(store).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<_> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        found.sort();
        for (_, path) in found.iter().rev().skip(KEPT) {
            let _ = std::fs::remove_dir_all(path); // one that stays takes room and nothing else
        }
    }
}

/// Folder of one build or one guest, removed on drop, or, if the process was killed, when the store is next used.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    /// Lock that marks the folder as in use.
    _lock: Flock<File>,
}

impl Scratch {
    const PREFIX: &'static str = ".scratch-";
    const LOCK: &'static str = "lock";

    /// Creates an empty folder below `store`.
    pub fn new(store: &Path) -> anyhow::Result<Self> {
        let dir =
            tempfile::Builder::new().prefix(Self::PREFIX).tempdir_in(store).context("creating a scratch folder")?;
        let file = File::create(dir.path().join(Self::LOCK)).context("creating the lock of a scratch folder")?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        Ok(Self { dir, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the scratch folders that killed processes have left in the store.
    fn remove_stale(store: &Path) {
        let entries = std::fs::read_dir(store).into_iter().flatten().filter_map(Result::ok);
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(Self::PREFIX)) {
            let Ok(file) = File::open(entry.path().join(Self::LOCK)) else { continue };
            if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
                let _ = std::fs::remove_dir_all(entry.path()); // one that stays takes room and nothing else
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<'a>(packages: &'a [&'a str], variables: &'a [(&'a str, String)]) -> Tree<'a> {
        Tree {
            form: Form::Disk,
            kind: "uml",
            suite: "bookworm",
            packages: packages.to_vec(),
            finish: "true",
            variables,
        }
    }

    #[test]
    fn whatever_goes_in_changes_the_name() {
        let variables = [("KERNEL", "6.1".to_owned())];
        let name = tree(&["lxc"], &variables).name();
        assert!(name.starts_with("uml-bookworm-"), "{name}");
        assert_eq!(name, tree(&["lxc"], &variables).name());
        let others = [
            tree(&["lxc", "tar"], &variables).name(),
            tree(&["lxc"], &[("KERNEL", "6.2".to_owned())]).name(),
            Tree { finish: "false", ..tree(&["lxc"], &variables) }.name(),
            Tree { form: Form::Folder, ..tree(&["lxc"], &variables) }.name(),
            Tree { suite: "trixie", ..tree(&["lxc"], &variables) }.name(),
        ];
        for other in others {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn a_folder_of_a_killed_process_is_removed_and_one_in_use_is_not() {
        let store = tempfile::tempdir().unwrap();
        let used = Scratch::new(store.path()).unwrap();
        let stale = store.path().join(".scratch-stale");
        std::fs::create_dir(&stale).unwrap();
        std::fs::write(stale.join("lock"), "").unwrap();
        Scratch::remove_stale(store.path());
        assert!(used.path().is_dir() && !stale.exists());
    }

    #[test]
    fn the_oldest_disks_are_removed() {
        let store = tempfile::tempdir().unwrap();
        for number in 0..5_u32 {
            let path = store.path().join(format!("uml-bookworm-{number}"));
            std::fs::create_dir(&path).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(number) * 100);
            File::open(&path).unwrap().set_modified(time).unwrap();
        }
        std::fs::create_dir(store.path().join("qemu-bookworm-0")).unwrap();
        tree(&[], &[]).remove_old(store.path());
        let mut left: Vec<_> =
            std::fs::read_dir(store.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["qemu-bookworm-0", "uml-bookworm-2", "uml-bookworm-3", "uml-bookworm-4"]);
    }
}
