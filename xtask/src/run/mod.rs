//! Execution of a whole run: images, labs, sessions, retries; a case from the start of its lab to its record. Knows every module below it;
//! nothing of the command line and of reports.

mod breakpoint;
mod build;
mod case;
mod chaos;
mod clients;
mod coverage;
mod duet;
mod engine;
mod fault_trial;
mod interrupt;
mod kept_lab;
mod lab_check;
mod lockstep;
mod machines;
mod mutant_verdict;
mod mutants;
mod not_ready;
mod options;
mod secrets;
mod shrink;
mod slot_lease;
mod thin_layer;

pub use breakpoint::{Breakpoints, HeldCase, Machines, Watcher};
pub use build::{Binaries, ScenarioBinaries};
pub use chaos::Schedules;
pub use coverage::CoveredPackage;
pub use engine::{Executed, execute, layer_event};
pub use fault_trial::{FaultTrial, FaultTrials, TrialOutcome};
pub use interrupt::Interrupt;
pub use kept_lab::{KeptLab, KeptLabSpec, create_kept_lab};
pub use lab_check::check_lab;
pub use mutants::{MutantStage, MutantSuite, MutantWatch, plan_mutants, run_mutants, sample};
pub use options::{Comparing, DuetOptions, Monitoring, Options, RunPart, Samples};
pub use secrets::Secrets;
pub use shrink::{Failure, SHRUNK_FILE, Shrunk, Tries, shrink};
