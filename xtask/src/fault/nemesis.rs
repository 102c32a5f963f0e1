//! Plays a schedule on the run's clock: does each fault when its time has come, takes it back when it is over.
//!
//! Every fault has a thread of its own, so that one that takes long does not delay the others. One that clashes with an
//! earlier one waits until that is gone. What cannot be healed while another fault is there, such as a unit that needs room
//! on a full volume to start, or one on a machine that is down, is healed when that is gone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::injection::NotTakenBack;
use super::reboots::Reboots;
use super::schedule::{Planned, Schedule};
use crate::error::Error;
use crate::host::held_clock::{HeldClock, Stopwatch};
use crate::host::patience::Deadline;
use crate::lab::Outage;

/// How long a fault beside others is done again before it counts as one that does not bite.
const INJECT_DEADLINE: Deadline = Deadline::from_secs(10);

/// How long a fault may wait for its machine to be back before it counts as not healed.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(60);

/// How long somebody who wants to look waits for what is just being done.
const STILL_DEADLINE: Deadline = Deadline::from_secs(60);

/// How often a thread looks whether the clock is still held.
const HELD_POLL: Duration = Duration::from_millis(20);

/// Who does the faults, and tells of them.
pub trait Stage: Send + Sync {
    /// Does a fault; the answer is what it is called from now on, and what was seen of it.
    ///
    /// # Errors
    /// Those of [`super::Injection::inject`].
    fn inject(&self, planned: &Planned) -> anyhow::Result<(u64, String)>;

    /// Takes one back; the answer is what was seen.
    ///
    /// # Errors
    /// Those of [`super::Injection::heal`].
    fn heal(&self, fault: u64) -> anyhow::Result<String>;

    /// A fault took no effect, or is not gone.
    fn failed(&self, planned: &Planned, reason: &str);

    /// A fault could not be done as things stood.
    fn refused(&self, planned: &Planned, reason: &str);
}

/// What became of one fault of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// Its number in the schedule.
    pub number: u32,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// It was seen to bite, and to be gone. Times are since the begin of the chaos.
    Bit {
        /// When it was begun.
        begun_ms: u64,
        /// When it was seen to bite.
        bitten_ms: u64,
        /// When it was seen to be gone.
        healed_ms: u64,
        /// What was seen when it bit.
        evidence: String,
        /// What was seen when it was gone.
        healed: String,
    },
    /// It could not be done as things stood: its machine was down, had no such process, or the host had too much to do.
    Refused {
        /// When it was tried.
        begun_ms: u64,
        /// Why.
        reason: String,
    },
    /// It did not bite, or is not gone: the infrastructure's failure.
    Failed {
        /// When it was begun.
        begun_ms: u64,
        /// Why.
        reason: String,
    },
    /// The scenario was done before its time came.
    NotReached,
}

/// A schedule that is being played.
pub struct Nemesis {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Played>>,
}

struct Shared {
    watch: Stopwatch,
    clock: Arc<HeldClock>,
    stage: Arc<dyn Stage>,
    schedule: Schedule,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stopped: bool,
    /// How many faults are just being done or taken back.
    busy: usize,
    /// One for each fault of the schedule.
    begun: Vec<bool>,
    /// The same.
    over: Vec<bool>,
}

impl std::fmt::Debug for Nemesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nemesis").field("schedule", &self.shared.schedule).finish_non_exhaustive()
    }
}

impl Nemesis {
    /// Begins to play a schedule from now on. While the clock is held no fault begins and none is taken back.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn begin(schedule: Schedule, stage: Arc<dyn Stage>, clock: Arc<HeldClock>) -> anyhow::Result<Self> {
        let none = vec![false; schedule.faults.len()];
        let state = Mutex::new(State { stopped: false, busy: 0, begun: none.clone(), over: none });
        let shared = Shared { watch: clock.watch(), clock, stage, schedule, state, changed: Condvar::new() };
        let shared = Arc::new(shared);
        let mut nemesis = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for place in 0..shared.schedule.faults.len() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("nemesis".into()).spawn(move || shared.play(place));
            nemesis.threads.push(thread.inspect_err(|_| nemesis.shared.stop())?);
        }
        Ok(nemesis)
    }

    /// After its clock was held: waits until what was just being done is done.
    pub fn wait_until_still(&self) {
        let shared = &self.shared;
        let busy = |state: &mut State| state.busy > 0;
        let waited = shared.changed.wait_timeout_while(shared.state(), STILL_DEADLINE.scaled(), busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner)); // what takes longer goes on while somebody looks
    }

    /// Ends it: what is broken is healed, what has not begun never does. The answer is in the schedule's order.
    #[must_use]
    pub fn settle(self) -> Vec<Played> {
        self.shared.stop();
        let faults = self.shared.schedule.faults.iter();
        let join = |(thread, planned): (JoinHandle<Played>, &Planned)| {
            let reason = "the thread that played it panicked".to_owned();
            let panicked = Played { number: planned.number, fate: Fate::Failed { begun_ms: planned.at_ms, reason } };
            thread.join().unwrap_or(panicked)
        };
        self.threads.into_iter().zip(faults).map(join).collect()
    }
}

impl Shared {
    fn play(&self, place: usize) -> Played {
        let planned = &self.schedule.faults[place];
        let fate = self.play_one(place, planned);
        self.state().over[place] = true;
        self.changed.notify_all();
        Played { number: planned.number, fate }
    }

    fn play_one(&self, place: usize, planned: &Planned) -> Fate {
        let before: Vec<usize> =
            (0..place).filter(|other| self.schedule.faults[*other].clashes_with(planned)).collect();
        if self.wait_until(planned.at_ms) || self.wait_for(&before) || self.wait_while_held().stopped {
            return Fate::NotReached;
        }
        self.state().begun[place] = true;
        let begun_ms = self.now_ms();
        let (fault, evidence) = match self.inject(place, planned) {
            Ok(injected) => injected,
            Err(error) => {
                let reason = format!("{error:#}");
                if is_refusal(&error) {
                    self.stage.refused(planned, &reason);
                    return Fate::Refused { begun_ms, reason };
                }
                self.stage.failed(planned, &reason);
                return Fate::Failed { begun_ms, reason };
            }
        };
        let bitten_ms = self.now_ms();
        self.wait_until(planned.end_ms());
        match self.heal(place, fault) {
            Ok(healed) => Fate::Bit { begun_ms, bitten_ms, healed_ms: self.now_ms(), evidence, healed },
            Err(error) => {
                let reason = format!("{error:#}");
                self.stage.failed(planned, &reason);
                Fate::Failed { begun_ms, reason }
            }
        }
    }

    /// Does a fault. Where others were there, came or went, or were just being done, while it was looked for, it is done again: a
    /// machine that another fault restarts hears and says nothing, whatever was done here.
    fn inject(&self, place: usize, planned: &Planned) -> anyhow::Result<(u64, String)> {
        let begun = self.clock.watch();
        loop {
            let (changes, alone, others_busy) = (self.changes(), self.is_alone(place), self.state().busy > 0);
            let injected = self.busy(|| self.stage.inject(planned));
            let disturbed = !alone || others_busy || self.changes() != changes;
            match injected {
                Err(error)
                    if disturbed
                        && !is_refusal(&error)
                        && !is_still_there(&error)
                        && !self.state().stopped
                        && begun.elapsed() < INJECT_DEADLINE.scaled() => {}
                injected => return injected,
            }
        }
    }

    /// Heals a fault; while that fails and another one is there, until that is over.
    fn heal(&self, place: usize, fault: u64) -> anyhow::Result<String> {
        let begun = self.clock.watch();
        loop {
            let (over, alone) = (self.over(), self.is_alone(place));
            let healed = self.busy(|| self.stage.heal(fault));
            let disturbed = !alone || !self.is_alone(place);
            match healed {
                Err(error) if (is_outage(&error) || disturbed) && begun.elapsed() < HEAL_DEADLINE.scaled() => {
                    self.wait_for_change(over);
                }
                healed => return healed,
            }
        }
    }

    /// Whether no other fault is there on its machine.
    fn is_alone(&self, place: usize) -> bool {
        let (state, faults) = (self.state(), &self.schedule.faults);
        let is_there = |other: usize| state.begun[other] && !state.over[other];
        let same_machine = |other: usize| faults[other].container == faults[place].container;
        !(0..faults.len()).any(|other| other != place && same_machine(other) && is_there(other))
    }

    /// Waits until then, or until the end; true where the end came first.
    fn wait_until(&self, at_ms: u64) -> bool {
        let mut state = self.state();
        loop {
            let left = Duration::from_millis(at_ms).saturating_sub(self.watch.elapsed());
            if state.stopped || left.is_zero() {
                return state.stopped;
            }
            let left = if self.clock.is_held() { HELD_POLL } else { left };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until these are over, or until the end; true where the end came first.
    fn wait_for(&self, places: &[usize]) -> bool {
        let waits = |state: &mut State| !state.stopped && places.iter().any(|place| !state.over[*place]);
        self.changed.wait_while(self.state(), waits).unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// Waits while the clock is held, or until the end.
    fn wait_while_held(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !state.stopped && self.clock.is_held() {
            state = self.changed.wait_timeout(state, HELD_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Does something that must not be done by halves when somebody looks.
    fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.wait_while_held().busy += 1;
        let done = work();
        self.state().busy -= 1;
        self.changed.notify_all();
        done
    }

    /// Waits until another fault is over than those that were, or a moment.
    fn wait_for_change(&self, over: usize) {
        const MOMENT: Duration = Duration::from_millis(200); // a machine may come back by other means too
        let same = |state: &mut State| state.over.iter().filter(|over| **over).count() == over;
        let _ = self.changed.wait_timeout_while(self.state(), MOMENT, same);
    }

    /// How often a fault has begun or come to its end.
    fn changes(&self) -> usize {
        let state = self.state();
        state.begun.iter().chain(&state.over).filter(|happened| **happened).count()
    }

    fn over(&self) -> usize {
        self.state().over.iter().filter(|over| **over).count()
    }

    fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.watch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A panic in another thread does not make it wrong: each change is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_outage(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<Outage>)
}

/// Whether it could not be done because of the state that the container or the host is in, or of a parameter that names
/// nothing.
fn is_refusal(error: &anyhow::Error) -> bool {
    let refuses = |error: &Error| matches!(error, Error::Usage(_) | Error::Host { .. });
    let reboots = error.chain().any(<dyn std::error::Error>::is::<Reboots>);
    !is_still_there(error)
        && (is_outage(error) || reboots || error.chain().filter_map(|cause| cause.downcast_ref()).any(refuses))
}

fn is_still_there(error: &anyhow::Error) -> bool {
    error.downcast_ref::<NotTakenBack>().is_some()
}

#[cfg(test)]
mod tests {
    use e2e_contract::Fault;

    use super::super::schedule::SCHEDULE_VERSION;
    use super::*;

    /// Does nothing, and writes it down.
    #[derive(Default)]
    struct Paper {
        lines: Mutex<Vec<String>>,
    }

    /// What this number heals waits for the end of the other fault on `full`.
    const WAITS_FOR_ROOM: u64 = 2;

    impl Paper {
        fn write(&self, line: String) {
            self.lines.lock().unwrap().push(line);
        }
    }

    impl Stage for Paper {
        fn inject(&self, planned: &Planned) -> anyhow::Result<(u64, String)> {
            let tries = |line: &String| line == "tried disturbed";
            match planned.container.as_str() {
                "disturbed" if planned.number == 2 && !self.lines.lock().unwrap().iter().any(tries) => {
                    self.write("tried disturbed".into());
                    anyhow::bail!("the other one is in its way");
                }
                "broken" => anyhow::bail!("it does not bite"),
                "down" => Err(Error::Usage("it is down".into()).into()),
                name => {
                    self.write(format!("{} {name}", planned.fault.name()));
                    Ok((planned.number.into(), "seen".into()))
                }
            }
        }

        fn heal(&self, fault: u64) -> anyhow::Result<String> {
            let lines = self.lines.lock().unwrap().clone();
            let is_full = lines.iter().any(|line| line == "disk.full full") && !lines.contains(&"heal 1".to_owned());
            anyhow::ensure!(!(is_full && fault == WAITS_FOR_ROOM), "no room");
            self.write(format!("heal {fault}"));
            Ok("gone".into())
        }

        fn failed(&self, planned: &Planned, reason: &str) {
            self.write(format!("{} failed: {reason}", planned.fault.name()));
        }

        fn refused(&self, planned: &Planned, reason: &str) {
            self.write(format!("{} refused: {reason}", planned.fault.name()));
        }
    }

    fn played(faults: &[(u64, u64, &str, Fault)], settle_after: Duration) -> (Vec<Played>, Vec<String>) {
        let (nemesis, paper) = begin(faults, &Arc::default());
        std::thread::sleep(settle_after); // the schedule's own clock
        let played = nemesis.settle();
        let lines = paper.lines.lock().unwrap().clone();
        (played, lines)
    }

    fn begin(faults: &[(u64, u64, &str, Fault)], clock: &Arc<HeldClock>) -> (Nemesis, Arc<Paper>) {
        let planned = |(index, (at_ms, duration_ms, container, fault)): (usize, &(u64, u64, &str, Fault))| Planned {
            number: u32::try_from(index).unwrap() + 1,
            at_ms: *at_ms,
            duration_ms: *duration_ms,
            container: (*container).to_owned(),
            fault: fault.clone(),
        };
        let faults: Vec<Planned> = faults.iter().enumerate().map(planned).collect();
        let (case, profile) = ("x".to_owned(), "default".to_owned());
        let schedule =
            Schedule { format_version: SCHEDULE_VERSION, case, seed: None, profile, length_ms: 1000, faults };
        let paper = Arc::new(Paper::default());
        let stage = Arc::clone(&paper) as Arc<dyn Stage>;
        (Nemesis::begin(schedule, stage, Arc::clone(clock)).unwrap(), paper)
    }

    #[test]
    fn while_its_clock_is_held_nothing_begins_and_nothing_is_healed() {
        let clock = Arc::new(HeldClock::default());
        let faults = [(0, 60, "a", Fault::NetIsolate), (100, 10, "b", Fault::NodeKill)];
        let (nemesis, paper) = begin(&faults, &clock);
        while paper.lines.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        clock.hold();
        nemesis.wait_until_still();
        let seen = paper.lines.lock().unwrap().clone();
        std::thread::sleep(Duration::from_millis(200)); // in which all would have been over
        assert_eq!(*paper.lines.lock().unwrap(), seen);
        clock.let_go();
        std::thread::sleep(Duration::from_millis(600)); // the schedule's own clock
        let played = nemesis.settle();
        assert_eq!(*paper.lines.lock().unwrap(), ["net.isolate a", "heal 1", "node.kill b", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn faults_are_played_in_their_order_and_clashing_ones_one_after_the_other() {
        let faults =
            [(0, 60, "a", Fault::NetIsolate), (20, 20, "a", Fault::NetStall), (0, 200, "b", Fault::NodeFreeze)];
        let (played, lines) = played(&faults, Duration::from_millis(600));
        let of_a: Vec<&String> = lines.iter().filter(|line| !line.contains("node") && *line != "heal 3").collect();
        assert_eq!(of_a, ["net.isolate a", "heal 1", "net.stall a", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn what_cannot_be_healed_beside_another_fault_is_healed_after_it() {
        let disk = Fault::DiskFull { path: "/data".into(), free_bytes: 0 };
        let unit = Fault::ServiceStop { unit: "x.service".into() };
        let faults = [(0, 300, "full", disk), (20, 20, "full", unit)];
        let (played, lines) = played(&faults, Duration::from_millis(900));
        assert_eq!(lines, ["disk.full full", "service.stop full", "heal 1", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn what_does_not_bite_beside_another_fault_is_done_once_more() {
        let faults = [(0, 300, "disturbed", Fault::NetIsolate), (20, 20, "disturbed", Fault::CpuBurn { processes: 1 })];
        let (played, lines) = played(&faults, Duration::from_millis(500));
        assert_eq!(lines[..3], ["net.isolate disturbed", "tried disturbed", "cpu.burn disturbed"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn what_could_not_be_taken_back_is_no_refusal() {
        let refused = || anyhow::Error::from(Error::Usage("it is down".into()));
        assert!(is_refusal(&refused().context("net.isolate on app")));
        let left = refused().context(NotTakenBack("a rule is left".into())).context("net.isolate on app");
        assert!(!is_refusal(&left) && is_still_there(&left));
        assert_eq!(
            format!("{left:#}"),
            "net.isolate on app: and it could not be taken back: a rule is left: it is down"
        );
    }

    #[test]
    fn the_end_heals_what_is_broken_and_begins_nothing() {
        let faults = [(0, 60_000, "a", Fault::NetIsolate), (50_000, 10, "b", Fault::NodeKill)];
        let (played, lines) = played(&faults, Duration::from_millis(100));
        assert_eq!(lines, ["net.isolate a", "heal 1"]);
        assert!(matches!(played[0].fate, Fate::Bit { healed_ms, .. } if healed_ms < 30_000), "{played:?}");
        assert_eq!(played[1].fate, Fate::NotReached);
    }

    #[test]
    fn what_cannot_be_done_is_told_from_what_does_not_bite() {
        let faults = [(0, 1, "down", Fault::NetIsolate), (0, 1, "broken", Fault::NodeKill)];
        let (played, mut lines) = played(&faults, Duration::from_millis(200));
        lines.sort(); // each fault has a thread of its own
        assert_eq!(lines, ["net.isolate refused: it is down", "node.kill failed: it does not bite"]);
        assert!(matches!(&played[0].fate, Fate::Refused { reason, .. } if reason == "it is down"), "{played:?}");
        assert!(matches!(&played[1].fate, Fate::Failed { reason, .. } if reason == "it does not bite"), "{played:?}");
    }
}
