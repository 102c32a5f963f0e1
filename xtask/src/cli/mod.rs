//! The command line: one file a verb, each with its `Args` and a `run` that returns the exit code.
//! Parsing, printing and calling; the work is done elsewhere.

mod again;
mod baseline;
mod baseline_update;
mod build_layer;
mod bundle;
mod choice;
mod clean;
mod command_line;
mod cp;
mod dist;
mod doctor;
mod e2e;
mod enter;
mod fault;
mod fault_holder;
mod fault_live;
mod fault_words;
mod forward;
mod guard;
mod hold_prompt;
mod image;
mod init;
mod judge_check;
mod live_logs;
mod log_since;
mod logs;
mod look;
mod netqueue;
mod new;
mod pcap;
mod plan_view;
mod programs;
mod ps;
mod report;
mod reports;
mod runs;
mod setup;
mod shrink;
mod sudo;
mod test;
mod up;

pub use command_line::{Cli, Context, Format};
