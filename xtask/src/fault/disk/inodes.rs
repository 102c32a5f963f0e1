//! Fault that lets a volume take no more files, though it has room.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{fstatvfs, statvfs};

use super::volume::{Volume, line_with};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::host::undo::Undo;
use crate::manifest::VolumeKind;

/// Folder of the files that use up the inodes of an ext4 volume.
const FILLER: &str = ".e2e-inodes";

/// Maximum number of files made to use up inodes.
const FILLER_MAX: u64 = 1 << 20;

/// Number of files that the check tries to make beyond those that the fault leaves free.
const EXCESS: u64 = 4;

/// Fault that uses up a volume's inodes until `free` are left (`disk.inodes`).
pub struct Inodes {
    path: String,
    free: u64,
    done: Option<(Volume, Vec<Undo>)>,
}

/// Number of files that could be made in the container, and the shell's message on the first that could not.
struct Made {
    count: u64,
    said: String,
}

impl Inodes {
    pub fn new(path: &str, free: u64) -> Self {
        Self { path: path.to_owned(), free, done: None }
    }

    /// Makes empty files in the container, some more than the fault leaves free, and removes them. The redirection that makes a file is at
    /// `command true`: at a special builtin such as `:`, a failed one would end the shell.
    fn make_files(&self, target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<Made> {
        const SCRIPT: &str = r#"i=0; status=0
            while [ $i -lt "$2" ] && [ $status = 0 ]; do
                command true > "$1.$i" || status=$?
                [ $status = 0 ] && i=$((i + 1))
            done
            rm -f "$1".*
            echo $i"#;
        let count = (self.free + EXCESS).to_string();
        let output = target.exec(&["/bin/sh", "-c", SCRIPT, "probe", &volume.probe(), &count])?;
        let stdout = output.stdout.text().context("reading a program's output")?;
        let said = output.stderr.text().unwrap_or_default().trim().to_owned();
        if output.timed_out {
            bail!("making {count} files in {} took too long", volume.inside);
        }
        let count = stdout.trim().parse().with_context(|| format!("making files in {}: {said}", volume.inside))?;
        Ok(Made { count, said })
    }
}

impl Effect for Inodes {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let volume = Volume::of("disk.inodes", &self.path, target)?;
        let made = self.make_files(target, &volume)?;
        if made.count < self.free + EXCESS {
            let message = format!(
                "disk.inodes: {} takes only {} more files even without the fault: {}",
                volume.inside, made.count, made.said
            );
            return Err(usage(message));
        }
        Ok(format!("{} files were made in {}", made.count, volume.inside))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let volume = Volume::of("disk.inodes", &self.path, target)?;
        let state = statvfs(&volume.top()).with_context(|| format!("looking at {}", volume.dir.display()))?;
        let undo = match volume.kind {
            VolumeKind::Tmpfs => Undo::SetInodes { path: volume.dir.clone(), inodes: state.files() },
            VolumeKind::Ext4 => Undo::RemoveTree { path: volume.dir.join(FILLER) },
        };
        target.lab.guard().note(vec![undo.clone()])?;
        self.done = Some((volume.clone(), vec![undo]));
        match volume.kind {
            VolumeKind::Tmpfs => {
                let used = state.files().saturating_sub(state.files_free());
                volume.mounts()?.set_inodes(&volume.dir, used + self.free)
            }
            VolumeKind::Ext4 => take_inodes(&volume.top(), self.free),
        }
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some((volume, _)) = &self.done else { bail!("the fault was not injected") };
        let made = self.make_files(target, volume)?;
        if made.count > self.free {
            bail!("{} files, more than the fault leaves, could still be made in {}", made.count, volume.inside);
        }
        let Some(line) = line_with(&made.said, &["No space left"]) else {
            bail!("making a file failed, but not for want of inodes: {}", made.said);
        };
        let room = statvfs(&volume.top()).with_context(|| format!("looking at {}", volume.dir.display()))?;
        let room = room.blocks_available() * room.fragment_size();
        Ok(format!("{} files could be made, then: {line}; {room} bytes are free", made.count))
    }

    /// Verifies the effect again before healing. Somebody in the container may have removed files, so that others can be made.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some((volume, _)) = &self.done else { bail!("the fault was not injected") };
        let made = self.make_files(target, volume)?;
        if made.count > self.free {
            let instead =
                format!("{} files, more than the fault leaves, could be made in {}", made.count, volume.inside);
            return Ok(Lasted::lost(Keeper::Container, instead));
        }
        Ok(match line_with(&made.said, &["No space left"]) {
            Some(line) => Lasted::until_now(format!("{} files could be made, then: {line}", made.count)),
            None => Lasted::not_seen(format!("making a file failed, but not for want of inodes: {}", made.said)),
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match &self.done {
            Some((_, undo)) => target.lab.guard().undo(undo.clone()),
            None => Ok(()),
        }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some((volume, _)) = &self.done else { bail!("the fault was not injected") };
        if let Some(outage) = target.container.outage() {
            let free = statvfs(&volume.top())?.files_free();
            return Ok(format!("{outage}; {} has room for {free} files", volume.inside));
        }
        let made = self.make_files(target, volume)?;
        if made.count < self.free + EXCESS {
            bail!("still only {} files could be made in {}: {}", made.count, volume.inside, made.said);
        }
        Ok(format!("{} files were made in {}", made.count, volume.inside))
    }
}

/// Makes empty files below `top` until only `free` more can be made.
fn take_inodes(top: &Path, free: u64) -> anyhow::Result<()> {
    let path = top.join(FILLER);
    let context = || format!("making files in {}", path.display());
    fs::create_dir(&path).with_context(context)?;
    // By the folder itself: the container may put a link in the place of its name.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(&path, flags, Mode::empty()).with_context(context)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut made = 0_u64;
    loop {
        let left = fstatvfs(&folder).with_context(context)?.files_free();
        if left <= free {
            return Ok(());
        }
        if made + left - free > FILLER_MAX {
            return Err(usage(format!(
                "disk.inodes: the volume has room for {left} more files, and the fault makes {FILLER_MAX} at most: choose a smaller volume"
            )));
        }
        for _ in free..left {
            match openat(&folder, made.to_string().as_str(), flags, Mode::S_IRUSR) {
                Ok(_) => made += 1,
                Err(Errno::ENOSPC) => return Ok(()),
                Err(error) => return Err(error).with_context(context),
            }
        }
    }
}
