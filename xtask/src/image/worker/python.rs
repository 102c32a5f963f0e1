//! Python packages from a requirements file with hashes, fetched by the host's uv or pip as wheels, none of whose code
//! runs on the host; and local wheels or working trees in place of pinned packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::files;
use super::sandbox::Sandbox;
use super::users::Owner;
use crate::host::ids::IdRange;
use crate::host::shell::{Command, which};
use crate::image::content;
use crate::image::recipe::Python;
use crate::image::tree;

/// The C library's versions whose wheels run in a container: those up to Debian 12's.
const MANYLINUX: [&str; 4] = ["2_5", "2_12", "2_17", "2_28"];

/// Installs the packages and brings them into the tree as root's.
pub fn install(
    wanted: &Python,
    replacements: &[PathBuf],
    scratch: &Path,
    sandbox: &Sandbox<'_>,
    ids: IdRange,
) -> anyhow::Result<()> {
    let folder = scratch.join("python");
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, &wanted.requirements).with_context(|| format!("writing {}", requirements.display()))?;
    let installer = Installer::find();
    // A build that is killed leaves nothing in the host's own folder for such files.
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).with_context(|| format!("making {}", temporary.display()))?;
    let pinned = installer.command(wanted, &packages).env("TMPDIR", &temporary);
    let pinned = pinned.args(["--only-binary", ":all:", "--require-hashes", "-r"]).arg(&requirements);
    sandbox.log().run(pinned)?;
    for (place, replacement) in replacements.iter().enumerate() {
        let source = copy_source(replacement, &folder.join(format!("source-{place}")))?;
        let local = installer.command_for_source(wanted, &packages).env("TMPDIR", &temporary).arg(&source);
        sandbox.log().run(local)?;
    }
    let own_lock = packages.join(".lock");
    tree::remove(&own_lock).with_context(|| format!("removing {}", own_lock.display()))?;
    files::copy(sandbox.root(), &packages, Path::new(&wanted.target), None, Owner::ROOT, ids)
}

/// What lies in the target folder of a layer, as sorted `name=version`.
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

/// A wheel as it is; a working tree without its leftovers, so that a build writes nothing into it.
fn copy_source(source: &Path, copy: &Path) -> anyhow::Result<PathBuf> {
    if source.is_file() {
        return Ok(source.to_owned());
    }
    for entry in content::walk(source) {
        let entry = entry?;
        let target = copy.join(entry.path().strip_prefix(source)?);
        let kind = entry.file_type();
        let copied = if kind.is_dir() {
            fs::create_dir(&target)
        } else if kind.is_symlink() {
            fs::read_link(entry.path()).and_then(|link| std::os::unix::fs::symlink(link, &target))
        } else {
            fs::copy(entry.path(), &target).map(drop)
        };
        copied.with_context(|| format!("copying {} to {}", entry.path().display(), target.display()))?;
    }
    Ok(copy.to_owned())
}

/// The program of the host that installs.
#[derive(Debug, Clone, Copy)]
enum Installer {
    Uv,
    Pip,
}

impl Installer {
    /// uv where there is one: it takes a third of the time.
    fn find() -> Self {
        if which("uv").is_some() { Self::Uv } else { Self::Pip }
    }

    /// Everything but what to install.
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

    /// For a local wheel or tree: a tree is built by its own build backend, which pip does for no other platform.
    fn command_for_source(self, wanted: &Python, target: &Path) -> Command {
        match self {
            Self::Uv => self.command(wanted, target),
            Self::Pip => Command::new("python3")
                .args(["-m", "pip", "install", "--no-input", "--no-compile", "--disable-pip-version-check"])
                .args(["--progress-bar", "off", "--root-user-action", "ignore", "--no-deps", "--target"])
                .arg(target),
        }
    }
}
