//! Chaos of a case: its fault schedule, from the scenario's request to the last healing, and conditions that must come true during the
//! faults.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e_contract::{ChaosPlaying, ErrorCode, History, Invariant, InvariantKind, Phase, RpcError, Settled};
use serde::Serialize;

use super::blame::{self, Blame};
use super::content::NotWritten;
use super::faults::Faults;
use super::state::{Answer, Chaos, ChaosState, Session};
use crate::fault::{Fate, Nemesis, Played, Stage};
use crate::host::patience;
use crate::lab::WaitError;
use crate::record::{Event, milliseconds};

/// Interval at which the quiet period after the faults checks whether it has to end early.
const QUIET_POLL: Duration = Duration::from_millis(50);

/// Line of `history.jsonl`: beginning or end of an operation, with its time on the run's clock.
#[derive(Serialize)]
struct HistoryLine {
    at_ms: f64,
    /// [`History`] as JSON, with secrets masked.
    #[serde(flatten)]
    history: serde_json::Value,
}

/// Counts the faults that took effect, and those that could not be injected.
fn counted(played: &[Played]) -> Settled {
    let count = |want: fn(&Fate) -> bool| u32::try_from(played.iter().filter(|one| want(&one.fate)).count());
    Settled {
        bit: count(|fate| matches!(fate, Fate::Bit { .. })).unwrap_or(u32::MAX),
        refused: count(|fate| matches!(fate, Fate::Refused { .. })).unwrap_or(u32::MAX),
    }
}

fn bad(message: impl Into<String>) -> RpcError {
    RpcError::new(ErrorCode::InvalidParams, message)
}

impl Chaos {
    fn state(&self) -> MutexGuard<'_, ChaosState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn plays(&self) -> bool {
        self.state().nemesis.is_some()
    }
}

impl Session {
    /// Answers the request `chaos.begin`: starts to play the fault schedule.
    pub(super) fn chaos_begin(&self) -> Answer<ChaosPlaying> {
        let mut state = self.chaos.state();
        if std::mem::replace(&mut state.begun, true) {
            return Err(bad("`chaos.begin` may be sent only once in a case"));
        }
        let Some(spec) = &self.spec.chaos else { return Ok(ChaosPlaying { playing: false, length_ms: 0 }) };
        let schedule = spec.schedule.clone();
        let length_ms = schedule.length_ms;
        self.recorder.record(Event::ChaosBegan {
            case: self.spec.case.clone(),
            profile: schedule.profile.clone(),
            seed: schedule.seed,
            faults: u32::try_from(schedule.faults.len()).unwrap_or(u32::MAX),
            length_ms: schedule.length_ms,
        });
        let stage: Arc<dyn Stage> = Arc::<Faults>::clone(&self.faults);
        let clock = Arc::clone(self.lab.clock());
        let nemesis = Nemesis::begin(schedule, spec.bound, stage, clock).map_err(|error| self.answer_to(error))?;
        state.nemesis = Some(nemesis);
        Ok(ChaosPlaying { playing: true, length_ms })
    }

    /// Answers the request `settle`: heals all scheduled faults and waits until the machines have recovered.
    pub(super) fn settle(&self) -> Answer<Settled> {
        let begun = Instant::now();
        self.end_nemesis();
        let settled = counted(&self.chaos.state().played);
        if let Some(spec) = self.spec.chaos.as_ref().filter(|_| self.chaos.state().begun) {
            let stop = || self.shall_stop();
            match self.lab.wait_until_recovered(patience::scaled(spec.recovery), &stop) {
                Ok(()) => {}
                Err(error @ WaitError::Deadline { .. }) => {
                    let not_ready = self.lab.diagnose(&error);
                    if not_ready.is_none_or(|not_ready| blame::of_not_ready(&not_ready) == Blame::Host) {
                        return Err(self.answer_to(anyhow::Error::new(error)));
                    }
                    let message = format!("after the last fault was healed: {error}");
                    self.fail_check(&message)?;
                    return Err(RpcError::new(ErrorCode::Deadline, message));
                }
                Err(error) => return Err(self.answer_to(error)),
            }
            let quiet = self.lab.clock().watch();
            while quiet.elapsed() < spec.quiet && !stop() {
                std::thread::sleep(QUIET_POLL.min(spec.quiet.saturating_sub(quiet.elapsed()))); // that is what quiet is
            }
            self.recorder.record(Event::Settled {
                case: self.spec.case.clone(),
                bit: settled.bit,
                refused: settled.refused,
                duration_ms: milliseconds(begun.elapsed()),
            });
        }
        self.chaos.state().settled = true;
        Ok(settled)
    }

    /// Waits until no fault is being injected or healed. To be called while the lab's clock is stopped, so that no further fault begins.
    pub(super) fn wait_until_still(&self) {
        if let Some(nemesis) = &self.chaos.state().nemesis {
            nemesis.wait_until_still();
        }
    }

    /// Ends the schedule that is being played; a second call does nothing.
    pub(super) fn end_nemesis(&self) {
        let nemesis = self.chaos.state().nemesis.take();
        if let Some(nemesis) = nemesis {
            let played = nemesis.settle();
            self.chaos.state().played = played;
        }
    }

    /// Answers the request `invariant`: records a condition that must hold always or at the end, or come true sometimes.
    pub(super) fn invariant(&self, invariant: Invariant) -> Answer<e2e_contract::Done> {
        {
            let mut state = self.chaos.state();
            match invariant.kind {
                InvariantKind::AtEnd if state.begun && !state.settled => {
                    return Err(bad("an invariant that has to hold at the end may be checked only after `settle`"));
                }
                InvariantKind::Sometimes => {
                    let listed = self.spec.sometimes.contains(&invariant.name);
                    if !listed {
                        let message = format!(
                            "scenario.toml does not list the condition {:?} under `sometimes` in [chaos]: \
                             the case would pass even if it never came true",
                            invariant.name
                        );
                        return Err(bad(message));
                    }
                    if invariant.held && !state.came_true.contains(&invariant.name) {
                        state.came_true.push(invariant.name.clone());
                    }
                }
                _ => {}
            }
        }
        let broken = (!invariant.held && invariant.kind != InvariantKind::Sometimes).then(|| {
            let values = if invariant.values.is_empty() { String::new() } else { format!(" [{}]", invariant.values) };
            format!("{}{values} at {}:{}", invariant.name, invariant.file, invariant.line)
        });
        self.recorder.record(Event::Invariant { case: self.spec.case.clone(), invariant });
        broken.map_or(Ok(e2e_contract::Done {}), |message| self.fail_check(&message))
    }

    /// Answers the request `history`: records the beginning or end of an operation.
    pub(super) fn history(&self, history: &History) -> Answer<e2e_contract::Done> {
        let mut state = self.chaos.state();
        match (history.phase, state.open.get(&history.process)) {
            (Phase::Invoke, Some(open)) => {
                return Err(bad(format!(
                    "process {} of the history is still in operation {open}: a process has one operation at a time",
                    history.process
                )));
            }
            (Phase::Invoke, None) => {
                state.open.insert(history.process.clone(), history.operation.clone());
            }
            (_, Some(open)) if *open == history.operation => {
                state.open.remove(&history.process);
            }
            (_, _) => {
                let History { process, operation, .. } = history;
                return Err(bad(format!(
                    "operation {operation} of process {process} ends in the history, but never began"
                )));
            }
        }
        self.write_history(&mut state, history)?;
        Ok(e2e_contract::Done {})
    }

    fn write_history(&self, state: &mut ChaosState, history: &History) -> Answer<()> {
        let at_ms = milliseconds(self.recorder.elapsed());
        let line = serde_json::to_value(history).map(|history| self.recorder.masks().value(&history));
        let line = line.and_then(|history| serde_json::to_vec(&HistoryLine { at_ms, history }));
        let mut line = line.map_err(|error| self.answer_to(anyhow::Error::new(error)))?;
        line.push(b'\n');
        let spec = &self.spec;
        let mut write = || -> anyhow::Result<()> {
            let file = match &mut state.history {
                Some(file) => file,
                none => none.insert(spec.dir.file(&spec.history_in_run)?),
            };
            Ok(std::io::Write::write_all(file, &line)?)
        };
        write().map_err(|error| self.answer_to(NotWritten::Failed(error)))
    }

    /// Ends the open operations of the history with an unknown outcome.
    pub(super) fn end_history(&self) {
        let mut state = self.chaos.state();
        for (process, operation) in std::mem::take(&mut state.open) {
            let value = "the scenario ended before the operation was answered".into();
            let history = History { process, operation, phase: Phase::Unknown, value };
            let _ = self.write_history(&mut state, &history); // a line less in the history; the verdict stands
        }
    }

    /// Returns what the scenario failed to do about its fault schedule, if anything, and the results of the faults, if there was a
    /// schedule.
    pub(super) fn judge_chaos(&self) -> (Option<String>, Option<Vec<Played>>) {
        let Some(spec) = &self.spec.chaos else { return (None, None) };
        let state = self.chaos.state();
        let never: Vec<&str> =
            spec.sometimes.iter().filter(|name| !state.came_true.contains(name)).map(String::as_str).collect();
        let settled = counted(&state.played);
        let owed = if !state.begun {
            Some(
                "scenario.toml says that the scenario tolerates faults, but the scenario never started them with `lab.chaos`"
                    .to_owned(),
            )
        } else if !state.settled {
            Some("the scenario ended before its faults were healed: it got no answer to `settle`".to_owned())
        } else if settled.bit == 0 && !spec.schedule.faults.is_empty() {
            let refused = state.played.iter().find_map(|one| match &one.fate {
                Fate::Refused { reason, .. } => Some(reason.as_str()),
                _ => None,
            });
            let why = refused.map_or_else(|| "the scenario ended before the first fault".to_owned(), str::to_owned);
            Some(format!("none of the {} faults of its schedule took effect: {why}", spec.schedule.faults.len()))
        } else if never.is_empty() {
            None
        } else {
            Some(format!(
                "conditions under `sometimes` that never came true while faults were played: {}",
                never.join("; ")
            ))
        };
        (owed, Some(state.played.clone()))
    }
}
