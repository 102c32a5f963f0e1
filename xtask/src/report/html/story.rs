//! Events of one attempt at a case, sorted by kind. Names ending in `_ms` are milliseconds since the run's start.

use e2e_contract::{Check, Defect, Fault, Invariant, Level, Likeness, Metric, Picture};

use crate::record::{AttemptEvents, Event, Outcome, Stamped};

/// Events of one attempt, sorted by kind; each list is in the order of time.
#[derive(Debug, Default)]
pub struct Story {
    pub begun_ms: f64,
    pub ended_ms: f64,
    /// Outcome of the attempt; `None` if the run was killed during the attempt.
    pub outcome: Option<Outcome>,
    /// Last lines of the attempt's logs, if it failed.
    pub last_words: Vec<String>,
    /// Phases of the lab: `lab starts`, `ready`, `scenario`, `lab goes`.
    pub phases: Vec<Span>,
    pub steps: Vec<Span>,
    /// Repetitions of measured operations, each a span.
    pub operations: Vec<Span>,
    pub commands: Vec<Command>,
    /// Checks with their times in milliseconds since the run's start.
    pub checks: Vec<(f64, Check)>,
    pub faults: Vec<Broken>,
    /// Faults of the schedule that were not applicable.
    pub refused: Vec<Refused>,
    /// Invariants with their times in milliseconds since the run's start.
    pub invariants: Vec<(f64, Invariant)>,
    /// Findings with their times in milliseconds since the run's start.
    pub findings: Vec<(f64, Finding)>,
    /// Known defects with their times in milliseconds since the run's start.
    pub defects: Vec<(f64, Defect)>,
    /// Messages of the scenario: time in milliseconds since the run's start, level, text.
    pub notes: Vec<(f64, Level, String)>,
    /// Pictures with their times in milliseconds since the run's start.
    pub pictures: Vec<(f64, Shot)>,
    /// Comparisons of pictures with expected ones: time in milliseconds since the run's start, name, result.
    pub likenesses: Vec<(f64, String, Likeness)>,
    /// Metrics with their times in milliseconds since the run's start.
    pub metrics: Vec<(f64, Metric)>,
    /// Files that the scenario kept: path below the run's folder, and size in bytes.
    pub artifacts: Vec<(String, u64)>,
    /// Time in milliseconds since the run's start, reason and place at which the scenario gave up.
    pub aborted: Option<(f64, String, Option<String>)>,
    /// Begin of the schedule of faults, in milliseconds since the run's start.
    pub chaos_began_ms: Option<f64>,
    /// Start and end, in milliseconds since the run's start, of settling: the time after the schedule in which the system has to recover.
    pub settled: Option<(f64, f64)>,
    /// Commands that open a shell in the machines of a kept lab.
    pub enter: Vec<String>,
}

/// Named interval of time: a phase, a step or an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub name: String,
    pub begun_ms: f64,
    pub ended_ms: f64,
    /// Nesting depth of a step, or number of an operation's repetition.
    pub number: u32,
    /// False for an interval that failed or did not end.
    pub passed: bool,
}

/// Program that the scenario ran in a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub begun_ms: f64,
    pub ended_ms: f64,
    pub container: String,
    /// Command line, shortened.
    pub text: String,
    /// Exit status of the program, or 128 + the number of the signal that killed it.
    pub status: i32,
    /// True if the program was killed at its deadline.
    pub timed_out: bool,
    /// Place in the scenario that started the program.
    pub location: Option<String>,
}

/// Fault that took effect, with the times of its phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// Number of the fault in the case.
    pub fault: u64,
    /// Number of the fault in the schedule; `None` for a fault that the scenario injected by itself.
    pub scheduled: Option<u32>,
    /// Name of the faulted container in the lab.
    pub container: String,
    pub description: Fault,
    /// Time at which the fault was requested, in milliseconds since the run's start.
    pub asked_ms: f64,
    /// Time at which the fault's effect was verified, in milliseconds since the run's start.
    pub bit_ms: f64,
    /// Time at which the recovery was verified, in milliseconds since the run's start; `None` if it never was.
    pub healed_ms: Option<f64>,
    /// Evidence that the fault took effect.
    pub evidence: String,
    /// Evidence of the recovery, with the result of verifying the effect again before healing.
    pub healed: Option<String>,
}

/// Fault of the schedule that was not applicable.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub at_ms: f64,
    /// Number of the fault in the schedule.
    pub scheduled: u32,
    /// Name in the lab of the container that the fault was planned for.
    pub container: String,
    pub description: Fault,
    pub reason: String,
}

/// Anomaly of a lab at the end of a case, such as an OOM kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Kind of the anomaly, such as `oom_kill`.
    pub kind: String,
    /// Container of the anomaly; `None` if the kernel does not name it.
    pub container: Option<String>,
    /// Process or unit that the finding is about.
    pub about: String,
    pub detail: String,
    /// True if the scenario declared the finding as expected.
    pub expected: bool,
}

/// Picture of a web page that the scenario asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    pub name: String,
    /// Address of the web page that the picture shows.
    pub url: String,
    pub picture: Picture,
}

impl Broken {
    /// Tells whether the fault was active at a moment, given in milliseconds since the run's start.
    pub fn is_on(&self, at_ms: f64) -> bool {
        self.asked_ms <= at_ms && self.healed_ms.is_none_or(|healed| at_ms <= healed)
    }
}

impl Story {
    /// Sorts the events of an attempt. If its end was not recorded, the attempt ends with its last event.
    pub fn of(attempt: &AttemptEvents) -> Self {
        let mut writer = Writer::new(attempt.begun_ms);
        attempt.events().iter().for_each(|stamped| writer.write(stamped));
        writer.end(attempt.ended_ms)
    }
}

/// Builder of a [`Story`], which takes the events one by one.
struct Writer {
    story: Story,
    /// Indices in `story.steps` of the steps that have not ended.
    open_steps: Vec<usize>,
    phase: (&'static str, f64),
}

impl Writer {
    fn new(at_ms: f64) -> Self {
        let story = Story { begun_ms: at_ms, ..Story::default() };
        Self { story, open_steps: Vec::new(), phase: ("lab starts", at_ms) }
    }

    fn write(&mut self, stamped: &Stamped) {
        let (story, at_ms) = (&mut self.story, stamped.at_ms);
        match stamped.event.clone() {
            Event::LabReady { .. } => self.turn("ready", at_ms),
            Event::ScenarioStarted { .. } => self.turn("scenario", at_ms),
            Event::LabDown { duration_ms, .. } => {
                self.turn("lab goes", at_ms - duration_ms);
                self.turn("end", at_ms);
            }
            Event::StepStarted { name, depth, .. } => {
                self.open_steps.push(story.steps.len());
                story.steps.push(Span { name, begun_ms: at_ms, ended_ms: at_ms, number: depth, passed: false });
            }
            Event::StepEnded { name, depth, passed, .. } => {
                let is_it = |place: &usize| story.steps[*place].name == name && story.steps[*place].number == depth;
                if let Some(open) = self.open_steps.iter().rposition(is_it) {
                    let step = &mut story.steps[self.open_steps.remove(open)];
                    (step.ended_ms, step.passed) = (at_ms, passed);
                }
            }
            Event::Operation { operation, repetition, duration_ms, succeeded, .. } => story.operations.push(Span {
                name: operation,
                begun_ms: at_ms - duration_ms,
                ended_ms: at_ms,
                number: repetition,
                passed: succeeded,
            }),
            Event::Exec { container, command, status, duration_ms, timed_out, location, .. } => {
                story.commands.push(Command {
                    begun_ms: at_ms - duration_ms,
                    ended_ms: at_ms,
                    container,
                    text: command,
                    status,
                    timed_out,
                    location,
                });
            }
            Event::Check { check, .. } => story.checks.push((at_ms, check)),
            Event::FaultInjected(seen) => story.faults.push(Broken {
                fault: seen.fault,
                scheduled: seen.scheduled,
                container: seen.container,
                description: seen.description,
                asked_ms: at_ms - seen.duration_ms,
                bit_ms: at_ms,
                healed_ms: None,
                evidence: seen.evidence,
                healed: None,
            }),
            Event::FaultHealed(seen) => {
                if let Some(broken) = story.faults.iter_mut().find(|broken| broken.fault == seen.fault) {
                    (broken.healed_ms, broken.healed) = (Some(at_ms), Some(seen.told()));
                }
            }
            Event::FaultRefused { scheduled, container, description, reason, .. } => {
                story.refused.push(Refused { at_ms, scheduled, container, description, reason });
            }
            Event::ChaosBegan { .. } => story.chaos_began_ms = Some(at_ms),
            Event::Settled { duration_ms, .. } => story.settled = Some((at_ms - duration_ms, at_ms)),
            Event::Invariant { invariant, .. } => story.invariants.push((at_ms, invariant)),
            Event::Finding { kind, container, about, detail, expected, .. } => {
                story.findings.push((at_ms, Finding { kind, container, about, detail, expected }));
            }
            Event::MachineRebooted { container, reboots, expected, .. } => {
                let (kind, detail) = ("rebooted".to_owned(), format!("by itself; reboots in this case: {reboots}"));
                let about = container.clone();
                story.findings.push((at_ms, Finding { kind, container: Some(container), about, detail, expected }));
            }
            Event::MachineEnded { container, expected, detail, .. } => {
                let (kind, about) = ("machine_ended".to_owned(), container.clone());
                story.findings.push((at_ms, Finding { kind, container: Some(container), about, detail, expected }));
            }
            Event::Defect { defect, .. } => story.defects.push((at_ms, defect)),
            Event::Log { level, message, .. } => story.notes.push((at_ms, level, message)),
            Event::Aborted { message, location, .. } => story.aborted = Some((at_ms, message, location)),
            Event::Artifact { path, size_bytes, .. } => story.artifacts.push((path, size_bytes)),
            Event::Screenshot { name, url, picture, .. } => story.pictures.push((at_ms, Shot { name, url, picture })),
            Event::ScreenshotCompared { name, likeness, .. } => story.likenesses.push((at_ms, name, likeness)),
            Event::Metric { metric, .. } => story.metrics.push((at_ms, metric)),
            Event::Kept { enter, .. } => story.enter = enter,
            Event::CaseEnded { outcome, last_words, .. } => {
                (story.outcome, story.last_words) = (Some(outcome), last_words);
            }
            _ => {}
        }
    }

    /// Ends the current phase of the lab, and begins the phase `name`.
    fn turn(&mut self, name: &'static str, at_ms: f64) {
        let (before, begun_ms) = std::mem::replace(&mut self.phase, (name, at_ms));
        if at_ms > begun_ms && before != "end" {
            let span = Span { name: before.to_owned(), begun_ms, ended_ms: at_ms, number: 0, passed: true };
            self.story.phases.push(span);
        }
    }

    fn end(mut self, at_ms: f64) -> Story {
        self.turn("end", at_ms);
        for place in std::mem::take(&mut self.open_steps) {
            self.story.steps[place].ended_ms = at_ms;
        }
        self.story.ended_ms = at_ms;
        self.story
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RunEvents;

    fn events(lines: &[&str]) -> RunEvents {
        let event =
            |line: &&str| serde_json::from_str::<Stamped>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        lines.iter().map(event).collect()
    }

    fn story(events: &RunEvents, folder: &str) -> Story {
        Story::of(events.in_folder(folder).unwrap())
    }

    #[test]
    fn attempts_are_told_apart_and_steps_end_where_they_should() {
        let events = events(&[
            r#"{"at_ms":1,"event":"case_started","case":"a/b:c","attempt":1}"#,
            r#"{"at_ms":5,"event":"lab_ready","case":"a/b:c","after_ms":4}"#,
            r#"{"at_ms":6,"event":"scenario_started","case":"a/b:c","pid":1,"user":"u"}"#,
            r#"{"at_ms":7,"event":"step_started","case":"a/b:c","name":"outer","depth":0}"#,
            r#"{"at_ms":8,"event":"step_started","case":"a/b:c","name":"inner","depth":1}"#,
            r#"{"at_ms":9,"event":"step_ended","case":"a/b:c","name":"inner","depth":1,"passed":true,"duration_ms":1}"#,
            r#"{"at_ms":9,"event":"exec","case":"other","container":"x","command":"c","status":0,"duration_ms":1,"timed_out":false}"#,
            r#"{"at_ms":12,"event":"lab_down","case":"a/b:c","duration_ms":2}"#,
            r#"{"at_ms":13,"event":"case_ended","case":"a/b:c","attempt":1,"outcome":{"outcome":"passed"},"duration_ms":12,"last_words":[],"folder":"a/b"}"#,
            r#"{"at_ms":14,"event":"case_started","case":"a/b:c","attempt":2}"#,
            r#"{"at_ms":15,"event":"case_ended","case":"a/b:c","attempt":2,"outcome":{"outcome":"interrupted"},"duration_ms":1,"last_words":["x"],"folder":"a/b/attempt-2"}"#,
        ]);
        assert_eq!(events.attempts().len(), 2);
        let first = story(&events, "a/b");
        let shown = |spans: &[Span]| -> Vec<String> {
            spans.iter().map(|it| format!("{} {}-{} {}", it.name, it.begun_ms, it.ended_ms, it.passed)).collect()
        };
        assert_eq!(shown(&first.steps), ["outer 7-13 false", "inner 8-9 true"]);
        let phases = ["lab starts 1-5 true", "ready 5-6 true", "scenario 6-10 true", "lab goes 10-12 true"];
        assert_eq!(shown(&first.phases), phases);
        assert!(first.commands.is_empty(), "another case's");
        assert_eq!(story(&events, "a/b/attempt-2").outcome, Some(Outcome::Interrupted));
    }

    #[test]
    fn a_fault_is_on_from_its_request_until_it_is_seen_to_be_gone() {
        let fault = |event: &str, at: u32| {
            format!(
                r#"{{"at_ms":{at},"event":"{event}","case":"c","fault":1,"container":"db","description":{{"name":"node.kill"}},"evidence":"seen","duration_ms":10}}"#
            )
        };
        let (injected, healed) = (fault("fault_injected", 100), fault("fault_healed", 200));
        let begin = r#"{"at_ms":1,"event":"case_started","case":"c","attempt":1}"#;
        let end = r#"{"at_ms":300,"event":"case_ended","case":"c","attempt":1,"outcome":{"outcome":"passed"},"duration_ms":1,"last_words":[],"folder":"f"}"#;
        let whole = story(&events(&[begin, &injected, &healed, end]), "f");
        let on = |at: f64| whole.faults[0].is_on(at);
        assert_eq!([89.0, 90.0, 150.0, 200.0, 201.0].map(on), [false, true, true, true, false]);
        let never = story(&events(&[begin, &injected, end]), "f");
        assert!(never.faults[0].is_on(250.0));
        let killed = events(&[begin, &injected]);
        let killed = Story::of(&killed.attempts()[0]);
        assert_eq!((killed.ended_ms, &killed.outcome), (100.0, &None));
    }
}
