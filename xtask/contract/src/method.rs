//! Methods that a scenario may call, with their parameters and answers.
//!
//! Durations are in milliseconds and their names say so; every method that waits has a deadline.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::range::deadline_ms;
use crate::{ErrorCode, Fault, Stream};

/// A request's parameters, with the method's name and the shape of its answer.
pub trait Method: Serialize + DeserializeOwned {
    /// Name of the method in a request.
    const NAME: &'static str;
    /// Result of the method.
    type Answer: Serialize + DeserializeOwned;
    /// Errors of this method, beside those of any request: [`REFUSALS_OF_ALL`].
    const REFUSALS: &'static [(ErrorCode, &'static str)];
}

/// Errors of any request.
pub const REFUSALS_OF_ALL: [(ErrorCode, &str); 7] = [
    (ErrorCode::Parse, "the line is no request, or longer than a line may be: `id` is null, and the session is over"),
    (ErrorCode::InvalidRequest, "the request came before `hello`"),
    (ErrorCode::MethodNotFound, "there is no such method"),
    (ErrorCode::InvalidParams, "the parameters do not fit: one is missing, unknown or of another type"),
    (ErrorCode::Infrastructure, "the engine or the machine failed: the case has no verdict, and is tried again once"),
    (ErrorCode::MachineEnded, "a container has ended by itself: the case has failed, unless the scenario expects it"),
    (ErrorCode::Interrupted, "the run was interrupted, the case was given up, or the session is over"),
];

macro_rules! method {
    ($params:ty, $name:literal, $answer:ty $(, $code:ident: $reason:literal)*) => {
        impl Method for $params {
            const NAME: &'static str = $name;
            type Answer = $answer;
            const REFUSALS: &'static [(ErrorCode, &'static str)] = &[$((ErrorCode::$code, $reason)),*];
        }
    };
}

/// Answer without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {}

/// `hello`: the first request of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Version of the protocol that the scenario's SDK speaks, [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
}
method!(Hello, "hello", Welcome,
    InvalidRequest: "another version of the protocol: the session is over");

/// Answer to `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Welcome {
    /// Name of the scenario, as `category/name`.
    pub scenario: String,
    /// Name of the case.
    pub case: String,
    /// The case's parameters from `scenario.toml`.
    pub params: Map<String, Value>,
    /// The lab's containers, in the order of `scenario.toml`.
    pub containers: Vec<ContainerInfo>,
    /// The scenario's `fixtures/` folder.
    pub fixtures: PathBuf,
    /// Folder for files that the scenario wants to keep; it belongs to the scenario's user.
    pub artifacts: PathBuf,
    /// File for the stacks of the scenario's threads. A client that makes it also handles SIGUSR1: the thread that gets it writes its
    /// own stack there, as Python's `faulthandler` does. The engine sends this signal to each thread when the scenario's time is over,
    /// before it is killed, and only to a process that handles it. An empty file is removed.
    #[serde(default)]
    pub stack_file: PathBuf,
    /// True if only the scenario's known defects are to be tried: the client then runs the function that tries them, in place of the
    /// scenario, and gives up with `abort` where the scenario names none.
    #[serde(default)]
    pub defects_only: bool,
}

/// Container of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ContainerInfo {
    /// Name in the lab, such as `db`; peers resolve it to the address.
    pub name: String,
    /// Name of the container on the host, such as `mancer-e2e-db`.
    pub host_name: String,
    /// Address of the container in the lab's network.
    pub address: Ipv4Addr,
    /// Name of the template that the container was made from.
    pub template: String,
}

/// `exec`: runs a program in a container and waits for its end. A status other than 0 is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Name of the container in the lab.
    pub container: String,
    /// Program and arguments; they are not passed to a shell.
    pub argv: Vec<String>,
    /// Content of stdin; empty if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stream>,
    /// Variables with their values, added to the container's environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// User inside the container, by name; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the program is killed inside the container, with its children, and the answer says
    /// so.
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
}
method!(Exec, "exec", ExecResult,
    InvalidParams: "there is no such container or user, `argv` is empty, a word has a zero byte, a variable has no name, or the command line is longer than the kernel takes",
    Unavailable: "a fault has taken the container down, or frozen it");

/// Result of an `exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExecResult {
    /// Exit status, or 128 + the number of the signal that ended the program, as a shell gives it.
    pub status: i32,
    /// Content of stdout.
    pub stdout: Stream,
    /// Content of stderr.
    pub stderr: Stream,
    /// Time from the start of the attach to the end of the program.
    pub duration_ms: f64,
    /// True if the deadline passed and the program was killed.
    pub timed_out: bool,
}

/// `put`: writes a file in a container, atomically: the old file or the new one, never a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// Name of the container in the lab.
    pub container: String,
    /// Absolute path in the container; missing folders are made.
    pub path: String,
    /// The content; a [`Stream::File`] is read with the rights of the scenario's user.
    pub content: Stream,
    /// Permission bits as a number: 420 for `rw-r--r--`, which is 644 in base 8.
    pub mode: u32,
    /// Owner of the file, as `user` or `user:group` by name inside the container; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the answer is an error.
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
}
method!(Put, "put", Done,
    InvalidParams: "there is no such container, the path is not absolute, the file cannot be written, or the deadline has passed: the message has what the container said",
    Unavailable: "a fault has taken the container down, or frozen it");

/// `get`: reads a file of a container. A missing file is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Name of the container in the lab.
    pub container: String,
    /// Absolute path of the file in the container.
    pub path: String,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the answer is an error.
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
}
method!(Get, "get", Stream,
    InvalidParams: "there is no such container or file, it cannot be read, or the deadline has passed: the message has what the container said",
    Unavailable: "a fault has taken the container down, or frozen it");

/// `wait`: waits until a condition holds in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Name of the container in the lab.
    pub container: String,
    /// Condition to wait for.
    pub condition: Condition,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the answer is an error with the last observation. A wait ends earlier, with the
    /// reason, when the container has died, and when the condition cannot come true any more (see [`Condition`]).
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
}
method!(Wait, "wait", Waited,
    InvalidParams: "there is no such container, or the condition names nothing: an empty path or command, port 0, a unit's name that systemd refuses",
    Deadline: "the condition did not hold in time, or cannot come true any more: the message has the last observation, or the reason");

/// Result of a `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Waited {
    /// Time until the condition held.
    pub duration_ms: f64,
}

/// Condition of a container that a probe can observe; templates use the same conditions for readiness.
///
/// A wait for a unit ends at once where the boot is done and the unit does not exist, cannot be loaded, is masked, or has failed and
/// nothing will start it again: systemd has no job for it, and no timer, path or socket triggers it. A wait for a file ends at once where
/// a folder of its path is a file. Neither ends while the scenario itself may change the result: while another of its threads runs a
/// program, writes a file or heals a fault, and while a fault is active. Where a background process makes the unit, wait for that process
/// first, or for a command: `systemctl is-active UNIT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Port of the container's address that accepts TCP connections, seen from the lab's network.
    Tcp(u16),
    /// A GET of this path (`:port/path` or `/path`) at the container's address gives a status of 200 to 399.
    Http(String),
    /// Command that exits with 0.
    Exec(Vec<String>),
    /// Path that exists.
    File(String),
    /// Unit of systemd that is active.
    Unit(String),
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp port {port}"),
            Self::Http(path) => write!(f, "http {path}"),
            Self::Exec(argv) => write!(f, "exec {}", argv.join(" ")),
            Self::File(path) => write!(f, "file {path}"),
            Self::Unit(unit) => write!(f, "systemd unit {unit}"),
        }
    }
}

/// `step`: a named stretch of a case begins or ends; steps may nest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name for people, such as "load 20,000 rows".
    pub name: String,
    /// Begin or end of the step.
    pub edge: Edge,
}
method!(Step, "step", Done,
    InvalidParams: "the step ends, but never began");

/// The begin or the end of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The step begins.
    Begin,
    /// The step ends successfully.
    Passed,
    /// The step ends with an error.
    Failed,
}

/// `measure.begin`: one repetition of a measured operation begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MeasureBegin {
    /// The operation's name, unique in its scenario, snake_case: up to 100 lowercase letters, digits and '_', a letter first.
    pub operation: String,
    /// Number of repetitions that the scenario's author planned; 1 for a one-shot operation.
    pub repetitions: u32,
}
method!(MeasureBegin, "measure.begin", Measurement,
    InvalidParams: "the operation's name is not in snake_case");

/// Answer to `measure.begin`, which names the open measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measurement {
    /// Number of the measurement, chosen by the engine.
    pub measurement: u64,
}

/// `measure.end`: the repetition ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MeasureEnd {
    /// Number of the measurement, from `measure.begin`.
    pub measurement: u64,
    /// True if the repetition succeeded; a failed repetition is no sample.
    pub succeeded: bool,
    /// Time from just before the operation to just after it, by the scenario's monotonic clock. It is the sample, and contains none of
    /// the socket's and the engine's own time.
    pub duration_ms: f64,
}
method!(MeasureEnd, "measure.end", Measured,
    InvalidParams: "this measurement is not open");

/// Answer to `measure.end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measured {
    /// True if the scenario has to repeat the operation once more; a run may need fewer or more samples than were planned.
    pub more: bool,
}

/// `metric`: a value that the scenario has measured itself, such as a throughput.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Name of the metric, unique in its scenario, snake_case: up to 100 lowercase letters, digits and '_', a letter first.
    pub name: String,
    /// Value in `unit`, a finite number.
    pub value: f64,
    /// Unit, such as `records/s`.
    pub unit: String,
    /// Direction of improvement.
    pub better: Better,
}
method!(Metric, "metric", Done,
    InvalidParams: "the metric's name is not in snake_case, its value is not finite, or the metric has another unit or direction than before");

/// Direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Lower values are better, as with times and sizes.
    Lower,
    /// Higher values are better, as with throughputs.
    Higher,
}

/// `check`: the result of one condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// True if the condition holds.
    pub passed: bool,
    /// Condition, as the scenario's code has it, such as `rows == 20_000`.
    pub condition: String,
    /// Values that show a person why the condition failed, such as `rows = 19999`.
    pub values: String,
    /// Meaning of the check, in its author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Source file of the check.
    pub file: String,
    /// Line in the source file, from 1.
    pub line: u32,
}
method!(Check, "check", Done);

/// `log`: a line for the run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Level of the message.
    pub level: Level,
    /// Text of the message, of one or more lines.
    pub message: String,
}
method!(Log, "log", Done);

/// Level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Details for the author.
    Debug,
    /// Information for the reader of a run.
    Info,
    /// Possible problem.
    Warning,
    /// Problem.
    Error,
}

/// `abort`: the scenario is about to end because of something it did not expect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// Kind of the end: an error, or a panic or exception.
    pub kind: AbortKind,
    /// The error with its causes, or the message of the panic or exception.
    pub message: String,
    /// Place of the error in the code, `file:line`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}
method!(Abort, "abort", Done);

/// Reason why a scenario gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AbortKind {
    /// An error that the scenario's main function returned.
    Error,
    /// A panic, or an uncaught exception.
    Panic,
}

/// `artifact`: a file of the scenario to keep with the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Name that the file is kept under, without folders.
    pub name: String,
    /// The content; a [`Stream::File`] is read with the rights of the scenario's user.
    pub content: Stream,
}
method!(Artifact, "artifact", Done,
    InvalidParams: "the name is no plain file name (up to 200 bytes of visible characters without `/`, a dot at the start, and blanks at the ends), or the content cannot be read or written as the scenario's user");

/// `fault.inject`: injects a fault. The answer comes when its effect is verified; a fault that cannot be injected on this host, or
/// has no effect, is an error of the infrastructure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FaultInject {
    /// Name in the lab of the container that the fault is injected into.
    pub container: String,
    /// The fault with its parameters.
    pub fault: Fault,
}
method!(FaultInject, "fault.inject", Injected,
    InvalidParams: "there is no such container, or the fault cannot be done with these parameters",
    Unavailable: "a fault has taken the container down, or frozen it, or it reboots by itself again and again");

/// Injected fault, whose effect is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Injected {
    /// Number of the fault, chosen by the engine.
    pub fault: u64,
    /// Observed effect, in words.
    pub evidence: String,
}

/// `fault.heal`: heals a fault. The answer comes when the effect is verified to be gone. Healing twice is fine. Faults that a
/// scenario leaves are healed at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FaultHeal {
    /// Number of the fault, from `fault.inject`.
    pub fault: u64,
}
method!(FaultHeal, "fault.heal", Healed,
    InvalidParams: "there is no such fault",
    Unavailable: "a fault has taken the container down, or frozen it",
    Deadline: "the container was down or frozen, and its probes do not pass again in their time: the case has failed");

/// Healed fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Healed {
    /// Observations in words, which show whether the fault was active until now, and that its effect is gone.
    pub evidence: String,
}

/// `chaos.begin`: begins to inject the faults of this case's schedule. Without `--chaos` there are none, and the answer says
/// so. May be sent once in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChaosBegin {}
method!(ChaosBegin, "chaos.begin", ChaosPlaying,
    InvalidParams: "the chaos has begun before");

/// Answer to `chaos.begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChaosPlaying {
    /// True if the case has a schedule of faults.
    pub playing: bool,
    /// Length of the schedule from now on; 0 without one.
    pub length_ms: u64,
}

/// `settle`: heals all faults, whatever the schedule says, and waits until all probes of all containers have passed again, within
/// the recovery deadline of `scenario.toml`, and its quiet period is over. Without `chaos.begin` before it, or without a schedule,
/// it answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settle {}
method!(Settle, "settle", Settled,
    Deadline: "not all probes passed within the recovery deadline; that is a failed check as well");

/// Result of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settled {
    /// Number of faults that took effect.
    pub bit: u32,
    /// Number of faults that were not applicable.
    pub refused: u32,
}

/// `invariant`: the result of a condition that has to hold always, at the end, or at least once in a run with faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// Kind of the invariant, which tells when the condition has to hold.
    pub kind: InvariantKind,
    /// Name for people, such as "no row is there twice".
    pub name: String,
    /// True if the condition held.
    pub held: bool,
    /// Number of times that the condition was evaluated.
    pub looks: u32,
    /// Number of evaluations that gave no answer.
    pub missed: u32,
    /// Observed values, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub values: String,
    /// Source file of the invariant.
    pub file: String,
    /// Line in the source file, from 1.
    pub line: u32,
}
method!(Invariant, "invariant", Done,
    InvalidParams: "`at_end` before `settle`, or `sometimes` with a name that `scenario.toml` does not list");

/// Kind of an invariant, which tells when its condition has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InvariantKind {
    /// The condition holds at each evaluation, also while faults are active.
    Always,
    /// The condition holds at the end of the case, when all faults are healed and the system is quiet.
    AtEnd,
    /// The condition holds at least once in a run with faults. It is listed in `scenario.toml`, so that a condition that no request
    /// reports counts as missed.
    Sometimes,
}

/// `history`: an operation on the system under test begins or ends. An operation without an end has an unknown result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Name of the client that does the operation; a client does one operation at a time.
    pub process: String,
    /// Name of the operation, such as `transfer`.
    pub operation: String,
    /// Begin or end of the operation.
    pub phase: Phase,
    /// Input of the operation at its start; its result or error at its end.
    #[serde(default)]
    pub value: Value,
}
method!(History, "history", Done,
    InvalidParams: "the client is in the middle of another operation, or this operation never began");

/// Begin or end of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The operation begins.
    Invoke,
    /// The operation succeeded.
    Ok,
    /// The operation failed: it did not take place, and never will.
    Fail,
    /// The operation's result is unknown, because no answer came: it is neither a success nor a failure.
    Unknown,
}

/// `defect`: the outcome of a stretch of the case that is expected to fail, because the product has a known defect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// Name of the defect, listed under `defects` in `scenario.toml`, such as `mancer-0.1.4/df-table`.
    pub defect: String,
    /// Text that the failure must contain.
    pub failing_with: String,
    /// Outcome of the stretch.
    pub outcome: DefectOutcome,
    /// Text of the failure, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Effect that the product promises and the stretch saw on a machine, in words with values, such as `worker has the file: 34 bytes`.
    /// Absent or blank: nothing of it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// Source file of the defect's mark.
    pub file: String,
    /// Line in the source file, from 1.
    pub line: u32,
}
method!(Defect, "defect", Done,
    InvalidParams: "`scenario.toml` does not list the defect under `defects`, or the outcome is not the one that failure and observed effect give");

/// Outcome of a stretch that is expected to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DefectOutcome {
    /// The stretch failed as expected: the defect is still there.
    Known,
    /// The stretch failed in another way, or did not fail and observed nothing of the promised effect: the product may be repaired, or
    /// broken otherwise. The case fails at its end; the scenario goes on.
    Different,
    /// The stretch did not fail, and observed the promised effect on a machine: the case fails until the mark is removed.
    Fixed,
}

impl DefectOutcome {
    /// Returns the outcome that these give: the text that a failure must contain, the failure, and the effect that was observed.
    #[must_use]
    pub fn of(failing_with: &str, failure: Option<&str>, observed: Option<&str>) -> Self {
        match failure {
            Some(failure) if failure.contains(failing_with) => Self::Known,
            None if observed.is_some_and(|effect| !effect.trim().is_empty()) => Self::Fixed,
            Some(_) | None => Self::Different,
        }
    }
}

/// `screenshot`: a picture of a web page of the lab, taken by a browser inside the lab's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Screenshot {
    /// Name of the file without `.png`, without folders.
    pub name: String,
    /// URL of the page, such as `http://app/status`; the names of the lab's containers resolve.
    pub url: String,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the answer is an error.
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
}
method!(Screenshot, "screenshot", Picture,
    InvalidParams: "the name is no plain file name (up to 200 bytes of visible characters without `/`, a dot at the start, and blanks at the ends), the URL is none of this lab's, or the page answers with an error",
    Deadline: "the page was not loaded, or no picture was taken, in time",
    Unavailable: "a fault has taken the container down, or frozen it");

/// Result of a `screenshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// A picture was taken.
    Taken {
        /// Path of the PNG, among the record's files; its owner is the scenario's user.
        path: PathBuf,
        /// Size of the file.
        size_bytes: u64,
    },
    /// No picture was taken, because this host has no browser. The record says so; this does not count as a pass.
    Skipped {
        /// Part that the host lacks, and how to get it.
        reason: String,
    },
}

/// `screenshot.compare`: a picture of a web page of the lab, compared with an expected one. The scenario decides, with a `check`, whether
/// the difference is too large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScreenshotCompare {
    /// Name of the file without `.png`, without folders.
    pub name: String,
    /// URL of the page, such as `http://app/status`; the names of the lab's containers resolve.
    pub url: String,
    /// Deadline, 1 to 86,400,000 ms (a day). Past it, the answer is an error.
    #[serde(deserialize_with = "deadline_ms")]
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400_000)))]
    pub deadline_ms: u64,
    /// Absolute path of the expected picture, a PNG.
    pub expected: PathBuf,
    /// Maximum difference in each color channel, 0 to 255, up to which a pixel counts as equal.
    pub channel_off_max: u8,
}
method!(ScreenshotCompare, "screenshot.compare", Likeness,
    InvalidParams: "as for `screenshot`; or the expected picture is not there, or is no PNG",
    Deadline: "the page was not loaded, or no picture was taken, in time",
    Unavailable: "a fault has taken the container down, or frozen it");

/// Size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PictureSize {
    /// Width in pixels.
    pub width_pixels: u32,
    /// Height in pixels.
    pub height_pixels: u32,
}

/// Result of a `screenshot.compare`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Both pictures have the same size, and were compared.
    Compared {
        /// Path of the new picture, among the record's files.
        path: PathBuf,
        /// Path of a picture that shows the differing pixels in red on a pale copy of the expected one; null where no pixel differs.
        difference: Option<PathBuf>,
        /// Number of pixels that differ.
        pixels_off: u64,
        /// Number of all pixels.
        pixels: u64,
    },
    /// Different sizes, so nothing was compared.
    OtherSize {
        /// Path of the new picture, among the record's files.
        path: PathBuf,
        /// Size of the new picture.
        taken: PictureSize,
        /// Size of the expected picture.
        expected: PictureSize,
    },
    /// No picture was taken, because this host has no browser. The record says so; this does not count as a pass.
    Skipped {
        /// Part that the host lacks, and how to get it.
        reason: String,
    },
}
