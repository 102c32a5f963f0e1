//! mancer-e2e: end-to-end tests with several machines, real services and real failures, in LXC containers on one host.
//!
//! The modules are listed in reading order in ARCHITECTURE.md, which says what each may use; `tests/tidy.rs` enforces it.

pub mod baseline;
pub mod bundle;
pub mod cli;
pub mod dist;
pub mod error;
pub mod fault;
pub mod guard;
pub mod host;
pub mod image;
pub mod input;
pub mod lab;
pub mod manifest;
pub mod perf;
pub mod plan;
pub mod program;
pub mod rates;
pub mod record;
pub mod report;
pub mod run;
pub mod selftest;
pub mod session;
