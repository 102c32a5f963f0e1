//! Python packages from a requirements file with hashes, downloaded as wheels by the host's uv or pip, without running their code on the
//! host; and local wheels or working trees in place of pinned packages.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::BuildSpec;
use super::accounts::Owner;
use super::files;
use super::installed::Installed;
use super::sandbox::{Sandbox, outgoing};
use crate::error::Error;
use crate::host::exec::shell::{Command, which, which_all};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;
use crate::image::content::{self, Part};
use crate::image::recipe::Python;
use crate::image::{requirements, tree};

/// Glibc versions of the manylinux wheels that run in a container with Debian 12.
const MANYLINUX: [&str; 4] = ["2_5", "2_12", "2_17", "2_28"];

/// Script that runs the program in its arguments with the sockets of the host's services in /run hidden. The folder where the layer is
/// built, the configuration of name resolution, and the programs of NixOS stay visible.
const HIDE_SERVICES: &str = r#"set -e
resolver=$(readlink -f /etc/resolv.conf || true)
case $resolver in /run/*) cp "$resolver" "$TMPDIR/resolver";; esac
for entry in /run/*; do
    case ${entry#/run/} in mancer-e2e|*-system|wrappers|opengl-driver) continue;; esac
    if [ -L "$entry" ]; then continue; fi
    if [ -d "$entry" ]; then mount -t tmpfs tmpfs "$entry"; fi
    if [ -S "$entry" ]; then mount --bind /dev/null "$entry"; fi
done
case $resolver in /run/*)
    mkdir -p "${resolver%/*}"
    if ! [ -e "$resolver" ]; then cp "$TMPDIR/resolver" "$resolver"; fi;;
esac
exec "$@""#;

const VERSION_DEADLINE: Deadline = Deadline::from_secs(60);

/// Installs the packages and copies them into the tree, owned by root; or, in a thin layer, replaces installed packages.
pub fn install(wanted: &Python, spec: &BuildSpec, scratch: &Path, sandbox: &Sandbox<'_>) -> anyhow::Result<()> {
    let folder = scratch.join("python");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    if wanted.replacements.is_empty() {
        install_pinned(wanted, &folder, sandbox)
    } else {
        replace(wanted, spec, &folder, sandbox)
    }
}

fn install_pinned(wanted: &Python, folder: &Path, sandbox: &Sandbox<'_>) -> anyhow::Result<()> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, &wanted.requirements).with_context(|| format!("writing {}", requirements.display()))?;
    // A build that is killed leaves nothing in the host's own folder for such files.
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).with_context(|| format!("making {}", temporary.display()))?;
    let pinned = Installer::find().command(wanted, &packages).env("TMPDIR", &temporary);
    let pinned = pinned.args(["--only-binary", ":all:", "--require-hashes", "-r"]).arg(&requirements);
    sandbox.log().run(pinned)?;
    bring(&packages, wanted, sandbox)
}

/// Replaces installed packages by local wheels and working trees, and nothing else.
///
/// # Errors
/// [`Error::Usage`] when a wheel or tree is of another package, or has requirements that the installed packages do not meet.
fn replace(wanted: &Python, spec: &BuildSpec, folder: &Path, sandbox: &Sandbox<'_>) -> anyhow::Result<()> {
    let (root, target) = (sandbox.root(), Path::new(&wanted.target));
    let before = Installed::find(root, target)?;
    let mut packages = before.packages.clone();
    let mut built = Vec::new();
    for (place, (source, replaced)) in spec.sources.replacements.iter().zip(&wanted.replacements).enumerate() {
        let own = folder.join(format!("source-{place}"));
        let result = build_source(source, &replaced.hash, &spec.invoker, wanted, &own, sandbox)?;
        let name = requirements::normal(&replaced.package);
        let found = Installed::find(&result, Path::new("/"))?.packages;
        let Some(package) = found.get(&name) else {
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            let problem = format!("--set: {} installs {}, and not {name}", source.display(), names.join(", "));
            return Err(Error::Usage(problem).into());
        };
        packages.insert(name.clone(), package.clone());
        built.push((name, result));
    }
    let python = python_version(wanted, sandbox);
    let unmet: Vec<String> = built
        .iter()
        .flat_map(|(name, _)| {
            let unmet = packages[name].unmet(before.packages.get(name), &packages, &python);
            unmet.into_iter().map(move |one| format!("  {name} requires {one}\n"))
        })
        .collect();
    if !unmet.is_empty() {
        let problem = "--set: the local package has requirements that the template does not meet";
        let help = "pin them in the template's requirements file: `--set` replaces the package alone";
        return Err(Error::Usage(format!("{problem}:\n{}  help: {help}", unmet.concat())).into());
    }
    for (name, result) in &built {
        before.uninstall(name, root, target)?;
        bring(result, wanted, sandbox)?;
    }
    Ok(())
}

/// Returns the full version of the tree's Python, such as `3.11.2`; the template's version if the tree has no such Python.
fn python_version(wanted: &Python, sandbox: &Sandbox<'_>) -> String {
    let program = format!("python{}", wanted.version);
    let asked = ["/usr/bin/env", &program, "-IS", "-c", "import platform; print(platform.python_version())"];
    let answer = sandbox.command(asked).deadline(VERSION_DEADLINE.scaled()).output();
    let version = answer.ok().filter(|output| output.status == 0).map(|output| output.text().trim().to_owned());
    version.filter(|version| !version.is_empty()).unwrap_or_else(|| wanted.version.clone())
}

/// Copies a folder of installed packages into the tree.
fn bring(packages: &Path, wanted: &Python, sandbox: &Sandbox<'_>) -> anyhow::Result<()> {
    let own_lock = packages.join(".lock");
    tree::remove(&own_lock).with_context(|| format!("removing {}", own_lock.display()))?;
    let target = Path::new(&wanted.target);
    files::copy(sandbox.root(), packages, &Invoker::root(), target, None, Owner::ROOT, sandbox.ids()).map(drop)
}

/// Installs a local wheel or working tree into a folder. Its build backend is untrusted code: it runs as root of the containers' user
/// namespace, which is an unprivileged id on the host, and cannot reach the host's processes or sockets.
fn build_source(
    source: &Path,
    hash: &str,
    invoker: &Invoker,
    wanted: &Python,
    own: &Path,
    sandbox: &Sandbox<'_>,
) -> anyhow::Result<PathBuf> {
    let root = Owner::ROOT.outside(sandbox.ids())?;
    let (copied, built, temporary) = (own.join("source"), own.join("built"), own.join("tmp"));
    for folder in [own, &copied, &built, &temporary] {
        make_folder(folder, root).with_context(|| format!("making {}", folder.display()))?;
    }
    let source = copy_source(source, hash, invoker, &copied, root)?;
    let installer = Inside::find(sandbox, &temporary)?;
    sandbox.log().run(installer.install(wanted, &source, &built))?;
    Ok(built)
}

/// Returns the packages in the target folder of a layer as sorted `name=version`.
pub fn versions(layer: &Path, wanted: &Python) -> Vec<String> {
    let target = tree::resolve(layer, Path::new(&wanted.target)).unwrap_or_default();
    let entries = fs::read_dir(target).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (package, version) = name.strip_suffix(".dist-info")?.rsplit_once('-')?;
        Some(format!("{}={version}", package.to_ascii_lowercase().replace('_', "-")))
    });
    let mut versions: Vec<String> = names.collect();
    versions.sort();
    versions
}

/// Copies a wheel, or a working tree without the leftovers of tools; fails if its hash has changed.
fn copy_source(
    source: &Path,
    hash: &str,
    invoker: &Invoker,
    folder: &Path,
    owner: (u32, u32),
) -> anyhow::Result<PathBuf> {
    let mut copy = folder.to_owned();
    let copied = content::read(source, invoker, &mut |below, part| {
        let is_top = below.as_os_str().is_empty();
        let target = if is_top { folder.to_owned() } else { folder.join(below) };
        let made = match part {
            Part::Folder if is_top => Ok(()),
            Part::Folder => make_folder(&target, owner),
            Part::Link(leads_to) => {
                symlink(leads_to, &target).and_then(|()| lchown(&target, Some(owner.0), Some(owner.1)))
            }
            Part::File { is_executable, content } => {
                if is_top {
                    copy = folder.join(source.file_name().unwrap_or_default()); // a wheel's name has a meaning
                }
                let file = if is_top { &copy } else { &target };
                let mode = if is_executable { 0o755 } else { 0o644 };
                make_file(file, content, mode, owner)
            }
        };
        made.with_context(|| format!("copying {} of {}", below.display(), source.display()))
    })?;
    files::require_same(source, hash, &copied)?;
    Ok(copy)
}

fn make_folder(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    chown(path, Some(owner.0), Some(owner.1))
}

fn make_file(path: &Path, content: &mut dyn io::Read, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    files::transfer(content, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))
}

/// Installer that root of the containers' user namespace can start, although that root cannot enter home folders of the host.
struct Inside {
    words: Vec<String>,
    installer: Installer,
    program: PathBuf,
    temporary: PathBuf,
}

impl Inside {
    fn find(sandbox: &Sandbox<'_>, temporary: &Path) -> anyhow::Result<Self> {
        let candidates = which_all("uv").into_iter().map(|program| (Installer::Uv, program));
        let candidates = candidates.chain(which_all("python3").into_iter().map(|program| (Installer::Pip, program)));
        for (installer, program) in candidates {
            let words = words(sandbox);
            let found = Self { words, installer, program, temporary: temporary.to_owned() };
            let version: &[&str] = match installer {
                Installer::Uv => &["--version"],
                Installer::Pip => &["-m", "pip", "--version"],
            };
            let answer = found.command().args(version).deadline(VERSION_DEADLINE.scaled()).output();
            if answer.is_ok_and(|output| output.status == 0) {
                return Ok(found);
            }
        }
        bail!(
            "No module named pip, and no uv either, that root of the containers' user namespace can start: one of them builds source folders"
        )
    }

    fn command(&self) -> Command {
        let command = Command::new(&self.words[0]).args(&self.words[1..]).arg(&self.program).dir("/").clear_env();
        command
            .envs(outgoing())
            .env("TMPDIR", &self.temporary)
            .env("HOME", &self.temporary)
            .env("UV_CACHE_DIR", self.temporary.join("cache"))
            .env("PIP_NO_CACHE_DIR", "1")
    }

    fn install(&self, wanted: &Python, source: &Path, target: &Path) -> Command {
        let command = self.installer.source_words(self.command(), wanted);
        command.arg("--target").arg(target).arg(source)
    }
}

/// Returns the prefix of a command that runs a program as root of the containers' user namespace, with processes, /run and System V IPC
/// objects of its own. The host's folders stay readable.
fn words(sandbox: &Sandbox<'_>) -> Vec<String> {
    let mut words = sandbox.namespace().enter_words();
    words.extend(
        ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--"]
            .map(str::to_owned),
    );
    words.extend(["/bin/sh", "-c", HIDE_SERVICES, "build"].map(str::to_owned));
    words
}

/// Program of the host that installs packages.
#[derive(Debug, Clone, Copy)]
enum Installer {
    Uv,
    Pip,
}

impl Installer {
    /// Chooses uv if it is installed, because uv takes a third of pip's time; else pip.
    fn find() -> Self {
        if which("uv").is_some() { Self::Uv } else { Self::Pip }
    }

    /// Returns the installer's command for a target folder; the caller adds the packages.
    fn command(self, wanted: &Python, target: &Path) -> Command {
        let architecture = std::env::consts::ARCH;
        let command = match self {
            Self::Uv => Command::new("uv")
                .args(["--no-config", "pip", "install", "--no-progress", "--link-mode", "copy"])
                .args(["--python-platform", &format!("{architecture}-manylinux_2_28")]),
            Self::Pip => Command::new("python3")
                .args(["-m", "pip", "install", "--no-input", "--no-compile", "--disable-pip-version-check"])
                .args(["--progress-bar", "off", "--root-user-action", "ignore", "--implementation", "cp"])
                .args(MANYLINUX.iter().rev().map(|version| format!("--platform=manylinux_{version}_{architecture}")))
                .arg(format!("--platform=manylinux2014_{architecture}")),
        };
        command.args(["--no-deps", "--python-version", &wanted.version, "--target"]).arg(target)
    }

    /// Adds the options for a local wheel or tree. pip gets no `--platform`, with which it refuses to build a tree.
    fn source_words(self, command: Command, wanted: &Python) -> Command {
        match self {
            Self::Uv => command
                .args(["--no-config", "pip", "install", "--no-progress", "--link-mode", "copy", "--no-deps"])
                .args(["--python-platform", &format!("{}-manylinux_2_28", std::env::consts::ARCH)])
                .args(["--python-version", &wanted.version]),
            Self::Pip => command
                .args(["-m", "pip", "install", "--no-input", "--no-compile", "--disable-pip-version-check"])
                .args(["--progress-bar", "off", "--root-user-action", "ignore", "--no-deps"]),
        }
    }
}
