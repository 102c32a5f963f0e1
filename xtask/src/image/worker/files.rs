//! Files brought into a tree from outside, with owners of the containers' range. No program of the tree is needed, and
//! no link in it leads out of it.

use std::fs::{self, File, FileTimes, FileType};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use super::sandbox::{Log, SOURCE_DATE_EPOCH};
use super::users::{Accounts, Owner};
use crate::host::ids::IdRange;
use crate::host::mount;
use crate::host::shell::Command;
use crate::host::userns::UserNamespace;
use crate::image::recipe::CopiedFile;
use crate::image::{content, tree};

/// Copies a file or folder of the recipe.
pub fn place(root: &Path, source: &Path, file: &CopiedFile, ids: IdRange) -> anyhow::Result<()> {
    let owner = match &file.owner {
        Some(text) => Accounts::read(root)?.owner(text)?,
        None => Owner::ROOT,
    };
    copy(root, source, Path::new(&file.target), file.mode, owner, ids)
}

/// Copies a file or what a folder holds; a link given as the source stands for what it leads to.
pub fn copy(
    root: &Path,
    source: &Path,
    target: &Path,
    mode: Option<u32>,
    owner: Owner,
    ids: IdRange,
) -> anyhow::Result<()> {
    let outside = owner.outside(ids)?;
    for entry in content::walk(source) {
        let entry = entry.with_context(|| format!("reading {}", source.display()))?;
        let inside = match entry.path().strip_prefix(source)? {
            rest if rest.as_os_str().is_empty() => target.to_owned(),
            rest => target.join(rest),
        };
        let kind = if entry.depth() == 0 { content::follow(source)? } else { entry.file_type() };
        let copied = if kind.is_dir() {
            make_folder(root, &inside, outside, ids)
        } else {
            make_file(root, entry.path(), kind, &inside, mode, outside, ids)
        };
        copied.with_context(|| format!("copying {} to {} of the layer", entry.path().display(), inside.display()))?;
    }
    Ok(())
}

/// Unpacks a root filesystem as root of the containers' range, which may not pass through the folders of the tar file:
/// it is shown to it in the scratch folder.
pub fn unpack(tar: &Path, root: &Path, scratch: &Path, namespace: &UserNamespace, log: &Log) -> anyhow::Result<()> {
    let shown = scratch.join("root.tar");
    File::create(&shown).with_context(|| format!("making {}", shown.display()))?;
    mount::bind(tar, &shown)?;
    let mut words = namespace.enter_words();
    // Device nodes cannot be made there, and a container brings its own.
    words.extend(
        [
            "tar",
            "--extract",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            // Those at the top alone: without this word tar takes `dev/*` for any folder of that name.
            "--anchored",
            "--exclude=dev/*",
            "--exclude=./dev/*",
            "--exclude=/dev/*",
        ]
        .map(str::to_owned),
    );
    words.push(format!("--directory={}", root.display()));
    words.push(format!("--file={}", shown.display()));
    log.run(Command::new(&words[0]).args(&words[1..]).dir("/"))?;
    mount::detach(&shown)
}

fn make_folder(root: &Path, inside: &Path, owner: (u32, u32), ids: IdRange) -> anyhow::Result<()> {
    let folder = tree::resolve(root, inside)?;
    if folder.is_dir() {
        return Ok(());
    }
    tree::make_dirs(root, &folder, ids.first)?;
    Ok(chown(&folder, Some(owner.0), Some(owner.1))?)
}

fn make_file(
    root: &Path,
    source: &Path,
    kind: FileType,
    inside: &Path,
    mode: Option<u32>,
    owner: (u32, u32),
    ids: IdRange,
) -> anyhow::Result<()> {
    let target = tree::resolve_parent(root, inside)?;
    if target.is_dir() && !target.is_symlink() {
        bail!("there is a folder already");
    }
    tree::make_dirs(root, target.parent().unwrap_or(root), ids.first)?;
    tree::remove(&target)?;
    if kind.is_symlink() {
        symlink(fs::read_link(source)?, &target)?;
        return Ok(lchown(&target, Some(owner.0), Some(owner.1))?);
    }
    fs::copy(source, &target)?;
    File::options().write(true).open(&target)?.set_times(FileTimes::new().set_modified(time_stamp()))?;
    chown(&target, Some(owner.0), Some(owner.1))?;
    let own_mode = if content::is_executable(&fs::metadata(source)?.permissions()) { 0o755 } else { 0o644 };
    Ok(fs::set_permissions(&target, fs::Permissions::from_mode(mode.unwrap_or(own_mode)))?)
}

/// The same in every build: bytecode files hold the time stamp of their source.
fn time_stamp() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(SOURCE_DATE_EPOCH)
}
