//! Verdict on an attempt, from the end of the scenario's process and the evidence before it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use e2e_contract::{Abort, AbortKind, PANIC_EXIT_STATUS};

use super::blame::{self, Blame, Evidence};
use crate::host::container::lxc::InitEnd;
use crate::lab::MachineEnd;
use crate::record::{CaseId, Cause, Event, InitStatus, Outcome};

/// Exit status assumed for a scenario that a person gave up at a breakpoint: the status of a failed one.
const EXIT_STATUS_GIVEN_UP: i32 = 1;

/// End of a scenario's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Exit with this status.
    Exited(i32),
    /// Death by this signal, which the engine did not send.
    Signaled(i32),
    /// The process exceeded this deadline and was killed.
    TimedOut(Duration),
    /// The process sent a line that is not a request, and was killed.
    BrokeProtocol,
    /// A person gave the case up at a breakpoint, and the process was killed.
    GivenUp,
    /// The run was interrupted, and the process was killed.
    Interrupted,
}

impl End {
    pub fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signaled(status.signal().unwrap_or(0)), Self::Exited)
    }
}

/// Observations of a session up to the scenario's end.
#[derive(Debug, Default)]
pub struct Seen {
    /// True once the scenario has sent `hello`.
    pub hello: bool,
    /// Description of the first failed check.
    pub failed_check: Option<String>,
    /// Description of the first refused request that made a statement or had an unknown method.
    pub refused: Option<String>,
    /// Steps and measured operations that the scenario began but did not end.
    pub open: Vec<String>,
    /// Known defects that the scenario has tested.
    pub defects: Vec<String>,
    /// Known defects that the scenario should have tested, but did not.
    pub unseen_defects: Vec<String>,
    /// Duty concerning its fault schedule that the scenario did not fulfill.
    pub chaos_owed: Option<String>,
    /// First resource limit that a container exceeded.
    pub exceeded: Option<String>,
    /// Error or panic with which the scenario gave up.
    pub abort: Option<Abort>,
    /// First breach of the protocol.
    pub violation: Option<String>,
    /// Description of the running requests and the stack at the deadline.
    pub doing: Option<String>,
    /// Reason that the program wrote to its output before it ended.
    pub last_words: Option<String>,
}

/// Judges an attempt by the first piece of evidence: after the host has failed, the scenario's behavior proves nothing about the product,
/// and after the product has failed, nothing later changes that.
pub fn judge(end: End, seen: Seen, evidence: Vec<Evidence>) -> Outcome {
    if end == End::Interrupted {
        return Outcome::Interrupted;
    }
    let failed_check = seen.failed_check.clone();
    let infrastructure = |message| Outcome::Infrastructure { message, host_cause: None, failed_check };
    match evidence.into_iter().next() {
        None | Some(Evidence::Scenario) => of_scenario(end, seen),
        Some(Evidence::MachineEnded(machine)) if blame::of_end(&machine) == Blame::Product => {
            let message = machine.to_string();
            let MachineEnd { container, init, .. } = *machine;
            let process_1 = init_status(&init);
            Outcome::Failed { cause: Cause::MachineEnded { container, process_1, message } }
        }
        Some(Evidence::MachineEnded(machine)) => infrastructure(machine.to_string()),
        Some(Evidence::NotRecovered { not_ready, message })
            if blame::of_not_recovered(&not_ready) == Blame::Product =>
        {
            Outcome::Failed { cause: Cause::NotReady { container: not_ready.container, message } }
        }
        Some(Evidence::NotRecovered { message, .. } | Evidence::Host(message)) => infrastructure(message),
    }
}

/// Converts the end of a process 1 to the record's form.
#[must_use]
pub fn init_status(init: &InitEnd) -> InitStatus {
    match *init {
        InitEnd::NotStarted | InitEnd::NotExecutable { .. } => InitStatus::NotStarted,
        InitEnd::Exited(status) => InitStatus::Exited { status },
        InitEnd::Signaled(signal) => InitStatus::Signaled { signal },
        InitEnd::Unknown => InitStatus::Unknown,
    }
}

/// Returns the event for a machine that ended although no fault ended it; `expected` tells whether the scenario declared that.
#[must_use]
pub fn machine_ended(case: &CaseId, end: &MachineEnd, expected: bool) -> Event {
    Event::MachineEnded {
        case: case.clone(),
        container: end.container.clone(),
        process_1: init_status(&end.init),
        out_of_memory: end.out_of_memory,
        expected,
        detail: end.to_string(),
    }
}

/// Returns the outcome by the scenario's own behavior.
fn of_scenario(end: End, seen: Seen) -> Outcome {
    let failed = |cause| Outcome::Failed { cause };
    if let Some(message) = seen.violation {
        return failed(Cause::Protocol { message });
    }
    let status = match end {
        End::Exited(status) => status,
        End::Signaled(signal) => return failed(Cause::Signal { signal, last_words: seen.last_words }),
        End::TimedOut(deadline) => {
            let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            return failed(Cause::TimedOut { deadline_ms, doing: seen.doing });
        }
        End::BrokeProtocol => {
            return failed(Cause::Protocol { message: "it sent a line that is not a request".into() });
        }
        // It was held because something had failed, which is looked for below.
        End::GivenUp => EXIT_STATUS_GIVEN_UP,
        End::Interrupted => return Outcome::Interrupted,
    };
    if let Some(abort) = seen.abort.as_ref().filter(|abort| abort.kind == AbortKind::Panic) {
        return failed(Cause::Panic { message: with_place(abort) });
    }
    if let Some(message) = seen.failed_check {
        return failed(Cause::Check { message });
    }
    if let Some(abort) = &seen.abort {
        return failed(Cause::Error { message: with_place(abort) });
    }
    if let (0, Some(message)) = (status, seen.refused) {
        return failed(Cause::Protocol { message });
    }
    match status {
        0 if !seen.hello => failed(Cause::Protocol { message: "it ended without having sent `hello`".into() }),
        0 if !seen.open.is_empty() => {
            failed(Cause::Protocol { message: format!("it ended in the middle of {}", seen.open.join(", ")) })
        }
        0 if !seen.unseen_defects.is_empty() => {
            let list = seen.unseen_defects.join(", ");
            failed(Cause::Protocol {
                message: format!("it never checked known defects that scenario.toml lists: {list}"),
            })
        }
        // Last: what fails otherwise may have used more for that very reason.
        0 => match (seen.chaos_owed, seen.exceeded) {
            (Some(message), _) => failed(Cause::Chaos { message }),
            (None, Some(message)) => failed(Cause::Check { message }),
            (None, None) => Outcome::Passed,
        },
        PANIC_EXIT_STATUS => {
            failed(Cause::Panic { message: seen.last_words.unwrap_or_else(|| "it wrote nothing".to_owned()) })
        }
        status => failed(Cause::ExitStatus { status, last_words: seen.last_words }),
    }
}

fn with_place(abort: &Abort) -> String {
    match &abort.location {
        // Behind the first line: what follows explains it.
        Some(location) => match abort.message.split_once('\n') {
            Some((first, more)) => format!("{first} at {location}\n{more}"),
            None => format!("{} at {location}", abort.message),
        },
        None => abort.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Asked, NotReady};
    use crate::record::{Attempt, CaseResult, Verdict};

    fn check(end: End, change: impl FnOnce(&mut Seen), expected: &str) {
        check_with(end, change, Vec::new(), expected);
    }

    fn check_with(end: End, change: impl FnOnce(&mut Seen), evidence: Vec<Evidence>, expected: &str) {
        let mut seen = Seen { hello: true, ..Seen::default() };
        change(&mut seen);
        let shown = match judge(end, seen, evidence) {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed { cause } => cause.to_string(),
            Outcome::Infrastructure { message, .. } => format!("infrastructure: {message}"),
            Outcome::Interrupted => "interrupted".to_owned(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_end_is_told_apart() {
        let abort = |kind| Some(Abort { kind, message: "no".into(), location: Some("main.rs:3".into()) });
        check(End::Exited(0), |_| (), "passed");
        check(End::Exited(7), |_| (), "the scenario's program ended with status 7 and wrote nothing");
        check(End::Signaled(9), |_| (), "the scenario's program was ended by signal 9");
        check(End::Exited(137), |_| (), "the scenario's program ended with status 137 and wrote nothing");
        check(End::Exited(101), |_| (), "panic: it wrote nothing");
        let words = |seen: &mut Seen| seen.last_words = Some("KeyError: 'k' at main.py:3".into());
        check(End::Exited(7), words, "KeyError: 'k' at main.py:3 (the scenario's program ended with status 7)");
        check(End::Exited(101), words, "exception: KeyError: 'k' at main.py:3");
        check(
            End::Exited(1),
            |seen| {
                words(seen);
                seen.abort = abort(AbortKind::Error);
            },
            "error: no at main.rs:3",
        );
        let long = |seen: &mut Seen| {
            let message = "exec in a ended with status 7: no\n  command: `x`".into();
            seen.abort = Some(Abort { kind: AbortKind::Error, message, location: Some("main.rs:3".into()) });
        };
        check(End::Exited(1), long, "error: exec in a ended with status 7: no at main.rs:3\n  command: `x`");
        check(End::Exited(101), |seen| seen.abort = abort(AbortKind::Panic), "panic: no at main.rs:3");
        check(End::Exited(1), |seen| seen.abort = abort(AbortKind::Error), "error: no at main.rs:3");
        check(End::Exited(1), |seen| seen.failed_check = Some("a == b".into()), "check failed: a == b");
        check(End::Exited(0), |seen| seen.failed_check = Some("a == b".into()), "check failed: a == b");
        let refuse = |seen: &mut Seen| seen.refused = Some("its request `chekc` was refused".into());
        check(End::Exited(0), refuse, "the scenario broke the protocol: its request `chekc` was refused");
        check(End::Exited(7), refuse, "the scenario's program ended with status 7 and wrote nothing");
        check(
            End::Exited(0),
            |seen| seen.hello = false,
            "the scenario broke the protocol: it ended without having sent `hello`",
        );
        check(
            End::Exited(0),
            |seen| seen.open = vec!["step load".into()],
            "the scenario broke the protocol: it ended in the middle of step load",
        );
        check(
            End::Exited(0),
            |seen| seen.unseen_defects = vec!["x-1/y".into()],
            "the scenario broke the protocol: it never checked known defects that scenario.toml lists: x-1/y",
        );
        check(
            End::Exited(0),
            |seen| seen.chaos_owed = Some("no fault took effect".into()),
            "the run with faults proves nothing: no fault took effect",
        );
        let given_up = |seen: &mut Seen| seen.failed_check = Some("a == b".into());
        check(End::GivenUp, given_up, "check failed: a == b");
        check(End::GivenUp, |seen| seen.abort = abort(AbortKind::Error), "error: no at main.rs:3");
        let exceed = |seen: &mut Seen| seen.exceeded = Some("sent_bytes of a <= 5 [sent_bytes = 6]".into());
        check(End::Exited(0), exceed, "check failed: sent_bytes of a <= 5 [sent_bytes = 6]");
        check(End::Exited(4), exceed, "the scenario's program ended with status 4 and wrote nothing");
        check(End::TimedOut(Duration::from_secs(3)), |_| (), "the scenario did not end within 3s and was killed");
        check(End::BrokeProtocol, |seen| seen.violation = Some("x".into()), "the scenario broke the protocol: x");
        let host = || vec![Evidence::Host("db ended".into())];
        check_with(End::Exited(1), |_| (), host(), "infrastructure: db ended");
        check_with(End::Interrupted, |_| (), host(), "interrupted");
    }

    /// Returns all orders of these pieces of evidence.
    fn orders(pieces: &[Evidence]) -> Vec<Vec<Evidence>> {
        if pieces.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (place, first) in pieces.iter().enumerate() {
            let rest: Vec<Evidence> = [&pieces[..place], &pieces[place + 1..]].concat();
            all.extend(orders(&rest).into_iter().map(|order| [vec![first.clone()], order].concat()));
        }
        all
    }

    #[test]
    fn nothing_that_comes_after_a_failed_check_turns_it_into_a_pass() {
        let ended = |init| Evidence::MachineEnded(Box::new(MachineEnd::example(init, Some(false))));
        let not_recovered = |asked| Evidence::NotRecovered {
            not_ready: Box::new(NotReady { container: "a".into(), asked, diagnosis: String::new() }),
            message: "after node.kill on a".into(),
        };
        let pieces = [
            Evidence::Scenario,
            not_recovered(Asked::No),
            not_recovered(Asked::Nothing),
            Evidence::Host("lxc-attach is gone".into()),
            ended(InitEnd::Exited(1)),
            ended(InitEnd::Signaled(9)),
            ended(InitEnd::Unknown),
        ];
        let ends =
            [End::Exited(0), End::Exited(1), End::Signaled(9), End::TimedOut(Duration::from_secs(1)), End::GivenUp];
        for order in orders(&pieces) {
            for end in ends {
                let seen = Seen { hello: true, failed_check: Some("coins".into()), ..Seen::default() };
                let outcome = judge(end, seen, order.clone());
                assert!(outcome.has_failure(), "{end:?} {order:?}: {outcome:?}");
                let first_failed = matches!(outcome, Outcome::Failed { .. });
                let is_hosts = |piece: &Evidence| match piece {
                    Evidence::MachineEnded(end) => blame::of_end(end) == Blame::Host,
                    Evidence::NotRecovered { not_ready, .. } => blame::of_not_recovered(not_ready) == Blame::Host,
                    piece => matches!(piece, Evidence::Host(_)),
                };
                assert_eq!(first_failed, !is_hosts(&order[0]), "{order:?}: {outcome:?}");
                // Whatever comes of later attempts, the case is no clean pass.
                let attempt = |outcome| Attempt { outcome, duration_ms: 1.0, folder: String::new(), faults: None };
                let case = CaseResult::judge(CaseId("c".into()), vec![attempt(outcome), attempt(Outcome::Passed)]);
                assert_eq!(case.verdict, Verdict::Flaky);
            }
        }
    }

    #[test]
    fn a_host_that_fails_before_the_check_takes_the_blame_and_keeps_the_check() {
        let seen = || Seen { hello: true, failed_check: Some("coins".into()), ..Seen::default() };
        let (host, scenario) = (Evidence::Host("no memory".into()), Evidence::Scenario);
        let outcome = judge(End::Exited(1), seen(), vec![host.clone(), scenario.clone()]);
        let failed_check = Some("coins".to_owned());
        assert_eq!(outcome, Outcome::Infrastructure { message: "no memory".into(), host_cause: None, failed_check });
        let outcome = judge(End::Exited(1), seen(), vec![scenario, host]);
        assert_eq!(outcome, Outcome::Failed { cause: Cause::Check { message: "coins".into() } });
    }
}
