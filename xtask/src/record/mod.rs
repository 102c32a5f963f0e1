//! All that one run writes in its folder: events, results, logs and artifacts, with versions. Every report is made from it. Knows nothing
//! of how a lab or a scenario works.

pub mod command_line;
mod comparison;
mod coverage;
mod defect_mark;
mod defects;
mod event;
mod event_reader;
mod fold;
pub mod human;
pub mod logs;
mod masks;
mod merge;
mod mutants;
mod names;
mod outcome;
mod past_run;
mod patience;
mod performance;
mod plain_text;
mod readable;
mod recorder;
#[cfg(test)]
mod reference;
mod run_dir;
mod run_dir_help;
mod run_events;
mod run_list;
#[cfg(test)]
pub mod synthetic;
mod units;

pub use comparison::{Comparison, Way};
pub use coverage::{
    COVERAGE_FILE, COVERAGE_VERSION, CalledBy, Coverage, CoverageCounts, CoveredFunction, ListedFunctions,
    RecordedCoverage,
};
pub use defect_mark::{mark_failure, mark_outcome, mark_seen};
pub use defects::{
    DEFECTS_FILE, DEFECTS_VERSION, DefectCounts, DefectReport, DefectResult, DefectVerdict, ProductPackage,
};
pub use event::{Event, FaultLasted, FaultObserved, LastedState, Onward, RunSetup, Stamped};
pub use event_reader::EventReader;
#[cfg(test)]
pub use event_reader::work;
pub use fold::Fold;
pub use masks::{MARK, MaskedStream, Masks, is_binary};
pub use merge::Shards;
pub use mutants::{
    EmptiedDraw, MUTANTS_FILE, MUTANTS_VERSION, MutantCounts, MutantReport, MutantResult, MutantVerdict,
};
pub use names::{CaseId, as_file_name, is_file_name, is_harmless_name};
pub use outcome::{
    Attempt, CaseResult, Cause, Counts, FaultCounts, InitStatus, LabIds, Lateness, Outcome, RecordedPart, RunRecord,
    Unfinished, Verdict,
};
pub use past_run::{PastRun, RECORD_FILE, RUNS_FOLDER, expected_durations};
pub use patience::RecordedPatience;
pub use performance::{
    Calibration, Machine, MetricSamples, Operation, PERFORMANCE_VERSION, Performance, Sample, Sampling, Usage,
};
pub use plain_text::{is_visible, plain_text, visible_text};
pub use readable::readable_json;
pub use recorder::Recorder;
pub use run_dir::{KEPT_BYTES_MAX, RunDir};
pub use run_events::{AttemptEvents, RunEvents};
pub use run_list::{RunFolder, RunList, RunState};
pub use units::{milliseconds, seconds};

/// Version of the events and of `run.json`: raised when a reader of the old form would misread the new one.
pub const FORMAT_VERSION: u32 = 1;
