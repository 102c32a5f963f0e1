//! Fills a file system with a file whose content does not matter.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;

/// Smallest growth of the file, in bytes, that has to fail before the file system counts as full.
const PIECE_BYTES_MIN: u64 = 4096;

/// Makes a file that takes all the room of its file system except `free_bytes`. Fails where the file exists already.
pub fn fill(path: &Path, free_bytes: u64) -> anyhow::Result<()> {
    let context = || format!("filling the file system of {}", path.display());
    let mut file = File::create_new(path).with_context(context)?;
    let mut size = 0_u64;
    loop {
        let state = fstatvfs(&file).with_context(context)?;
        let room = (state.blocks_free() * state.fragment_size()).saturating_sub(free_bytes);
        if room < PIECE_BYTES_MIN || !grow(&file, &mut size, room).with_context(context)? {
            break;
        }
    }
    if free_bytes == 0 {
        // What the file system had kept back for its own tables.
        while file.write_all(&[0; PIECE_BYTES_MIN as usize]).is_ok() {}
    }
    Ok(())
}

/// Grows the file of `size` bytes by as many of `room` bytes as the file system grants, in ever smaller pieces; returns true if the file
/// grew.
fn grow(file: &File, size: &mut u64, room: u64) -> nix::Result<bool> {
    let mut piece = room;
    while piece >= PIECE_BYTES_MIN {
        let (offset, length) = (size.cast_signed(), piece.cast_signed());
        match fallocate(file.as_fd(), FallocateFlags::empty(), offset, length) {
            Ok(()) => {
                *size += piece;
                return Ok(true);
            }
            Err(Errno::ENOSPC) => piece /= 2,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
