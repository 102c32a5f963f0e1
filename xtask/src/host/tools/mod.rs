//! Programs of the host that are no part of a lab: installation, sudo, Cargo, Git, Chromium.

pub mod cargo;
pub mod chromium;
pub mod git;
pub mod packages;
pub mod setup;
pub mod sudo;
