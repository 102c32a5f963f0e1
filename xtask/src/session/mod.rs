//! One scenario process: its start as the invoking user, its socket, its requests, and the verdict on its end. Knows labs and the record;
//! nothing of plans, retries or reports.

pub mod blame;
pub mod bounds;
mod chaos;
mod connection;
mod content;
mod ending;
mod evidence;
mod failure;
mod faults;
mod hold;
mod image_diff;
mod last_words;
mod limits;
mod measurements;
mod output;
mod pictures;
mod repetition_plan;
mod requests;
mod scenario;
mod spec;
mod stacks;
mod state;
mod under_way;

pub use ending::{init_status, machine_ended};
pub use output::{OutputFiles, SCENARIO_LOG_BYTES_MAX};
pub use repetition_plan::Repeats;
pub use scenario::run;
pub use spec::Gate;
pub use spec::{Breakpoint, Stopped};
pub use spec::{ChaosSpec, Ended, SessionSpec};
