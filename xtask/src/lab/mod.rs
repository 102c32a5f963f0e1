//! Lab: a set of containers and their network, created for one case and then destroyed. Knows LXC, images and the guard; nothing of
//! scenarios, checks or reports.

mod capture_lock;
mod card;
mod config;
mod confinement;
mod container;
mod copy;
mod diagnosis;
mod ending;
mod exec;
mod findings;
mod layers;
mod live;
mod live_logs;
pub mod log_folder;
mod logs;
mod machine;
mod network;
mod picture;
mod power;
mod probe_answer;
mod readiness;
mod ssh;
mod standstill;
mod unit;
mod up;

pub use config::CONSOLE_BYTES_MAX;
pub use confinement::isolation_problems;
pub use container::{Container, Outage};
pub use copy::{Existing, Inside};
pub use diagnosis::{Asked, NotReady};
pub use ending::MachineEnd;
pub use exec::{ExecError, ExecOutput, ExecRequest};
pub use findings::{Finding, FindingKind};
pub use layers::{DamagedLayer, Missing};
pub use live::{LiveLab, LiveMachine, MachineState, Used};
pub use live_logs::{JournalEntry, LiveLogs, LogPiece};
pub use log_folder::ATTACH_LOG_BYTES_MAX;
pub use logs::{CollectedLog, LOG_BYTES_MAX, LOG_FILES_BYTES_MAX, LOG_FILES_MAX};
pub use machine::Machine;
pub use network::{BRIDGE, LXC_LOG_BYTES_MAX};
pub use picture::{Page, PictureError};
pub use probe_answer::{LastAnswer, ProbeAnswer};
pub use readiness::{Circumstances, Nearness, WaitError, is_no_condition};
pub use standstill::Standstill;
pub use up::{Lab, Moment};
