//! Files copied or unpacked into a tree from outside, owned by the containers' range of ids. No program of the tree is run, and no link in
//! the tree leads out of it.

use std::fs::{self, File, FileTimes};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, fchown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use super::accounts::{Accounts, Owner};
use super::sandbox::{Log, SOURCE_DATE_EPOCH};
use crate::host::container::ids::IdRange;
use crate::host::container::userns::UserNamespace;
use crate::host::exec::shell::Command;
use crate::host::invoker::Invoker;
use crate::image::content::Part;
use crate::image::recipe::CopiedFile;
use crate::image::{content, tree};

const COPY_BYTES: usize = 128 << 10;

/// Bytes at the start of an archive from which its compression is detected.
const MAGIC_BYTES: u64 = 8;

/// Compressions of archives by their first bytes, with tar's option for each: tar does not detect the compression of a pipe.
const COMPRESSIONS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", "--gzip"),
    (b"\x1f\x9d", "--uncompress"),
    (b"BZh", "--bzip2"),
    (b"\xfd7zXZ\0", "--xz"),
    (b"\x28\xb5\x2f\xfd", "--zstd"),
    (b"LZIP", "--lzip"),
    (b"\x89LZO", "--lzop"),
    (b"\x5d\0\0", "--lzma"),
];

/// Copies a file or folder of the recipe into the tree.
///
/// # Errors
/// When the source has changed since its hash was taken.
pub fn place(root: &Path, source: &Path, invoker: &Invoker, file: &CopiedFile, ids: IdRange) -> anyhow::Result<()> {
    let owner = match &file.owner {
        Some(text) => Accounts::read(root)?.owner(text)?,
        None => Owner::ROOT,
    };
    let hash = copy(root, source, invoker, Path::new(&file.target), file.mode, owner, ids)?;
    require_same(source, &file.hash, &hash)
}

/// Fails if the hash of a copied source is not the expected one, because the source has changed.
pub fn require_same(source: &Path, expected: &str, copied: &str) -> anyhow::Result<()> {
    if expected != copied {
        bail!("{} changed while the layer was built: build it again", source.display());
    }
    Ok(())
}

/// Copies a file, or all entries of a folder, with the user's rights to read, and returns its hash. If the source is a link, its target is
/// copied.
pub fn copy(
    root: &Path,
    source: &Path,
    invoker: &Invoker,
    target: &Path,
    mode: Option<u32>,
    owner: Owner,
    ids: IdRange,
) -> anyhow::Result<String> {
    let outside = owner.outside(ids)?;
    content::read(source, invoker, &mut |below, part| {
        let inside = if below.as_os_str().is_empty() { target.to_owned() } else { target.join(below) };
        let copied = match part {
            Part::Folder => make_folder(root, &inside, outside, ids),
            Part::Link(leads_to) => make_link(root, &inside, leads_to, outside, ids),
            Part::File { is_executable, content } => {
                let mode = mode.unwrap_or(if is_executable { 0o755 } else { 0o644 });
                make_file(root, &inside, content, mode, outside, ids)
            }
        };
        copied.with_context(|| format!("copying {} to {} of the layer", source.join(below).display(), inside.display()))
    })
}

/// Unpacks a root filesystem as root of the containers' user namespace. The archive is opened with the user's rights and piped to tar, so
/// that the unpacked bytes are exactly the hashed ones.
///
/// # Errors
/// When the archive has changed since its hash was taken; when tar fails.
pub fn unpack(
    tar: &Path,
    hash: &str,
    invoker: &Invoker,
    root: &Path,
    namespace: &UserNamespace,
    log: &Log,
) -> anyhow::Result<()> {
    let unpacked = content::read(tar, invoker, &mut |_, part| {
        let Part::File { content, .. } = part else { bail!("{} is no file", tar.display()) };
        let mut start = Vec::new();
        content.take(MAGIC_BYTES).read_to_end(&mut start).with_context(|| format!("reading {}", tar.display()))?;
        let (reader, mut writer) = io::pipe().context("making a pipe")?;
        let command = tar_command(&start, root, namespace).stdin_file(File::from(OwnedFd::from(reader)));
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| log.run(command));
            let fed = transfer(&mut start.as_slice(), &mut writer).and_then(|()| transfer(content, &mut writer));
            drop(writer);
            unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            match fed {
                // tar has seen the archive's end, and does not read what comes after it.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                fed => fed.with_context(|| format!("unpacking {}", tar.display())),
            }
        })
    })?;
    require_same(tar, hash, &unpacked)
}

fn tar_command(start: &[u8], root: &Path, namespace: &UserNamespace) -> Command {
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
            "--file=-",
        ]
        .map(str::to_owned),
    );
    let compression = COMPRESSIONS.iter().find(|(magic, _)| start.starts_with(magic));
    words.extend(compression.map(|(_, option)| (*option).to_owned()));
    words.push(format!("--directory={}", root.display()));
    Command::new(&words[0]).args(&words[1..]).dir("/")
}

/// Copies all bytes of a stream.
pub fn transfer(from: &mut dyn Read, to: &mut dyn io::Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn make_folder(root: &Path, inside: &Path, owner: (u32, u32), ids: IdRange) -> anyhow::Result<()> {
    let folder = tree::resolve(root, inside)?;
    if folder.is_dir() {
        return Ok(());
    }
    tree::make_dirs(root, &folder, ids.first)?;
    Ok(chown(&folder, Some(owner.0), Some(owner.1))?)
}

fn make_link(root: &Path, inside: &Path, leads_to: &Path, owner: (u32, u32), ids: IdRange) -> anyhow::Result<()> {
    let target = make_room(root, inside, ids)?;
    symlink(leads_to, &target)?;
    Ok(lchown(&target, Some(owner.0), Some(owner.1))?)
}

fn make_file(
    root: &Path,
    inside: &Path,
    content: &mut dyn Read,
    mode: u32,
    owner: (u32, u32),
    ids: IdRange,
) -> anyhow::Result<()> {
    let target = make_room(root, inside, ids)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&target)?;
    transfer(content, &mut file)?;
    file.set_times(FileTimes::new().set_modified(time_stamp()))?;
    fchown(&file, Some(owner.0), Some(owner.1))?;
    Ok(file.set_permissions(fs::Permissions::from_mode(mode))?)
}

/// Makes the parents of a path in the tree, removes a file or link at the path, and returns the path on the host. Fails if a folder is at
/// the path.
fn make_room(root: &Path, inside: &Path, ids: IdRange) -> anyhow::Result<std::path::PathBuf> {
    let target = tree::resolve_parent(root, inside)?;
    if target.is_dir() && !target.is_symlink() {
        bail!("a folder is at the target's path already");
    }
    tree::make_dirs(root, target.parent().unwrap_or(root), ids.first)?;
    tree::remove(&target)?;
    Ok(target)
}

/// Returns the time stamp of copied files. It is the same in every build, because bytecode files contain the time stamp of their source.
fn time_stamp() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(SOURCE_DATE_EPOCH)
}
