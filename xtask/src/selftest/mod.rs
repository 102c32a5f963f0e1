//! Tests of this repository: their stages, how many run at once, and how long each takes. Does not know what a test does.

pub mod guest;
mod libtest;
mod lxc;
mod stages;
mod times;

pub use libtest::TestProgram;
pub use lxc::{CRASH_SLOTS, Leftovers, LxcTests, PAIR_SLOTS, Run, Show, TEST_SLOTS};
pub use stages::{Repository, Stage, Summary, Verbs};
