//! Files of a project: `e2e.toml`, `containers/*/template.toml`, `scenarios/*/*/scenario.toml`, `scenarios/mutants/*.toml`.
//! Parsed strictly: an unknown key, a wrong type or a name of something that does not exist is an error with file, line and
//! column. Also makes the files of a new scenario or project. Knows nothing of LXC, layers or processes.

#[cfg(test)]
mod bad_values;
mod chaos;
mod defaults;
mod durations;
mod expects;
mod limits;
mod mutant;
mod network;
mod pages;
mod parse;
mod project;
mod range;
#[cfg(test)]
mod reference;
mod scenario;
mod secrets;
mod setting;
mod skeleton;
mod starter;
mod template;

pub use chaos::{Chaos, FaultRule, ParameterRule};
pub use defaults::{Defaults, Placed};
pub use durations::Durations;
pub use expects::{Expected, FINDINGS};
pub use limits::{LimitKind, UsageLimit};
pub use mutant::{BrokenFunction, BrokenPython, Mutant, MutantFate, Notice};
pub use network::{MACHINES_MAX, Network, too_many_machines};
pub use pages::{WebPage, split_url};
pub use parse::{Place, is_name, nearest};
pub use project::{DeclaredCoverage, Project};
pub use range::{CaptureTime, RepeatTime, RunAge, WholeIn, within, word_within};
pub use scenario::{Case, ContainerUse, MUTANTS_FOLDER, Scenario};
pub use secrets::{DeclaredSecrets, SecretShape, secret_name};
pub(crate) use setting::settings;
pub use setting::{
    BaselineMissing, ColorWhen, KeepWhen, MaxFail, MonitoringRate, OneOf, PatienceFactor, PerfGate, ProgressHow,
    Retries, Setting, Settle, SlotNumber, TimeToLive, Timeout,
};
pub use skeleton::{Language, Skeleton};
pub use starter::Starter;
pub use template::{
    FileEntry, FileSource, Init, Limits, Origin, Pip, Probe, RunStep, Ssh, Template, UserEntry, Volume, VolumeKind,
};
