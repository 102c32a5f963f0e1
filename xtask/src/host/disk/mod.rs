//! Mounts, file systems, archives, and folders that bear a mark of their owner.

pub mod archive;
pub mod container_fs;
pub mod ext4;
pub mod marked;
pub mod mount;
pub mod mountns;
pub mod tar_entries;
pub mod volume_disks;
