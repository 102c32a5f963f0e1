//! The machine: the only module that starts processes, mounts, makes system calls or edits cgroups.
//! Knows nothing of templates, scenarios or runs.

pub mod ballast;
pub mod cargo;
pub mod cgroup;
pub mod chromium;
pub mod dns;
pub mod doctor;
pub mod ext4;
pub mod flood;
pub mod foreign_call;
pub mod git;
pub mod hardware;
pub mod inventory;
pub mod invoker;
pub mod iptables;
pub mod kmsg;
pub mod load;
pub mod lxc;
pub mod memory;
pub mod mount;
pub mod mountns;
pub mod netns;
pub mod netqueue;
pub mod nft;
pub mod packages;
pub mod process;
pub mod rooted;
pub mod setup;
pub mod shell;
pub mod strace;
pub mod tc;
pub mod undo;
pub mod userns;
pub mod volley;
pub mod volume_disks;
