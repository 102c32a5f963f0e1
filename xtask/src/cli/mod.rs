//! The command line: one file a verb, each with its `Args` and a `run` that returns the exit code.
//! Parsing, printing and calling; the work is done elsewhere.

mod again;
mod baseline;
mod baseline_update;
mod build_layer;
mod bundle;
mod clean;
mod command_line;
mod doctor;
mod e2e;
mod fault;
mod guard;
mod image;
mod judge_check;
mod live;
mod live_logs;
mod log_since;
mod logs;
mod look;
mod netqueue;
mod new;
mod plan_view;
mod report;
mod reports;
mod runs;
mod setup;
mod shrink;
mod sudo;
mod test;

pub use command_line::{Cli, Context, Format};
