//! Plays a schedule on the run's clock: injects each fault at its time, and heals it after its duration.
//!
//! Every fault has a thread of its own, so that a slow one does not delay the others. A fault that clashes with an earlier one waits until
//! the earlier one is over, and a fault beyond the maximum number of faults at once waits until another one is over. A fault is over when
//! it is healed and its machine is ready again. Faults that wait begin in the order of the schedule, and last as long as planned. A fault
//! that cannot be healed because of another fault, such as a stopped unit on a full volume or a fault on a machine that is down, is healed
//! when the other fault is over.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{FaultError, FaultFailure};
use super::schedule::{Planned, Schedule};
use crate::host::exec::held_clock::{HeldClock, Stopwatch};
use crate::host::patience::Deadline;

/// Deadline for repeated injections of a fault beside others, after which the fault counts as one without effect.
const INJECT_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for a fault's machine to be back, after which the fault counts as not healed.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for a fault that waits for others, after which it counts as one that could not be injected.
const HOLD_DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for injections and healings in progress to end when the schedule's clock is held for a pause.
const STILL_DEADLINE: Deadline = Deadline::from_secs(60);

/// Interval between two checks whether the clock is still held.
const HELD_POLL: Duration = Duration::from_millis(20);

/// Executor of a nemesis: injects and heals faults, and reports failures.
pub trait Stage: Send + Sync {
    /// Injects a fault; returns the number under which it is healed, and the evidence of its effect. `now_ms` returns the time since the
    /// start of the schedule.
    fn inject(&self, planned: &Planned, now_ms: &dyn Fn() -> u64) -> Result<(u64, String), FaultError>;

    /// Heals a fault by its number; returns the evidence of its recovery.
    fn heal(&self, fault: u64) -> Result<String, FaultError>;

    /// Waits until the machine of a healed fault is ready again, or `stop` is true; returns the evidence, where it says more than that of
    /// the healing.
    ///
    /// # Errors
    /// When the machine does not become ready; the implementation has reported that.
    fn recover(&self, planned: &Planned, fault: u64, stop: &dyn Fn() -> bool) -> Result<Option<String>, FaultError>;

    /// Reports a fault that took no effect, or whose effect is not gone.
    fn failed(&self, planned: &Planned, reason: &str);

    /// Reports a fault that could not be injected in the present state of the machine or the host.
    fn refused(&self, planned: &Planned, reason: &str);
}

/// Planned fault of a schedule with its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// Number of the fault in the schedule.
    pub number: u32,
    /// Result of the fault.
    #[serde(flatten)]
    pub fate: Fate,
}

/// Result of one fault of a schedule. Times are since the start of the schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// Effect and recovery were verified.
    Bit {
        /// Start of the fault's injection.
        begun_ms: u64,
        /// Time at which the fault's effect was verified.
        bitten_ms: u64,
        /// Time at which the fault's recovery was verified.
        healed_ms: u64,
        /// Time at which the fault's machine was ready again, or at which its deadline to be ready passed; absent where the machine did not
        /// become ready or the schedule ended first, and in files of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovered_ms: Option<u64>,
        /// Time from the planned start until the effect was verified.
        #[serde(default)]
        late_ms: u64,
        /// Evidence of the effect.
        evidence: String,
        /// Evidence of the recovery.
        healed: String,
    },
    /// The fault could not be injected: its machine was down, had no such process, the host had too much to do, or too many other faults
    /// were active for too long.
    Refused {
        /// Time of the attempt; the planned time where there was none.
        begun_ms: u64,
        /// Reason for the refusal.
        reason: String,
    },
    /// The fault had no effect, or its effect is not gone: an infrastructure error.
    Failed {
        /// Start of the fault's injection.
        begun_ms: u64,
        /// Reason for the failure.
        reason: String,
    },
    /// The scenario ended before the fault's time came.
    NotReached,
}

/// Schedule that is being played.
pub struct Nemesis {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Played>>,
}

struct Shared {
    watch: Stopwatch,
    clock: Arc<HeldClock>,
    stage: Arc<dyn Stage>,
    schedule: Schedule,
    bound: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stopped: bool,
    /// Number of injections and healings in progress.
    busy: usize,
    /// Flag for each fault, in the schedule's order: true once the fault has begun.
    begun: Vec<bool>,
    /// Flag for each fault, in the schedule's order: true once the fault is over.
    over: Vec<bool>,
    /// Flag for each fault, in the schedule's order: true if the fault, when its time came, had to wait until others were over.
    #[cfg(test)]
    held_back: Vec<bool>,
}

impl std::fmt::Debug for Nemesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nemesis").field("schedule", &self.shared.schedule).finish_non_exhaustive()
    }
}

impl Nemesis {
    /// Begins to play a schedule now, with at most `bound` faults at once. While `clock` is held no fault begins and none is healed.
    pub fn begin(schedule: Schedule, bound: u32, stage: Arc<dyn Stage>, clock: Arc<HeldClock>) -> anyhow::Result<Self> {
        let none = vec![false; schedule.faults.len()];
        let state = Mutex::new(State {
            stopped: false,
            busy: 0,
            begun: none.clone(),
            #[cfg(test)]
            held_back: none.clone(),
            over: none,
        });
        let bound = usize::try_from(bound).unwrap_or(usize::MAX);
        let shared = Shared { watch: clock.watch(), clock, stage, schedule, bound, state, changed: Condvar::new() };
        let shared = Arc::new(shared);
        let mut nemesis = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for place in 0..shared.schedule.faults.len() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("nemesis".into()).spawn(move || shared.play(place));
            nemesis.threads.push(thread.inspect_err(|_| nemesis.shared.stop())?);
        }
        Ok(nemesis)
    }

    /// Waits, after the clock was held, until injections and healings in progress are done.
    pub fn wait_until_still(&self) {
        let shared = &self.shared;
        let busy = |state: &mut State| state.busy > 0;
        let waited = shared.changed.wait_timeout_while(shared.state(), STILL_DEADLINE.scaled(), busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner)); // what takes longer goes on while somebody looks
    }

    /// Ends the schedule: active faults are healed, and faults that have not begun never do. Returns the results in the schedule's order.
    #[must_use]
    pub fn settle(self) -> Vec<Played> {
        self.shared.stop();
        let faults = self.shared.schedule.faults.iter();
        let join = |(thread, planned): (JoinHandle<Played>, &Planned)| {
            let reason = "the thread that played the fault panicked".to_owned();
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
        if self.wait_until(planned.at_ms) {
            return Fate::NotReached;
        }
        let begun_ms = match self.wait_for_room(place) {
            Ok(begun_ms) => begun_ms,
            Err(None) => return Fate::NotReached,
            Err(Some(reason)) => {
                self.stage.refused(planned, &reason);
                return Fate::Refused { begun_ms: planned.at_ms, reason };
            }
        };
        let (fault, evidence) = match self.inject(place, planned) {
            Ok(injected) => injected,
            Err(error) => {
                let reason = error.to_string();
                if is_refusal(&error.kind) {
                    self.stage.refused(planned, &reason);
                    return Fate::Refused { begun_ms, reason };
                }
                self.stage.failed(planned, &reason);
                return Fate::Failed { begun_ms, reason };
            }
        };
        let bitten_ms = self.now_ms();
        self.wait_until(begun_ms + planned.duration_ms);
        let healed = match self.heal(place, fault) {
            Ok(healed) => healed,
            Err(error) => {
                let reason = error.to_string();
                self.stage.failed(planned, &reason);
                return Fate::Failed { begun_ms, reason };
            }
        };
        let healed_ms = self.now_ms();
        let is_stopped = || self.state().stopped;
        let recovered = self.stage.recover(planned, fault, &is_stopped);
        let is_ready = recovered.is_ok() && !is_stopped();
        Fate::Bit {
            begun_ms,
            bitten_ms,
            healed_ms,
            recovered_ms: is_ready.then(|| self.now_ms()),
            late_ms: bitten_ms.saturating_sub(planned.at_ms),
            evidence,
            healed: match recovered {
                Ok(seen) => seen.unwrap_or(healed),
                Err(error) => format!("{healed}; {error}"),
            },
        }
    }

    /// Injects a fault. An injection without effect is repeated where another fault was on the machine, or any fault began or ended
    /// meanwhile: a machine that another fault restarts shows no effect.
    fn inject(&self, place: usize, planned: &Planned) -> Result<(u64, String), FaultError> {
        let begun = self.clock.watch();
        loop {
            let (changes, alone, others_busy) = (self.changes(), self.is_alone(place), self.state().busy > 0);
            let injected = self.busy(|| self.stage.inject(planned, &|| self.now_ms()));
            let disturbed = !alone || others_busy || self.changes() != changes;
            match injected {
                Err(error)
                    if disturbed
                        && !is_refusal(&error.kind)
                        && !matches!(error.kind, FaultFailure::NotTakenBack)
                        && !self.state().stopped
                        && begun.elapsed() < INJECT_DEADLINE.scaled() => {}
                injected => return injected,
            }
        }
    }

    /// Heals a fault. A healing that fails while another fault is on the machine is repeated when any fault is over.
    fn heal(&self, place: usize, fault: u64) -> Result<String, FaultError> {
        let begun = self.clock.watch();
        loop {
            let (over, alone) = (self.over(), self.is_alone(place));
            let healed = self.busy(|| self.stage.heal(fault));
            let disturbed = !alone || !self.is_alone(place);
            match healed {
                Err(FaultError { kind, .. })
                    if (disturbed || matches!(kind, FaultFailure::Outage))
                        && begun.elapsed() < HEAL_DEADLINE.scaled() =>
                {
                    self.wait_for_change(over);
                }
                healed => return healed,
            }
        }
    }

    /// Tells whether no other fault is active on the fault's machine.
    fn is_alone(&self, place: usize) -> bool {
        let (state, faults) = (self.state(), &self.schedule.faults);
        let is_there = |other: usize| state.begun[other] && !state.over[other];
        let same_machine = |other: usize| faults[other].container == faults[place].container;
        !(0..faults.len()).any(|other| other != place && same_machine(other) && is_there(other))
    }

    /// Waits until this time of the schedule, or until the schedule's end; returns true where the end came first.
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

    /// Waits until nothing prevents a fault from beginning, and marks it as begun; returns the time in milliseconds since the start of the
    /// schedule. The error is the reason for which the fault had to wait for too long or until the end; `None` where the end came although
    /// nothing was in the way.
    fn wait_for_room(&self, place: usize) -> Result<u64, Option<String>> {
        let held_back = self.clock.watch();
        let mut state = self.state();
        let mut last_obstacle = None;
        loop {
            let obstacle = self.obstacle(&state, place);
            let (waited, is_held) = (held_back.elapsed(), self.clock.is_held());
            if obstacle.is_none() && !is_held && !state.stopped {
                state.begun[place] = true;
                return Ok(self.now_ms());
            }
            // At the end the obstacle goes, too, and perhaps before this thread wakes up.
            last_obstacle = obstacle.or(last_obstacle);
            if state.stopped || (waited >= HOLD_DEADLINE.scaled() && !is_held) {
                let why = |why| format!("held back for {:.1} s: {why}", waited.as_secs_f64());
                return Err(last_obstacle.map(why));
            }
            #[cfg(test)]
            {
                state.held_back[place] = last_obstacle.is_some();
            }
            let pause = if is_held { HELD_POLL } else { HOLD_DEADLINE.scaled().saturating_sub(waited) };
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the reason why a fault may not begin now: it clashes with another one, or the maximum number of faults at once is reached.
    /// Other faults count if they have begun, or come earlier in the schedule, and are not over. `None` where the fault may begin.
    fn obstacle(&self, state: &State, place: usize) -> Option<String> {
        let faults = &self.schedule.faults;
        let is_before = |other: usize| (faults[other].at_ms, other) < (faults[place].at_ms, place);
        let counts = |other: usize| other != place && !state.over[other] && (state.begun[other] || is_before(other));
        let there: Vec<usize> = (0..faults.len()).filter(|other| counts(*other)).collect();
        let named = |places: &mut dyn Iterator<Item = &usize>| {
            let names = places.map(|other| format!("{} on {}", faults[*other].fault.name(), faults[*other].container));
            names.collect::<Vec<_>>().join(", ")
        };
        let clashes = |other: &&usize| faults[**other].clashes_with(&faults[place]);
        if there.iter().any(|other| clashes(&other)) {
            return Some(format!("{} was not over", named(&mut there.iter().filter(clashes))));
        }
        let is_full = there.len() >= self.bound;
        is_full.then(|| {
            format!("only {} at a time may be active, and {} was not over", self.bound, named(&mut there.iter()))
        })
    }

    /// Waits while the schedule's clock is held, but no longer than until the nemesis is stopped; returns the locked state.
    fn wait_while_held(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !state.stopped && self.clock.is_held() {
            state = self.changed.wait_timeout(state, HELD_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Does work that [`Nemesis::wait_until_still`] waits for; does not begin while the clock is held.
    fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.wait_while_held().busy += 1;
        let done = work();
        self.state().busy -= 1;
        self.changed.notify_all();
        done
    }

    /// Waits until more than `over` faults are over, or 200 ms have passed.
    fn wait_for_change(&self, over: usize) {
        const MOMENT: Duration = Duration::from_millis(200); // a machine may come back by other means too
        let same = |state: &mut State| state.over.iter().filter(|over| **over).count() == over;
        let _ = self.changed.wait_timeout_while(self.state(), MOMENT, same);
    }

    /// Returns the number of starts and ends of faults until now.
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

    /// Locks the state, also after a panic of another thread, which leaves no change of the state half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a fault could not be injected because of the state of its container or of the host, or because a parameter names nothing.
fn is_refusal(failure: &FaultFailure) -> bool {
    matches!(failure, FaultFailure::Usage | FaultFailure::Host | FaultFailure::Outage | FaultFailure::Reboots)
}

/// Name of the file in a case's folder that holds its schedule, as planned and as played.
pub const CHAOS_FILE: &str = "chaos.json";

/// Schedule as planned and as played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChaosFile {
    /// Planned faults: the same for the same seed.
    pub schedule: Schedule,
    /// Results of the planned faults, in the same order; empty until the case has ended.
    pub played: Vec<Played>,
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use e2e_contract::Fault;

    use super::super::schedule::SCHEDULE_VERSION;
    use super::*;
    use crate::error::Error;

    /// Stage that injects nothing, and notes each call.
    #[derive(Default)]
    struct Paper {
        lines: Mutex<Vec<String>>,
    }

    /// Time that the machine named `slow` takes to be ready again.
    const SLOW: Duration = Duration::from_millis(150);

    /// Number of the fault whose healing waits for the end of the other fault on `full`.
    const WAITS_FOR_ROOM: u64 = 2;

    impl Paper {
        fn write(&self, line: String) {
            self.lines.lock().unwrap().push(line);
        }
    }

    impl Paper {
        fn wait_for(&self, line: &str) {
            let begun = std::time::Instant::now();
            while !self.lines.lock().unwrap().iter().any(|done| done == line) {
                assert!(begun.elapsed() < Duration::from_secs(60), "{line}: {:?}", self.lines.lock().unwrap());
                std::thread::sleep(Duration::from_millis(1)); // between two looks
            }
        }
    }

    impl Stage for Paper {
        fn inject(&self, planned: &Planned, _now_ms: &dyn Fn() -> u64) -> Result<(u64, String), FaultError> {
            let tries = |line: &String| line == "tried disturbed";
            // On a busy machine the thread of the second may be there before that of the first.
            match planned.container.as_str() {
                "disturbed" if planned.number == 2 => self.wait_for("net.isolate disturbed"),
                "full" if planned.number == 2 => self.wait_for("disk.full full"),
                _ => {}
            }
            match planned.container.as_str() {
                "disturbed" if planned.number == 2 && !self.lines.lock().unwrap().iter().any(tries) => {
                    self.write("tried disturbed".into());
                    Err(anyhow!("the other one is in its way").into())
                }
                "broken" => Err(anyhow!("it takes no effect").into()),
                "down" => Err(Error::Usage("it is down".into()).into()),
                name => {
                    self.write(format!("{} {name}", planned.fault.name()));
                    Ok((planned.number.into(), "seen".into()))
                }
            }
        }

        fn heal(&self, fault: u64) -> Result<String, FaultError> {
            let lines = self.lines.lock().unwrap().clone();
            let is_full = lines.iter().any(|line| line == "disk.full full") && !lines.contains(&"heal 1".to_owned());
            if is_full && fault == WAITS_FOR_ROOM {
                return Err(anyhow!("no room").into());
            }
            self.write(format!("heal {fault}"));
            Ok("gone".into())
        }

        fn recover(
            &self,
            planned: &Planned,
            _fault: u64,
            stop: &dyn Fn() -> bool,
        ) -> Result<Option<String>, FaultError> {
            let begun = std::time::Instant::now();
            let is_slow = || planned.container == "slow" && begun.elapsed() < SLOW;
            while (planned.container == "never" || is_slow()) && !stop() {
                std::thread::sleep(Duration::from_millis(1)); // a machine that takes long to be ready again
            }
            Ok(None)
        }

        fn failed(&self, planned: &Planned, reason: &str) {
            self.write(format!("{} failed: {reason}", planned.fault.name()));
        }

        fn refused(&self, planned: &Planned, reason: &str) {
            self.write(format!("{} refused: {reason}", planned.fault.name()));
        }
    }

    /// Plays faults until all these calls were noted.
    fn played(faults: &[(u64, u64, &str, Fault)], until: &[&str]) -> (Vec<Played>, Vec<String>) {
        let (nemesis, paper) = begin(faults, &Arc::default());
        until.iter().for_each(|line| paper.wait_for(line));
        let played = nemesis.settle();
        let lines = paper.lines.lock().unwrap().clone();
        (played, lines)
    }

    fn begin(faults: &[(u64, u64, &str, Fault)], clock: &Arc<HeldClock>) -> (Nemesis, Arc<Paper>) {
        begin_bounded(faults, 8, clock)
    }

    fn begin_bounded(faults: &[(u64, u64, &str, Fault)], bound: u32, clock: &Arc<HeldClock>) -> (Nemesis, Arc<Paper>) {
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
        (Nemesis::begin(schedule, bound, stage, Arc::clone(clock)).unwrap(), paper)
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
        paper.wait_for("heal 2");
        let played = nemesis.settle();
        assert_eq!(*paper.lines.lock().unwrap(), ["net.isolate a", "heal 1", "node.kill b", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn faults_are_played_in_their_order_and_clashing_ones_one_after_the_other() {
        let faults =
            [(0, 60, "a", Fault::NetIsolate), (20, 20, "a", Fault::NetStall), (0, 200, "b", Fault::NodeFreeze)];
        let (played, lines) = played(&faults, &["heal 1", "heal 2", "heal 3"]);
        let of_a: Vec<&String> = lines.iter().filter(|line| !line.contains("node") && *line != "heal 3").collect();
        assert_eq!(of_a, ["net.isolate a", "heal 1", "net.stall a", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn what_cannot_be_healed_beside_another_fault_is_healed_after_it() {
        let disk = Fault::DiskFull { path: "/data".into(), free_bytes: 0 };
        let unit = Fault::ServiceStop { unit: "x.service".into() };
        let faults = [(0, 300, "full", disk), (20, 20, "full", unit)];
        let (played, lines) = played(&faults, &["heal 1", "heal 2"]);
        assert_eq!(lines, ["disk.full full", "service.stop full", "heal 1", "heal 2"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn what_takes_no_effect_beside_another_fault_is_done_once_more() {
        let faults =
            [(0, 60_000, "disturbed", Fault::NetIsolate), (20, 20, "disturbed", Fault::CpuBurn { processes: 1 })];
        let (played, lines) = played(&faults, &["cpu.burn disturbed"]);
        assert_eq!(lines[..3], ["net.isolate disturbed", "tried disturbed", "cpu.burn disturbed"]);
        assert!(played.iter().all(|one| matches!(one.fate, Fate::Bit { .. })), "{played:?}");
    }

    #[test]
    fn no_machine_goes_down_while_another_one_is_not_ready_again() {
        let faults = [(0, 20, "slow", Fault::NodeKill), (40, 30, "b", Fault::NodeKill)];
        let (nemesis, paper) = begin_bounded(&faults, 1, &Arc::default());
        paper.wait_for("heal 2");
        let played = nemesis.settle();
        assert_eq!(*paper.lines.lock().unwrap(), ["node.kill slow", "heal 1", "node.kill b", "heal 2"]);
        let [slow, b] = [&played[0].fate, &played[1].fate];
        let (Fate::Bit { recovered_ms: Some(ready_ms), .. }, Fate::Bit { begun_ms, healed_ms, late_ms, .. }) =
            (slow, b)
        else {
            panic!("{played:?}")
        };
        assert!(begun_ms >= ready_ms && *ready_ms >= 150 && *late_ms >= 100, "{played:?}");
        assert!(healed_ms - begun_ms >= 30, "one that was held back lasts as long as planned: {played:?}");
    }

    #[test]
    fn what_was_held_back_until_the_end_is_refused_with_the_reason() {
        let faults =
            [(0, 10, "never", Fault::NodeKill), (20, 10, "b", Fault::NodeKill), (50_000, 10, "c", Fault::NodeKill)];
        let (nemesis, paper) = begin_bounded(&faults, 1, &Arc::default());
        while !nemesis.shared.state().held_back[1] {
            std::thread::yield_now();
        }
        let played = nemesis.settle();
        let Fate::Refused { reason, begun_ms: 20 } = &played[1].fate else { panic!("{played:?}") };
        assert!(
            reason.starts_with("held back for ")
                && reason.ends_with("only 1 at a time may be active, and node.kill on never was not over"),
            "{reason}"
        );
        assert!(matches!(&played[0].fate, Fate::Bit { recovered_ms: None, .. }), "{played:?}");
        assert_eq!(played[2].fate, Fate::NotReached);
        assert!(paper.lines.lock().unwrap().iter().any(|line| line.starts_with("node.kill refused: held back")));
    }

    /// Stage whose machines take any time to go down, to come up and to be ready; counts the faults that are not over.
    struct Slow {
        seed: u64,
        open: Mutex<Vec<u32>>,
        begun: Mutex<Vec<u32>>,
        most: std::sync::atomic::AtomicUsize,
    }

    impl Slow {
        fn pass(&self, number: u32, salt: u64) -> u64 {
            let drawn = (self.seed + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(number * 7) % 100;
            std::thread::sleep(Duration::from_millis(if drawn < 20 { drawn * 2 } else { drawn / 10 })); // some are very slow
            drawn
        }

        fn over(&self, number: u32) {
            self.open.lock().unwrap().retain(|other| *other != number);
        }
    }

    impl Stage for Slow {
        fn inject(&self, planned: &Planned, _now_ms: &dyn Fn() -> u64) -> Result<(u64, String), FaultError> {
            {
                let mut open = self.open.lock().unwrap();
                if !open.contains(&planned.number) {
                    open.push(planned.number);
                    self.begun.lock().unwrap().push(planned.number);
                }
                self.most.fetch_max(open.len(), std::sync::atomic::Ordering::SeqCst);
            }
            if self.pass(planned.number, 1) < 8 {
                self.over(planned.number);
                return Err(Error::Usage("as things stand".into()).into());
            }
            Ok((planned.number.into(), String::new()))
        }

        fn heal(&self, fault: u64) -> Result<String, FaultError> {
            self.pass(u32::try_from(fault).unwrap(), 2);
            Ok(String::new())
        }

        fn recover(
            &self,
            planned: &Planned,
            _fault: u64,
            _stop: &dyn Fn() -> bool,
        ) -> Result<Option<String>, FaultError> {
            self.pass(planned.number, 3);
            self.over(planned.number);
            Ok(None)
        }

        fn failed(&self, planned: &Planned, _reason: &str) {
            self.over(planned.number);
        }

        fn refused(&self, _planned: &Planned, _reason: &str) {}
    }

    #[test]
    fn the_bound_holds_as_played_whatever_machines_take() {
        let run = |seed: u64| {
            let bound = 1 + u32::try_from(seed % 3).unwrap();
            let rules = ["node.kill", "net.isolate", "cpu.burn"].map(|fault| crate::manifest::FaultRule {
                fault: fault.into(),
                on: ["a", "b", "c"].map(str::to_owned).to_vec(),
                parameters: std::collections::BTreeMap::new(),
            });
            let chaos = crate::manifest::Chaos {
                faults: rules.to_vec(),
                nothing_because: None,
                max_concurrent: bound,
                length: Duration::from_secs(20),
                longest: Duration::from_secs(4),
                quiet: Duration::ZERO,
                recovery: Duration::from_secs(1),
                sometimes: Vec::new(),
            };
            let profile = super::super::schedule::Profile::Heavy;
            let mut schedule = Schedule::draw("x", &chaos, &profile, seed, &|_| true).unwrap();
            assert_eq!(schedule.bound(&chaos), bound);
            // A hundred times as fast, so that what machines take makes it another schedule.
            schedule.faults.iter_mut().for_each(|planned| {
                planned.at_ms /= 100;
                planned.duration_ms = planned.duration_ms.div_ceil(100);
            });
            let (open, begun) = (Mutex::default(), Mutex::default());
            let slow = Arc::new(Slow { seed, open, begun, most: std::sync::atomic::AtomicUsize::new(0) });
            let stage = Arc::clone(&slow) as Arc<dyn Stage>;
            let nemesis = Nemesis::begin(schedule.clone(), bound, stage, Arc::default()).unwrap();
            // Some are cut short; else all have begun before the end comes.
            let (started, count) =
                (std::time::Instant::now(), if seed.is_multiple_of(5) { 3 } else { schedule.faults.len() });
            while slow.begun.lock().unwrap().len() < count {
                assert!(started.elapsed() < Duration::from_secs(60), "seed {seed}: not all begin: {schedule:#?}");
                std::thread::sleep(Duration::from_millis(1)); // the schedule's own clock
            }
            let played = nemesis.settle();
            let most = slow.most.load(std::sync::atomic::Ordering::SeqCst);
            assert!(most <= bound as usize, "{most} at once, {bound} at most: seed {seed}: {played:#?}");
            assert!(slow.open.lock().unwrap().is_empty());
            // Each fault of the schedule stands in what was played, in its place, and none is passed over.
            let numbers = |faults: &mut dyn Iterator<Item = u32>| faults.collect::<Vec<_>>();
            let planned = numbers(&mut schedule.faults.iter().map(|planned| planned.number));
            assert_eq!(numbers(&mut played.iter().map(|one| one.number)), planned, "seed {seed}");
            let begun = slow.begun.lock().unwrap().clone();
            if bound == 1 {
                assert_eq!(begun, planned[..begun.len()], "in the schedule's order: seed {seed}");
            }
            let (bit, refused) = played.iter().fold((0, 0), |(bit, refused), one| match &one.fate {
                Fate::Bit { begun_ms, bitten_ms, late_ms, .. } => {
                    let planned = schedule.faults.iter().find(|planned| planned.number == one.number).unwrap();
                    assert!(*begun_ms >= planned.at_ms && *late_ms == bitten_ms - planned.at_ms, "{one:?}");
                    (bit + 1, refused)
                }
                Fate::Refused { reason, .. } => {
                    assert!(reason == "as things stand" || reason.starts_with("held back for "), "{reason}");
                    (bit, refused + usize::from(reason == "as things stand"))
                }
                Fate::NotReached => (bit, refused),
                Fate::Failed { reason, .. } => panic!("{reason}"),
            });
            assert!(
                seed.is_multiple_of(5) || bit + refused == schedule.faults.len(),
                "all are played: seed {seed}: {played:#?}"
            );
            assert_eq!(begun.len(), bit + refused, "seed {seed}");
            (most == bound as usize, bit)
        };
        let all: Vec<(bool, usize)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..60).map(|seed| scope.spawn(move || run(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().filter(|(is_reached, _)| *is_reached).count() > 30, "the bound is used: {all:?}");
        assert!(all.iter().map(|(_, bit)| bit).sum::<usize>() > 200, "faults are played: {all:?}");
    }

    #[test]
    fn what_could_not_be_taken_back_is_no_refusal() {
        let refused = || FaultError::from(Error::Usage("it is down".into())).context("net.isolate on app".into());
        assert!(is_refusal(&refused().kind));
        let left =
            FaultError::from(Error::Usage("it is down".into())).not_taken_back(&anyhow!("a rule is left").into());
        let left = left.context("net.isolate on app".into());
        assert!(!is_refusal(&left.kind) && matches!(left.kind, FaultFailure::NotTakenBack));
        assert_eq!(
            left.to_string(),
            "net.isolate on app: the injection failed, and what it had changed could not be taken back \
             completely (a rule is left): it is down"
        );
        assert!(Error::of(&left.into()).is_none(), "nor is it a bad parameter on the command line");
    }

    #[test]
    fn the_end_heals_what_is_broken_and_begins_nothing() {
        let faults = [(0, 60_000, "a", Fault::NetIsolate), (50_000, 10, "b", Fault::NodeKill)];
        let (played, lines) = played(&faults, &["net.isolate a"]);
        assert_eq!(lines, ["net.isolate a", "heal 1"]);
        assert!(matches!(played[0].fate, Fate::Bit { healed_ms, .. } if healed_ms < 30_000), "{played:?}");
        assert_eq!(played[1].fate, Fate::NotReached);
    }

    #[test]
    fn what_cannot_be_done_is_told_from_what_takes_no_effect() {
        let faults = [(0, 1, "down", Fault::NetIsolate), (0, 1, "broken", Fault::NodeKill)];
        let ends = ["net.isolate refused: it is down", "node.kill failed: it takes no effect"];
        let (played, mut lines) = played(&faults, &ends);
        lines.sort(); // each fault has a thread of its own
        assert_eq!(lines, ends);
        assert!(matches!(&played[0].fate, Fate::Refused { reason, .. } if reason == "it is down"), "{played:?}");
        assert!(matches!(&played[1].fate, Fate::Failed { reason, .. } if reason == "it takes no effect"), "{played:?}");
    }
}
