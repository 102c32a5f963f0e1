//! Isolation of containers: LXC, users' ids, AppArmor, seccomp.

pub mod apparmor;
pub mod idmap;
pub mod ids;
pub mod lxc;
pub mod userns;
