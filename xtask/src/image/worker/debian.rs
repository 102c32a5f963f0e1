//! Debian trees: bootstrapping a release, installing packages, and listing the installed versions.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::accounts::Owner;
use super::sandbox::{Log, SOURCE_DATE_EPOCH, Sandbox, outgoing};
use crate::host::container::userns::UserNamespace;
use crate::host::disk::container_fs;
use crate::host::exec::shell::Command;
use crate::host::tools::packages::{SYSTEM_KEYRINGS, debian_keyring};
use crate::image::tree;

/// Options of dpkg that exclude manuals and translations, which containers do not need. Copyright files stay.
const DPKG_OPTIONS: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// Path of the script that keeps packages from starting services while they are installed.
const FORBID: &str = "/usr/sbin/policy-rc.d";

/// Installs the minimal tree of a release with additional packages into an empty folder, from the default mirror of mmdebstrap. All files
/// belong to the containers' range of ids.
pub fn bootstrap(
    release: &str,
    packages: &[String],
    root: &Path,
    scratch: &Path,
    namespace: &UserNamespace,
    log: &Log,
) -> anyhow::Result<()> {
    let temporary = scratch.join("mmdebstrap");
    std::fs::create_dir(&temporary)
        .and_then(|()| std::fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o1777)))
        .with_context(|| format!("making {}", temporary.display()))?;
    let mut words = namespace.enter_words();
    words.extend(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"].map(str::to_owned));
    words.extend(
        ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--verbose"].map(str::to_owned),
    );
    words.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
    words.extend(
        ["Acquire::Languages \"none\"", "APT::Install-Recommends \"false\""].map(|option| format!("--aptopt={option}")),
    );
    words.extend(packages.iter().map(|package| format!("--include={package}")));
    let keyring = debian_keyring().filter(|file| !file.starts_with(SYSTEM_KEYRINGS));
    words.extend(keyring.map(|file| format!("--keyring={}", file.display())));
    words.extend([release.to_owned(), root.display().to_string()]);
    let command = Command::new(&words[0])
        .args(&words[1..])
        .clear_env()
        .envs(outgoing())
        .env("TMPDIR", &temporary)
        .env("HOME", "/nonexistent") // root's folder on the host is closed to root inside
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
        .dir("/");
    log.run(command)
}

/// Installs packages with the tree's own apt-get.
pub fn install(sandbox: &Sandbox<'_>, packages: &[String]) -> anyhow::Result<()> {
    if !tree::resolve(sandbox.root(), Path::new("/usr/bin/apt-get"))?.is_file() {
        bail!("the layer has no apt-get: a template with `packages` needs a Debian base");
    }
    // Not by its path: the tree may have a link there that leads out of it.
    let owner = Owner::ROOT.outside(sandbox.ids())?;
    container_fs::write(sandbox.root(), FORBID, b"#!/bin/sh\nexit 101\n", 0o755, owner)?;
    sandbox.run(["/usr/bin/apt-get", "-q", "update"])?;
    let options = [
        "/usr/bin/apt-get",
        "-q",
        "-y",
        "--no-install-recommends",
        "-oDpkg::Use-Pty=0",
        "-oDpkg::Options::=--force-unsafe-io",
        "-oDpkg::Options::=--force-confold",
        "-oAcquire::Retries=3",
        "install",
        "--",
    ];
    sandbox.run(options.into_iter().chain(packages.iter().map(String::as_str)))?;
    // Looked for anew: a package may have made a link of a folder on the way.
    let policy = tree::resolve_parent(sandbox.root(), Path::new(FORBID))?;
    tree::remove(&policy).with_context(|| format!("removing {}", policy.display()))
}

/// Returns the installed packages as sorted `name=version`; empty if the tree has no dpkg.
pub fn versions(sandbox: &Sandbox<'_>) -> anyhow::Result<Vec<String>> {
    if !tree::resolve(sandbox.root(), Path::new("/usr/bin/dpkg-query"))?.is_file() {
        return Ok(Vec::new());
    }
    let format = "--showformat=${db:Status-Abbrev}${binary:Package}=${Version}\\n";
    let listed = sandbox.command(["/usr/bin/dpkg-query", "--show", format]).run()?.text();
    let installed = listed.lines().filter_map(|line| line.strip_prefix("ii "));
    let mut versions: Vec<String> = installed.map(|line| line.trim().to_owned()).collect();
    versions.sort();
    Ok(versions)
}
