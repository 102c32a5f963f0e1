//! The machine: starts processes, mounts, edits cgroups, composes text for other programs. Kernel operations that only faults need are in
//! `fault`. Knows nothing of templates, scenarios or runs.

pub mod cgroup;
pub mod container;
pub mod crash_point;
pub mod disk;
pub mod doctor;
pub mod exec;
pub mod inventory;
pub mod invoker;
pub mod machine;
pub mod network;
pub mod patience;
pub mod seccomp;
pub mod syntax;
pub mod tools;
pub mod undo;
