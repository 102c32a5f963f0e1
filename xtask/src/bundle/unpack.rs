//! Unpacking of a bundle, which comes from elsewhere and is not trusted. It is unpacked into a new folder before anything of it is used.
//! Rejected are paths outside of this folder, entries that are neither files nor links, more or larger files than a bundle may have, and
//! files whose hash is not the listed one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::archive::sha256;
use super::links::{Links, Work};
use super::manifest::{BUNDLE_FILE, BUNDLE_VERSION, Bundle, bytes_allowed};
use crate::error::Error;
use crate::host::disk::tar_entries::{Room, read_entries, shown};
use crate::host::invoker::Invoker;
use crate::input;
use crate::record::RUNS_FOLDER;

/// Limits on the content of a bundle: numbers of files and of bytes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    files: usize,
    bytes: u64,
}

/// Maximum bytes after the last file of an archive, where tar pads its last record with zeros.
const PADDING_BYTES_MAX: u64 = 1 << 20;

/// Maximum number of files in a bundle.
const FILES_MAX: usize = 200_000;

/// Bundle that was unpacked to the disk, as [`unpack`] returns it.
#[derive(Debug)]
pub struct Unpacked {
    pub project: PathBuf,
    /// Folder of the run's record, below the project.
    pub run: PathBuf,
    pub bundle: Bundle,
    /// Files that were changed or removed since the bundle was unpacked; empty after a new unpacking.
    pub changed: Vec<String>,
}

/// Unpacks a bundle into a folder below `into`, named by the file's hash, with the rights of a user. If this bundle was unpacked before,
/// the existing folder is used as it is.
///
/// # Errors
/// [`Error::Usage`] if the file is no valid bundle, or has another format version.
pub fn unpack(file: &Path, into: &Path, invoker: &Invoker) -> anyhow::Result<Unpacked> {
    invoker.act(|| {
        let refused = |error: anyhow::Error| {
            let problem = format!("{} cannot be taken as a bundle: {error:#}", file.display());
            anyhow::Error::from(Error::Usage(problem))
        };
        let name = input::open(file).map_err(anyhow::Error::from).and_then(sha256_of).map_err(refused)?;
        let folder = into.join(&name[..16]);
        if !folder.is_dir() {
            std::fs::create_dir_all(into).with_context(|| format!("creating the folder {}", into.display()))?;
            let new = into.join(format!(".{}-{}", &name[..16], std::process::id()));
            let bounds = std::fs::metadata(file)
                .map(|metadata| Bounds { files: FILES_MAX, bytes: bytes_allowed(metadata.len()) })
                .map_err(|error| refused(error.into()))?;
            let laid_out = lay_out(file, &new, bounds).and_then(|paths| {
                let bundle = read(&new)?;
                let unlisted = unlisted(&paths, &bundle);
                ensure!(
                    unlisted.is_empty(),
                    "the archive holds files that bundle.json does not list: {}",
                    some_of(&unlisted)
                );
                let changed = changed(&new, &bundle)?;
                let names: Vec<String> = changed.iter().map(|path| shown(Path::new(path))).collect();
                ensure!(
                    changed.is_empty(),
                    "the content of these files is not what bundle.json lists: {}",
                    some_of(&names)
                );
                Ok(())
            });
            if let Err(error) = laid_out {
                let _ = std::fs::remove_dir_all(&new);
                return Err(refused(error));
            }
            std::fs::rename(&new, &folder)
                .with_context(|| format!("renaming the unpacked bundle to {}", folder.display()))?;
        }
        let bundle = read(&folder).map_err(refused)?;
        let changed = changed(&folder, &bundle).map_err(refused)?;
        let project = folder.join(inside(Path::new(&bundle.project)).map_err(refused)?);
        let run = project.join(RUNS_FOLDER).join(inside(Path::new(&bundle.run_id)).map_err(refused)?);
        Ok(Unpacked { project, run, bundle, changed })
    })
}

/// Unpacks an archive into a folder; returns the paths of its files and links.
fn lay_out(file: &Path, folder: &Path, bounds: Bounds) -> anyhow::Result<BTreeSet<PathBuf>> {
    std::fs::create_dir(folder).with_context(|| format!("creating the folder {}", folder.display()))?;
    let too_much = || {
        format!(
            "the archive holds more than {} bytes, which is more than a bundle of this size ever does",
            bounds.bytes
        )
    };
    // Each file has a header, and each is filled up to whole blocks.
    let overhead = (bounds.files as u64).saturating_mul(4096);
    let mut bytes = GzDecoder::new(BufReader::new(input::open(file)?)).take(bounds.bytes.saturating_add(overhead));
    let mut links = Links::default();
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    let mut bytes_left = bounds.bytes;
    let mut room = Room::new(bounds.files as u64);
    read_entries(&mut bytes, &mut |entry, path| {
        let path = inside(path)?;
        let shown = shown(&path);
        ensure!(paths.len() < bounds.files, "the archive holds more than {} files", bounds.files);
        room.keep(&path)?;
        ensure!(paths.insert(path.clone()), "{shown} is in the archive twice");
        let at = folder.join(&path);
        match entry.header().entry_type() {
            EntryType::Regular => {
                let size = entry.size();
                bytes_left = bytes_left.checked_sub(size).with_context(too_much)?;
                let mode = if entry.header().mode()? & 0o100 != 0 { 0o755 } else { 0o644 };
                if let Some(parent) = at.parent() {
                    room.make_folder(parent)?;
                }
                let new = File::options().write(true).create_new(true).mode(mode).open(&at);
                let mut new = new.with_context(|| format!("unpacking {shown}"))?;
                let copied = io::copy(entry, &mut new).with_context(|| format!("unpacking {shown}"))?;
                ensure!(copied == size, "{shown} is cut off");
            }
            EntryType::Symlink => {
                let to = entry.link_name()?.with_context(|| format!("the link {shown} has no target"))?.into_owned();
                room.keep(&path)?;
                room.keep(&to)?;
                links.add(path, to);
            }
            _ => bail!("{shown} is neither a file nor a link"),
        }
        Ok(())
    })?;
    // To its very end, where its own sum is: what is missing or was added there was never looked at.
    let padding =
        io::copy(&mut bytes.by_ref().take(PADDING_BYTES_MAX + 1), &mut io::sink()).context("the archive is cut off")?;
    ensure!(padding <= PADDING_BYTES_MAX, "data follows the last file of the archive");
    ensure!(bytes.into_inner().into_inner().fill_buf()?.is_empty(), "data follows the end of the archive");
    // Last, so that nothing is written through one; and none lies behind another, where its words would mean another place.
    if let Some(problem) = links.problem(&paths, &mut Work::of_unpacking()) {
        bail!(problem);
    }
    for (path, to) in links.iter() {
        let at = folder.join(path);
        if let Some(parent) = at.parent() {
            room.make_folder(parent)?;
        }
        symlink(to, &at).with_context(|| format!("unpacking {}", shown(path)))?;
    }
    Ok(paths)
}

/// Returns the files of the archive that `bundle.json` does not list.
fn unlisted(paths: &BTreeSet<PathBuf>, bundle: &Bundle) -> Vec<String> {
    let listed: BTreeSet<&Path> = bundle.files.iter().map(|file| Path::new(&file.path)).collect();
    let is_unlisted = |path: &&PathBuf| !listed.contains(path.as_path()) && path.as_path() != Path::new(BUNDLE_FILE);
    paths.iter().filter(is_unlisted).map(|path| format!("\"{}\"", shown(path))).collect()
}

/// Joins the first names of a list, and appends the number of the others.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// Checks that a path stays inside of the folder that it is joined to; returns it normalized.
fn inside(path: &Path) -> anyhow::Result<PathBuf> {
    let normal = |component: Component<'_>| matches!(component, Component::Normal(_));
    let good = path.components().all(normal) && path.components().next().is_some();
    ensure!(good, "{} would lie outside of the bundle's folder", shown(path));
    Ok(path.components().collect())
}

fn read(folder: &Path) -> anyhow::Result<Bundle> {
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let text = match input::read_below(folder, BUNDLE_FILE, input::RECORD_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("the archive holds no {BUNDLE_FILE}"),
        text => text.with_context(|| format!("reading {BUNDLE_FILE}"))?,
    };
    let Version { format_version } =
        serde_json::from_slice(&text).with_context(|| format!("reading the version in {BUNDLE_FILE}"))?;
    ensure!(
        format_version == BUNDLE_VERSION,
        "its format_version is {format_version}, and this engine reads {BUNDLE_VERSION}: use the engine that wrote it"
    );
    serde_json::from_slice(&text).with_context(|| format!("parsing {BUNDLE_FILE}"))
}

/// Returns the listed files that are missing, or whose hash is not the listed one.
fn changed(folder: &Path, bundle: &Bundle) -> anyhow::Result<Vec<String>> {
    let mut changed = Vec::new();
    for listed in &bundle.files {
        let at = folder.join(inside(Path::new(&listed.path))?);
        let is_link = std::fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_symlink());
        let found = match (is_link, &listed.link) {
            (true, Some(_)) => std::fs::read_link(&at).ok().map(|to| sha256(to.display().to_string().as_bytes())),
            (false, None) => {
                input::open_below(folder, inside(Path::new(&listed.path))?).ok().and_then(|file| sha256_of(file).ok())
            }
            _ => None,
        };
        if found.as_ref() != Some(&listed.sha256) {
            changed.push(listed.path.clone());
        }
    }
    Ok(changed)
}

fn sha256_of(mut file: File) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&part[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;
    use crate::host::patience::Deadline;

    type Archive = Builder<GzEncoder<File>>;

    /// Adds an entry with any name to an archive, also a name that the crate's own methods reject, as an attacker could.
    fn add(archive: &mut Archive, kind: EntryType, name: &str, content: &[u8], link: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }

    fn check(fill: impl Fn(&mut Archive), expected: &str) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.tar.gz");
        let mut archive = Builder::new(GzEncoder::new(File::create(&file).unwrap(), Compression::fast()));
        fill(&mut archive);
        archive.into_inner().unwrap().finish().unwrap();
        let into = home.path().join("a/bundles");
        let error = unpack(&file, &into, &Invoker::find()).unwrap_err();
        assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
        assert!(error.to_string().contains(expected), "{error:#}");
        let left: Vec<_> =
            walkdir::WalkDir::new(home.path()).into_iter().map(|entry| entry.unwrap().into_path()).collect();
        assert_eq!(left.len(), 4, "only the archive and the folder for all of them: {left:?}");
    }

    #[test]
    fn what_would_do_harm_is_refused_and_leaves_nothing() {
        let file = |name: &'static str| move |archive: &mut Archive| add(archive, EntryType::Regular, name, b"x", "");
        check(file("../x"), "../x would lie outside");
        check(file("/etc/x"), "would lie outside");
        check(file("a/../../x"), "would lie outside");
        check(|archive| add(archive, EntryType::Char, "a", b"", ""), "a is neither a file nor a link");
        check(|archive| add(archive, EntryType::Link, "a", b"", "/etc/passwd"), "a is neither a file nor a link");
        check(|archive| add(archive, EntryType::Symlink, "a", b"", "/etc"), "a leads out of the bundle, to /etc");
        check(|archive| add(archive, EntryType::Symlink, "a/b", b"", "../../c"), "leads out of the bundle");
        check(
            |archive| {
                add(archive, EntryType::Symlink, "a", b"", "b/c");
                add(archive, EntryType::Symlink, "a/d", b"", "..");
            },
            "a/d lies behind the link a",
        );
        check(
            |archive| {
                add(archive, EntryType::Regular, "a", b"1", "");
                add(archive, EntryType::Regular, "a", b"2", "");
            },
            "a is in the archive twice",
        );
        // Each stays inside by its own words.
        for (to, expected) in
            [("a/b/up/..", "x leads out of the bundle, to a/b/up/.."), ("x/y", "x passes more than 40 links")]
        {
            check(
                |archive| {
                    add(archive, EntryType::Symlink, "x", b"", to);
                    add(archive, EntryType::Symlink, "a/b/up", b"", "../..");
                },
                expected,
            );
        }
        check(file("a"), "the archive holds no bundle.json");
        let bundle = |text: &'static str| {
            move |archive: &mut Archive| add(archive, EntryType::Regular, BUNDLE_FILE, text.as_bytes(), "")
        };
        check(bundle("{\"format_version\": 7}"), "its format_version is 7, and this engine reads 1");
        check(bundle("{}"), "format_version");
        let listed = r#"{"format_version": 1, "run_id": "r", "engine_version": "0", "project": "p", "command": [], "layers": {},
            "redactions": [], "left_out": [], "files": [{"path": "a", "size_bytes": 1, "sha256": "00"}]}"#;
        check(
            |archive| {
                add(archive, EntryType::Regular, "a", b"x", "");
                add(archive, EntryType::Regular, BUNDLE_FILE, listed.as_bytes(), "");
            },
            "the content of these files is not what bundle.json lists: a",
        );
    }

    #[test]
    fn a_name_of_many_megabytes_is_refused() {
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
            check(
                |archive| {
                    let mut header = Header::new_gnu();
                    header.set_path("long").unwrap();
                    header.set_entry_type(kind);
                    header.set_size(16 << 20);
                    header.set_cksum();
                    archive.append(&header, io::repeat(b'a').take(16 << 20)).unwrap();
                    add(archive, EntryType::Regular, "a", b"x", "");
                },
                if kind == EntryType::XGlobalHeader { "neither a file nor a link" } else { "take more than 1 MiB" },
            );
        }
    }

    #[test]
    fn twenty_thousand_links_are_looked_at_soon() {
        const LINKS: usize = 20_000;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.tar.gz");
        let mut archive = Builder::new(GzEncoder::new(File::create(&file).unwrap(), Compression::fast()));
        for place in 0..LINKS {
            add(&mut archive, EntryType::Symlink, &format!("some/folders/of/a/project/{place}"), b"", "../0");
        }
        archive.into_inner().unwrap().finish().unwrap();
        let folder = home.path().join("a");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let bounds = Bounds { files: FILES_MAX, bytes: 1 << 20 };
            let _ = sender.send(lay_out(&file, &folder, bounds).map(|paths| paths.len()));
        });
        let patience = Deadline::from_secs(20).scaled();
        assert_eq!(receiver.recv_timeout(patience).expect("it takes less than seconds").unwrap(), LINKS);
    }

    #[test]
    fn more_than_is_allowed_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.tar.gz");
        let mut archive = Builder::new(GzEncoder::new(File::create(&file).unwrap(), Compression::best()));
        add(&mut archive, EntryType::Regular, "zeros", &vec![0; 1 << 20], "");
        add(&mut archive, EntryType::Regular, "more", b"x", "");
        archive.into_inner().unwrap().finish().unwrap();
        let check =
            |name: &str, bounds| lay_out(&file, &home.path().join(name), bounds).map_err(|error| format!("{error:#}"));
        assert_eq!(check("a", Bounds { files: 2, bytes: 2 << 20 }).map(|paths| paths.len()), Ok(2));
        assert!(check("b", Bounds { files: 1, bytes: 2 << 20 }).unwrap_err().contains("more than 1 files"));
        assert!(check("c", Bounds { files: 2, bytes: 1000 }).unwrap_err().contains("more than 1000 bytes"));
        assert!(check("d", Bounds { files: 2, bytes: 1 << 20 }).unwrap_err().contains("more than 1048576 bytes"));
    }

    const EMPTY_LIST: &str = r#"{"format_version": 1, "run_id": "r", "engine_version": "0", "project": "p", "command": [],
        "layers": {}, "redactions": [], "left_out": [], "files": []}"#;

    #[test]
    fn what_its_list_does_not_have_is_refused() {
        check(
            |archive| {
                add(archive, EntryType::Regular, "p/\u{1b}[31m", b"x", "");
                add(archive, EntryType::Regular, BUNDLE_FILE, EMPTY_LIST.as_bytes(), "");
            },
            r#"the archive holds files that bundle.json does not list: "p/\u{1b}[31m""#,
        );
        check(
            |archive| {
                add(archive, EntryType::Symlink, "p/a", b"", "b");
                add(archive, EntryType::Regular, BUNDLE_FILE, EMPTY_LIST.as_bytes(), "");
            },
            "bundle.json does not list: \"p/a\"",
        );
    }

    #[test]
    fn an_archive_is_read_to_its_end() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.tar.gz");
        let mut archive = Builder::new(GzEncoder::new(File::create(&file).unwrap(), Compression::fast()));
        add(&mut archive, EntryType::Regular, BUNDLE_FILE, EMPTY_LIST.as_bytes(), "");
        archive.into_inner().unwrap().finish().unwrap();
        let whole = std::fs::read(&file).unwrap();
        let error = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            unpack(&file, &home.path().join("b"), &Invoker::find()).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(error(&whole), Ok(()));
        for left in [whole.len() - 1, whole.len() - 8, whole.len() - 12] {
            let problem = error(&whole[..left]).unwrap_err();
            assert!(problem.contains("cut off") || problem.contains("cannot be taken as a bundle"), "{problem}");
        }
        let mut other_sum = whole.clone();
        *other_sum.iter_mut().rev().nth(5).unwrap() ^= 1;
        assert!(error(&other_sum).is_err());
        assert!(error(&[&whole[..], b"x"].concat()).unwrap_err().contains("data follows the end of the archive"));
        assert!(error(&[&whole[..], &whole].concat()).unwrap_err().contains("data follows the end of the archive"));
    }

    #[test]
    fn what_is_meant_to_fill_a_disk_is_refused_before_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.tar.gz");
        let mut archive = Builder::new(GzEncoder::new(File::create(&file).unwrap(), Compression::fast()));
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(2 << 30);
        header.set_mode(0o644);
        // The first few of its bytes are enough: nothing of them is read.
        archive.append_data(&mut header, "zeros", io::repeat(0).take(4 << 20)).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
        let folder = home.path().join("a");
        let bounds = Bounds { files: FILES_MAX, bytes: bytes_allowed(2 << 20) };
        let problem = lay_out(&file, &folder, bounds).unwrap_err().to_string();
        assert!(problem.contains("more than a bundle of this size ever does"), "{problem}");
        assert!(!folder.join("zeros").exists());
        assert_eq!(bytes_allowed(0), 128 << 20);
        assert_eq!(bytes_allowed(u64::MAX), 8 << 30);
    }

    #[test]
    fn what_is_no_archive_is_told() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x");
        let error = |file: &Path| unpack(file, &home.path().join("b"), &Invoker::find()).unwrap_err().to_string();
        assert!(error(&file).contains("No such file"), "{}", error(&file));
        std::fs::write(&file, "text").unwrap();
        assert!(error(&file).contains("cannot be taken as a bundle"), "{}", error(&file));
        assert!(error(home.path()).contains("it is a folder: a file is needed here"));
    }
}
