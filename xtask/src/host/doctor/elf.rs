//! Test for programs without a dynamic loader: one that runs in an empty container must not need any.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The program headers lie behind the ELF header, near the start of the file.
const HEAD_BYTES: u64 = 8192;
/// A program header of this type names the loader (ELF specification, PT_INTERP).
const PT_INTERP: u64 = 3;

/// Tells whether the file is an ELF program that runs without a loader or a library.
///
/// # Errors
/// When the file cannot be read. Anything but ELF is simply not static.
pub fn is_static(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(is_static_image(&head).unwrap_or(false))
}

/// `None` where the bytes end too early or are no ELF file.
fn is_static_image(head: &[u8]) -> Option<bool> {
    let ident = head.strip_prefix(b"\x7fELF")?;
    let is_64_bit = *ident.first()? == 2;
    let is_little_endian = *ident.get(1)? == 1;
    let number = |offset: usize, length: usize| {
        let bytes = head.get(offset..offset.checked_add(length)?)?;
        let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if is_little_endian { bytes.iter().rev().fold(0, append) } else { bytes.iter().fold(0, append) })
    };
    // Offsets of e_phoff, e_phentsize and e_phnum.
    let (table, entry_size, count) = if is_64_bit {
        (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?)
    } else {
        (number(0x1c, 4)?, number(0x2a, 2)?, number(0x2c, 2)?)
    };
    for index in 0..count {
        let offset = table.checked_add(index.checked_mul(entry_size)?)?;
        if number(usize::try_from(offset).ok()?, 4)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian head with program headers of these types.
    fn image(types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = u8::try_from(types.len()).unwrap();
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_loader_makes_a_program_dynamic() {
        assert_eq!(is_static_image(&image(&[1, 1, 2])), Some(true));
        assert_eq!(is_static_image(&image(&[6, 3, 1])), Some(false));
    }

    #[test]
    fn what_is_no_whole_elf_file_is_not_static() {
        assert_eq!(is_static_image(b"#!/bin/sh\n"), None);
        assert_eq!(is_static_image(b""), None);
        let whole = image(&[1, 1]);
        assert_eq!(is_static_image(&whole[..100]), None);
    }

    #[test]
    fn this_test_itself_is_dynamic_or_static_as_it_was_built() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(is_static(&program).unwrap(), cfg!(target_feature = "crt-static"));
    }
}
