//! Sandbox for programs of the tree that is being built: they run as root of the containers' user namespace, with processes, /proc, /dev,
//! /tmp and /run of their own, so that they cannot affect the host or leave files of these folders in the layer.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::host::container::ids::IdRange;
use crate::host::container::userns::UserNamespace;
use crate::host::disk::mount;
use crate::host::exec::shell::{self, Command, Output, path_of};
use crate::host::patience::Deadline;
use crate::image::tree;

/// Deadline of one program of a build: enough for the largest set of packages on a slow connection.
const DEADLINE: Deadline = Deadline::from_secs(1800);

/// Device nodes in the /dev of a build.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Time stamp of files in every build, in seconds since 1970, for tools that read the variable of this name.
pub const SOURCE_DATE_EPOCH: u64 = 1_700_000_000;

/// Log of a build: the worker's standard error, which its programs inherit.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    pub fn of_this_process() -> anyhow::Result<Self> {
        let file = std::io::stderr().as_fd().try_clone_to_owned().context("duplicating standard error")?;
        Ok(Self { file: file.into() })
    }

    /// Returns a new handle of the log.
    pub fn file(&self) -> anyhow::Result<File> {
        self.file.try_clone().context("duplicating the log")
    }

    /// Runs a command with both output streams in the log. The error has only the command and its status.
    pub fn run(&self, command: Command) -> anyhow::Result<()> {
        let command = command.deadline(DEADLINE.scaled());
        let Output { status, timed_out, .. } = command.output_to_files(self.file()?, self.file()?)?;
        if timed_out {
            bail!("`{command}` did not end within {DEADLINE}");
        }
        if status != 0 {
            bail!("`{command}` ended with status {status}");
        }
        Ok(())
    }
}

/// Tree that is prepared for running programs in it.
#[derive(Debug)]
pub struct Sandbox<'a> {
    root: &'a Path,
    namespace: &'a UserNamespace,
    log: &'a Log,
    ids: IdRange,
    mounts: Vec<PathBuf>,
}

impl<'a> Sandbox<'a> {
    pub fn open(
        root: &'a Path,
        scratch: &Path,
        namespace: &'a UserNamespace,
        ids: IdRange,
        log: &'a Log,
    ) -> anyhow::Result<Self> {
        let mut sandbox = Self { root, namespace, log, ids, mounts: Vec::new() };
        for (name, mode) in [("dev", 0o755), ("proc", 0o755), ("run", 0o755), ("sys", 0o755), ("tmp", 0o1777)] {
            sandbox.check_mount_point(name, mode, ids)?;
        }
        sandbox.mount_devices(scratch)?;
        for (name, mode) in [("tmp", 0o1777), ("run", 0o755)] {
            let folder = sandbox.make_scratch(scratch, name, mode, ids)?;
            sandbox.bind(&folder, &root.join(name))?;
        }
        // apt's lists and downloads never enter the layer, and parallel builds do not share them.
        for (name, place) in [("apt-lists", "var/lib/apt/lists"), ("apt-cache", "var/cache/apt")] {
            let target = tree::resolve(root, Path::new(place))?;
            if target.is_dir() {
                let folder = sandbox.make_scratch(scratch, name, 0o755, ids)?;
                sandbox.bind(&folder, &target)?;
            }
        }
        sandbox.show_resolver()?;
        Ok(sandbox)
    }

    pub fn log(&self) -> &Log {
        self.log
    }

    pub fn root(&self) -> &Path {
        self.root
    }

    pub fn ids(&self) -> IdRange {
        self.ids
    }

    pub fn namespace(&self) -> &UserNamespace {
        self.namespace
    }

    /// Runs a program of the tree, with its output in the log.
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
        self.log.run(self.command(argv))
    }

    /// Returns the command that runs a program of the tree in the sandbox.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        let proc = format!("--mount-proc={}", self.root.join("proc").display());
        let root = format!("--root={}", self.root.display());
        let wd = format!("--wd={}", self.root.display());
        Command::new(path_of("unshare"))
            .args(["--pid", "--fork", "--kill-child", &proc, "--"])
            .args(self.namespace.enter_words())
            .args([root, wd])
            .arg("--")
            .args(argv)
            .clear_env()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("SYSTEMD_OFFLINE", "1")
            .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
            .envs(proxies())
    }

    /// Makes a missing mount point. Fails if anything but a folder is at its path: a link would lead the mount out of the tree.
    fn check_mount_point(&self, name: &str, mode: u32, ids: IdRange) -> anyhow::Result<()> {
        let path = self.root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => bail!("/{name} of the layer is not a folder: a container cannot run on it"),
            Err(_) => tree::make_dirs(self.root, &path, ids.first)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .with_context(|| format!("making {}", path.display())),
        }
    }

    fn mount_devices(&mut self, scratch: &Path) -> anyhow::Result<()> {
        let folder = scratch.join("dev");
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        for name in DEVICES {
            File::create(folder.join(name)).with_context(|| format!("making {name} in {}", folder.display()))?;
        }
        for (target, name) in [("/proc/self/fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")] {
            symlink(target, folder.join(name)).with_context(|| format!("linking {name} in {}", folder.display()))?;
        }
        let target = self.root.join("dev");
        self.bind(&folder, &target)?;
        for name in DEVICES {
            self.bind(&Path::new("/dev").join(name), &target.join(name))?;
        }
        Ok(())
    }

    fn make_scratch(&self, scratch: &Path, name: &str, mode: u32, ids: IdRange) -> anyhow::Result<PathBuf> {
        let folder = scratch.join(name);
        tree::make_dirs(self.root, &folder, ids.first)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Gives programs in the tree the host's /etc/resolv.conf.
    fn show_resolver(&mut self) -> anyhow::Result<()> {
        let target = tree::resolve(self.root, Path::new("/etc/resolv.conf"))?;
        let host = fs::canonicalize("/etc/resolv.conf").context("looking for /etc/resolv.conf")?;
        if target.is_file() {
            self.bind(&host, &target)?;
        } else if target.starts_with(self.root.join("run")) {
            let folder = target.parent().unwrap_or(self.root);
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            fs::copy(&host, &target).with_context(|| format!("copying {} to {}", host.display(), target.display()))?;
        }
        Ok(())
    }

    fn bind(&mut self, source: &Path, target: &Path) -> anyhow::Result<()> {
        mount::bind(source, target)?;
        self.mounts.push(target.to_owned());
        Ok(())
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        for target in self.mounts.iter().rev() {
            let _ = mount::detach(target); // what stays mounted goes with the worker's mount namespace
        }
    }
}

/// Names of the environment variables for the host's proxies.
pub const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Prefixes of environment variables that tell package installers where to find packages.
const OF_INSTALLERS: [&str; 4] = ["PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_"];

/// Returns the proxy variables that are set.
fn proxies() -> impl Iterator<Item = (&'static str, OsString)> {
    PROXIES.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

/// Returns the environment for a program of the host that downloads packages and runs their code: variables for programs, packages and the
/// network. All other variables of the user are left out.
pub fn outgoing() -> Vec<(OsString, OsString)> {
    let is_kept = |name: &str| PROXIES.contains(&name) || OF_INSTALLERS.iter().any(|begin| name.starts_with(begin));
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept));
    let own = [("PATH", shell::search_path()), ("LC_ALL", "C.UTF-8".to_owned())];
    kept.chain(own.map(|(name, value)| (name.into(), value.into()))).collect()
}
