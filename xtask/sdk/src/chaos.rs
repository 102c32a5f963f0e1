//! Stretch of the case during which the engine injects faults, and conditions that have to hold during it and afterwards.

use std::panic::Location;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use e2e_contract::{ChaosBegin, Invariant, InvariantKind, Settle};

use crate::connection::shown;
use crate::error::chain;
use crate::{CheckFailed, Lab, Result};

/// Interval between two evaluations of a condition of [`Chaos::always`].
const PAUSE: Duration = Duration::from_millis(100);

/// Stretch of the case during which faults are injected: see [`Lab::chaos`].
///
/// ```no_run
/// # use e2e::{Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// # fn doubled(_: &Lab) -> Result<u32> { Ok(0) }
/// # fn submit(_: &Lab) -> Result { Ok(()) }
/// let accepted = lab.chaos(|chaos| {
///     chaos.always("no job is done twice", move || Ok(doubled(lab)? == 0));
///     let mut accepted = 0;
///     while accepted < 100 || chaos.lasts() {
///         accepted += u32::from(submit(lab).is_ok());
///     }
///     Ok(accepted)
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Chaos<'scope, 'env: 'scope> {
    lab: &'env Lab,
    scope: &'scope Scope<'scope, 'env>,
    ends: Option<Instant>,
    over: Arc<Over>,
    watches: Mutex<Vec<ScopedJoinHandle<'scope, Result>>>,
}

/// Signal that the stretch has ended.
#[derive(Debug, Default)]
struct Over {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Over {
    fn set(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for the end of the stretch, at most this long; returns true if it has ended.
    fn within(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        *self.changed.wait_timeout_while(over, time, |over| !*over).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Signals the end of the stretch when dropped, even when the body panics: the scope waits for the threads that evaluate conditions.
struct SetWhenDropped(Arc<Over>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Number of evaluations of a condition, by result.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looks {
    held: u32,
    missed: u32,
    broken: bool,
    last_error: Option<String>,
}

impl Lab {
    /// Runs `body` while the engine injects the faults of `cargo xtask e2e --chaos`, as far as `[chaos]` in `scenario.toml` allows them.
    /// Afterwards all faults are healed, and the call returns when the probes of all containers pass again and a quiet period is over:
    /// from then on the system has to do what its users expect, and the case's last checks follow, those of [`Lab::at_end`] too. In a run
    /// without `--chaos`, only `body` runs. May be called once in a case.
    ///
    /// Requests of `body` to the system may fail during a fault: a missing answer is neither a success nor a failure. [`Lab::invoke`]
    /// keeps a history with such unknown results.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result, check};
    /// # fn submit(lab: &Lab) -> Result<bool> { Ok(true) }
    /// # fn missing(lab: &Lab) -> Result<u64> { Ok(0) }
    /// # fn doubled(lab: &Lab) -> Result<u64> { Ok(0) }
    /// # fn scenario(lab: &Lab) -> Result {
    /// let accepted = lab.chaos(|chaos| {
    ///     chaos.always("no row is there twice", move || Ok(doubled(lab)? == 0));
    ///     let mut accepted = 0;
    ///     while accepted < 1000 || chaos.lasts() {
    ///         accepted += u64::from(submit(lab)?);
    ///     }
    ///     Ok(accepted)
    /// })?;
    /// lab.sometimes("something was accepted", accepted > 0)?;
    /// lab.at_end("no accepted row is missing", || Ok(missing(lab)? == 0))
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of `body`; a condition of [`Chaos::always`] that did not hold, or could never be evaluated; when the system does not
    /// recover in time.
    #[track_caller]
    pub fn chaos<'env, T>(&'env self, body: impl for<'scope> FnOnce(&Chaos<'scope, 'env>) -> Result<T>) -> Result<T> {
        let place = shown(Location::caller());
        let playing = self.connection().call_from(&place, &ChaosBegin {})?;
        let ends = playing.playing.then(|| Instant::now() + Duration::from_millis(playing.length_ms));
        let over = Arc::<Over>::default();
        std::thread::scope(|scope| {
            let end = SetWhenDropped(Arc::clone(&over));
            let chaos = Chaos { lab: self, scope, ends, over, watches: Mutex::default() };
            let result = body(&chaos)?;
            self.connection().call_from(&place, &Settle {})?;
            drop(end);
            for watch in chaos.watches.into_inner().unwrap_or_else(PoisonError::into_inner) {
                watch.join().map_err(|_| anyhow!("a thread that watched a condition panicked"))??;
            }
            Ok(result)
        })
    }

    /// Reports whether a condition came true that has to come true at least once in a run with faults, such as "a job was done again".
    /// `scenario.toml` lists its name under `sometimes` in `[chaos]`, so that it also counts as missed in a case that never reaches this
    /// call.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let done_again = 3;
    /// lab.sometimes("a job was done again", done_again > 0)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When `scenario.toml` does not list the name.
    #[track_caller]
    pub fn sometimes(&self, name: &str, came_true: bool) -> Result {
        let place = Location::caller();
        self.tell(InvariantKind::Sometimes, name, came_true, 1, 0, String::new(), place)
    }

    /// Checks a condition that has to hold once all faults are healed and the system is quiet, after [`Lab::chaos`].
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// # fn missing(_: &Lab) -> Result<u32> { Ok(0) }
    /// lab.at_end("no accepted job is lost", || Ok(missing(lab)? == 0))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CheckFailed`] when the condition does not hold; an error of `holds`.
    #[track_caller]
    pub fn at_end(&self, name: &str, holds: impl FnOnce() -> Result<bool>) -> Result {
        let place = Location::caller();
        let held = holds().map_err(|error| error.context(format!("evaluating the condition {name:?}")))?;
        self.tell(InvariantKind::AtEnd, name, held, 1, 0, String::new(), place)?;
        if held { Ok(()) } else { Err(CheckFailed::of(name, place.file(), place.line()).into()) }
    }

    #[expect(clippy::too_many_arguments, reason = "one field each")]
    fn tell(
        &self,
        kind: InvariantKind,
        name: &str,
        held: bool,
        looks: u32,
        missed: u32,
        values: String,
        place: &Location<'_>,
    ) -> Result {
        let (file, line) = (place.file().to_owned(), place.line());
        let invariant = Invariant { kind, name: name.to_owned(), held, looks, missed, values, file, line };
        self.connection().call_from(&shown(place), &invariant)?;
        Ok(())
    }
}

impl<'scope, 'env> Chaos<'scope, 'env> {
    /// Tells whether faults will still be injected, for a load that has to go on until all were injected. False in a run without faults.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.ends.is_some_and(|ends| Instant::now() < ends)
    }

    /// Tells whether this run injects faults.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.ends.is_some()
    }

    /// Evaluates a condition ten times per second, from now on until all faults are healed and the system is quiet. The case fails when
    /// `holds` returns false once, or only errors: an error means that the condition could not be evaluated, because the system did not
    /// answer.
    #[track_caller]
    pub fn always(&self, name: &str, mut holds: impl FnMut() -> Result<bool> + Send + 'scope) {
        let (name, place, lab, over) = (name.to_owned(), Location::caller(), self.lab, Arc::clone(&self.over));
        let watch = self.scope.spawn(move || {
            let looks = watch(&mut holds, |time| over.within(time));
            let held = !looks.broken && looks.held > 0;
            let values = match looks.last_error {
                Some(error) if looks.held == 0 && !looks.broken => format!("it could never be evaluated: {error}"),
                _ => String::new(),
            };
            let Looks { held: good, missed, .. } = looks;
            let all = good + missed + u32::from(looks.broken);
            lab.tell(InvariantKind::Always, &name, held, all, missed, values, place)?;
            if held { Ok(()) } else { Err(CheckFailed::of(&name, place.file(), place.line()).into()) }
        });
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
    }
}

/// Calls `holds` repeatedly until it returns false, or once more after `over` has returned true, which means that the stretch has ended.
fn watch(holds: &mut dyn FnMut() -> Result<bool>, over: impl Fn(Duration) -> bool) -> Looks {
    let mut looks = Looks::default();
    loop {
        let last = over(Duration::ZERO);
        match holds() {
            Ok(true) => looks.held += 1,
            Ok(false) => looks.broken = true,
            Err(error) => {
                looks.missed += 1;
                looks.last_error = Some(chain(&error));
            }
        }
        if last || looks.broken {
            return looks;
        }
        over(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn watched(answers: &[Result<bool>]) -> Looks {
        let next = Cell::new(0);
        let mut holds = || {
            let answer = &answers[next.replace(next.get() + 1)];
            answer.as_ref().copied().map_err(|error| anyhow!("{error}"))
        };
        watch(&mut holds, |_| next.get() + 1 >= answers.len())
    }

    #[test]
    fn one_look_that_does_not_hold_is_enough_and_one_without_an_answer_says_nothing() {
        let looks = watched(&[Ok(true), Err(anyhow!("down")), Ok(true)]);
        assert_eq!((looks.held, looks.missed, looks.broken), (2, 1, false));
        let looks = watched(&[Ok(true), Ok(false), Ok(true)]);
        assert_eq!((looks.held, looks.missed, looks.broken), (1, 0, true));
        let looks = watched(&[Err(anyhow!("down"))]);
        assert_eq!((looks.held, looks.missed, looks.last_error.as_deref()), (0, 1, Some("down")));
    }
}
