//! Packing of a bundle: a tar archive, compressed by gzip, whose last file lists all others.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::contents::{Contents, Item};
use super::manifest::{BUNDLE_FILE, BUNDLE_VERSION, Bundle, BundledFile, Redaction, bytes_allowed};
use super::redaction::Redactor;
use super::stage::{Reports, Stage};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::manifest::Project;
use crate::record::{Masks, PastRun};

/// Bundle that was written, as [`pack`] returns it.
#[derive(Debug)]
pub struct Packed {
    pub path: PathBuf,
    pub size_bytes: u64,
    pub bundle: Bundle,
    /// Files of the record that were not searched for secrets, because they are compressed.
    pub unsearched: Vec<String>,
}

type Archive = Builder<GzEncoder<File>>;

/// Packs a run into a bundle, in place of an older one, with the rights of a user. Secrets of known shapes and declared values are removed
/// from the record, and reports are made anew from it.
pub fn pack(
    project: &Project,
    run: &PastRun,
    output: &Path,
    declared: &Arc<Masks>,
    reports: &Reports<'_>,
    invoker: &Invoker,
) -> anyhow::Result<Packed> {
    let mut contents = Contents::find(project, run, invoker)?;
    let redactor = Redactor::new(&project.secrets.shapes, Arc::clone(declared))?;
    let stage = Stage::make(run, &contents.record, redactor, output, reports, invoker)?;
    let Stage { items, redactions, left_out, unsearched, redactor, .. } = &stage;
    let mut redactions = redactions.clone();
    contents.left_out.extend(left_out.iter().cloned());
    let mut new = output.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = invoker.create(&new)?;
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    let mut files = Vec::new();
    for item in &contents.sources {
        if item.link.is_none() && holds_value(declared, &invoker.read(&item.from)?) {
            contents.left_out.push(format!("{}: it holds a declared secret", item.path));
            continue;
        }
        files.push(add(&mut archive, item, invoker)?);
    }
    for item in items {
        files.push(add(&mut archive, item, invoker)?);
    }
    let (command, counts) = redactor.words(&run.record.command);
    let path = || BUNDLE_FILE.to_owned();
    redactions.extend(counts.into_iter().map(|(kind, count)| Redaction { path: path(), kind, count }));
    let bundle = Bundle {
        format_version: BUNDLE_VERSION,
        run_id: run.record.run_id.clone(),
        engine_version: run.record.engine_version.clone(),
        project: contents.project,
        command,
        layers: run.record.layers.clone(),
        redactions,
        left_out: contents.left_out,
        files,
    };
    append(&mut archive, BUNDLE_FILE, &serde_json::to_vec_pretty(&bundle)?, 0o644)?;
    let file =
        archive.into_inner().and_then(GzEncoder::finish).with_context(|| format!("writing {}", new.display()))?;
    let size_bytes = file.metadata()?.len();
    let held: u64 = bundle.files.iter().map(|file| file.size_bytes).sum();
    if held > bytes_allowed(size_bytes) {
        let _ = invoker.act(|| Ok(std::fs::remove_file(&new)?));
        let largest = bundle.files.iter().max_by_key(|file| file.size_bytes).map_or("", |file| &file.path);
        let problem = format!(
            "the run's {held} bytes compress to {size_bytes} bytes, and unpacking would refuse such a bundle as a \
             decompression bomb: make the largest file smaller, {largest}"
        );
        return Err(Error::Usage(problem).into());
    }
    invoker
        .act(|| Ok(std::fs::rename(&new, output)?))
        .with_context(|| format!("writing {} as {}", output.display(), invoker.name))?;
    Ok(Packed { path: output.to_owned(), size_bytes, bundle, unsearched: unsearched.clone() })
}

/// Tells whether the content of a file contains a declared secret.
fn holds_value(declared: &Masks, content: &[u8]) -> bool {
    matches!(declared.bytes(content), Cow::Owned(_))
}

fn add(archive: &mut Archive, item: &Item, invoker: &Invoker) -> anyhow::Result<BundledFile> {
    let path = item.path.clone();
    if let Some(to) = &item.link {
        let text = to.display().to_string();
        let mut header = header(EntryType::Symlink, 0, 0o777);
        archive.append_link(&mut header, &path, to).with_context(|| format!("packing {}", item.from.display()))?;
        return Ok(BundledFile {
            path,
            size_bytes: 0,
            sha256: sha256(text.as_bytes()),
            link: Some(text),
            executable: false,
        });
    }
    let content = invoker.read(&item.from)?;
    let executable = std::fs::metadata(&item.from)?.permissions().mode() & 0o100 != 0;
    append(archive, &path, &content, if executable { 0o755 } else { 0o644 })?;
    Ok(BundledFile { path, size_bytes: content.len() as u64, sha256: sha256(&content), link: None, executable })
}

fn append(archive: &mut Archive, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = header(EntryType::Regular, content.len() as u64, mode);
    archive.append_data(&mut header, path, content).with_context(|| format!("packing {path}"))
}

fn header(kind: EntryType, size_bytes: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size_bytes);
    header.set_mode(mode);
    header
}

/// Returns the SHA-256 hash of bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
