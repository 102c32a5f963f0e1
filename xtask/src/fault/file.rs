//! Faults of the content of files, damaged without the knowledge of the programs that use them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail};

use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::host::disk::container_fs;

/// Maximum number of bytes of a file that are kept to be restored.
const SAVED_BYTES_MAX: u64 = 64 << 20;

/// Fault that flips a bit of a file or cuts off its end (`file.bitflip`, `file.truncate`).
pub struct Damage {
    path: String,
    kind: Kind,
    done: Option<Done>,
}

enum Kind {
    Bitflip { offset: u64, bit: u8 },
    Truncate { size: u64 },
}

/// Original and damaged content of the piece at `offset`.
struct Done {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Damage {
    pub fn bitflip(path: &str, offset: u64, bit: u8) -> Self {
        Self { path: path.to_owned(), kind: Kind::Bitflip { offset, bit }, done: None }
    }

    pub fn truncate(path: &str, size: u64) -> Self {
        Self { path: path.to_owned(), kind: Kind::Truncate { size }, done: None }
    }

    fn open(&self, target: &FaultTarget<'_>) -> anyhow::Result<File> {
        if let Some(outage) = target.container.outage().filter(|outage| !outage.frozen) {
            return Err(outage.into());
        }
        container_fs::open_to_change(&target.container.root()?, &self.path)
    }

    /// Returns the file's content from the damaged place on, as a program in the container reads it: at most one byte more than the
    /// original content of the damaged piece.
    fn seen_inside(&self, target: &FaultTarget<'_>, done: &Done) -> anyhow::Result<Vec<u8>> {
        let first = format!("+{}", done.offset + 1);
        let count = (done.before.len() + 1).to_string();
        target.ask(&["/bin/sh", "-c", r#"tail -c "$2" "$1" | head -c "$3""#, "read", &self.path, &first, &count])
    }
}

impl Effect for Damage {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let file = self.open(target).map_err(|error| usage(format!("{error:#}")))?;
        let length = file.metadata()?.len();
        let done = match self.kind {
            Kind::Bitflip { offset, bit } => {
                if offset >= length || bit > 7 {
                    let message = format!(
                        "file.bitflip: {} has no bit {bit} of byte {offset}: it has {length} bytes, counted from 0, with bits 0 to 7",
                        self.path
                    );
                    return Err(usage(message));
                }
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).with_context(|| format!("reading {}", self.path))?;
                Done { offset, before: byte.to_vec(), after: vec![byte[0] ^ (1 << bit)] }
            }
            Kind::Truncate { size } => {
                if size >= length || length - size > SAVED_BYTES_MAX {
                    let message = format!(
                        "file.truncate: {} has {length} bytes: the fault can cut off 1 to {SAVED_BYTES_MAX} of them, not {}",
                        self.path,
                        i128::from(length) - i128::from(size)
                    );
                    return Err(usage(message));
                }
                let mut before = vec![0; usize::try_from(length - size)?];
                file.read_exact_at(&mut before, size).with_context(|| format!("reading {}", self.path))?;
                Done { offset: size, before, after: Vec::new() }
            }
        };
        let seen = match self.kind {
            Kind::Bitflip { offset, .. } => format!("byte {offset} is {:#04x}", done.before[0]),
            Kind::Truncate { .. } => format!("the file has {length} bytes"),
        };
        self.done = Some(done);
        Ok(seen)
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some(done) = &self.done else { bail!("the state before the fault was not observed") };
        let file = self.open(target)?;
        match self.kind {
            Kind::Bitflip { .. } => file.write_all_at(&done.after, done.offset),
            Kind::Truncate { size } => file.set_len(size),
        }
        .with_context(|| format!("changing {}", self.path))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(done) = &self.done else { bail!("the fault was not injected") };
        let seen = self.seen_inside(target, done)?;
        match (&self.kind, seen.as_slice()) {
            (Kind::Bitflip { offset, .. }, [byte, ..]) if *byte == done.after[0] => Ok(format!(
                "a program in {} reads {byte:#04x} at byte {offset}, where it was {:#04x}",
                target.name(),
                done.before[0]
            )),
            (Kind::Truncate { size }, []) => {
                Ok(format!("a program in {} reads only {size} bytes of the file", target.name()))
            }
            (Kind::Bitflip { offset, .. }, _) => {
                bail!(
                    "a program in {} does not read the flipped byte {:#04x} at byte {offset}",
                    target.name(),
                    done.after[0]
                )
            }
            (Kind::Truncate { size }, _) => {
                bail!("a program in {} still reads the file beyond byte {size}", target.name())
            }
        }
    }

    /// Verifies the effect again before healing. A file that somebody in the container has repaired or replaced ends the fault.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        if let Some(outage) = target.container.outage() {
            return Ok(Lasted::not_seen(outage.to_string()));
        }
        if self.open(target).is_err() {
            return Ok(Lasted::over("the file is gone"));
        }
        Ok(match self.verify_effect(target) {
            Ok(evidence) => Lasted::until_now(evidence),
            Err(error) => Lasted::lost(Keeper::Container, format!("{error:#}")),
        })
    }

    /// Restores content that is still as it was damaged: a repaired or replaced file is left alone.
    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some(done) = &self.done else { return Ok(()) };
        let Ok(file) = self.open(target) else { return Ok(()) };
        let length = file.metadata()?.len();
        let damaged = match self.kind {
            Kind::Bitflip { .. } => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, done.offset).is_ok() && byte[..] == done.after[..]
            }
            Kind::Truncate { size } => length == size,
        };
        if damaged {
            file.write_all_at(&done.before, done.offset).with_context(|| format!("putting back {}", self.path))?;
        }
        Ok(())
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(done) = &self.done else { bail!("the fault was not injected") };
        if self.open(target).is_err() {
            return Ok("the file is gone".into());
        }
        let seen = self.seen_inside(target, done)?;
        if seen.starts_with(&done.before) {
            Ok(format!("a program in {} reads the original content", target.name()))
        } else {
            Ok(format!(
                "a program in {} reads content that is not the original: another program has changed the file since",
                target.name()
            ))
        }
    }
}
