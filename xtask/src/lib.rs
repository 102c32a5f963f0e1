//! mancer-e2e: several machines, real services, real failures, in LXC containers on one host.
//!
//! The modules in reading order; ARCHITECTURE.md says what each may use, and `tests/tidy.rs` holds them to it.

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
