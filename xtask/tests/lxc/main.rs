//! The whole engine on real containers. Needs root; each test takes the host for itself and gives it back as it was.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests: clippy takes their helpers for ordinary code")]

mod again;
mod alone;
mod as_user;
mod blame;
mod boundaries;
mod bounds;
mod browser;
mod budgets;
mod chaos;
mod common;
mod coverage;
mod crash_points;
mod crashes;
mod defect_probes;
mod defects;
mod dist;
mod escape;
mod explained;
mod faults;
mod functions;
mod guides;
mod init;
mod isolation;
mod languages;
mod lasting;
mod live;
mod logs;
mod mutants;
mod new;
mod performance;
mod pictures;
mod project;
mod pytest;
mod readiness;
mod records;
mod recovery;
mod replaced;
mod report;
mod runs;
mod secrets;
mod shards;
mod slots;
mod story;
mod tenants;
