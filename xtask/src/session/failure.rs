//! Failures of requests. Only here is a failure turned into the code of an answer and, where the host or a machine is to blame, into
//! evidence.

use std::io::ErrorKind;

use e2e_contract::{ErrorCode, RpcError};

use super::blame::Evidence;
use super::state::Session;
use crate::fault::{FaultError, FaultFailure};
use crate::host::exec::shell::{CommandError, Problem};
use crate::lab::{Container, ExecError, PictureError, WaitError};

/// Failure of a request.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// Failure with the code and the message of its answer.
    Of(ErrorCode, String),
    /// Failure for which the request or the container is to blame, unless a machine has ended meanwhile; with its message.
    Refused(String),
}

impl RequestFailure {
    /// Returns the failure to read or write a file in a container. Whatever the reason, the request is to blame: it has named the file.
    pub fn of_file(error: ExecError) -> Self {
        match error {
            ExecError::Outage(outage) => Self::Of(ErrorCode::Unavailable, outage.to_string()),
            error => Self::Refused(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

/// Conversion of any other error, which is a failure of the infrastructure.
impl From<anyhow::Error> for RequestFailure {
    fn from(error: anyhow::Error) -> Self {
        Self::Of(ErrorCode::Infrastructure, format!("{error:#}"))
    }
}

impl From<ExecError> for RequestFailure {
    fn from(error: ExecError) -> Self {
        match &error {
            ExecError::Outage(_) => Self::of_file(error),
            ExecError::Ended(end) => Self::Of(ErrorCode::MachineEnded, end.to_string()),
            // Refused by the kernel for the length of the command line or of the environment.
            ExecError::Command(CommandError { problem: Problem::Start(start), .. })
                if start.kind() == ErrorKind::ArgumentListTooLong =>
            {
                Self::of_file(error)
            }
            ExecError::Command(_) | ExecError::Other(_) => anyhow::Error::from(error).into(),
        }
    }
}

impl From<FaultError> for RequestFailure {
    fn from(error: FaultError) -> Self {
        let code = match &error.kind {
            FaultFailure::Usage => ErrorCode::InvalidParams,
            FaultFailure::Outage | FaultFailure::Reboots => ErrorCode::Unavailable,
            FaultFailure::Ended => ErrorCode::MachineEnded,
            FaultFailure::NotReady(wait) => of_wait(wait),
            FaultFailure::Host | FaultFailure::NotTakenBack | FaultFailure::Other => ErrorCode::Infrastructure,
        };
        Self::Of(code, error.to_string())
    }
}

impl From<PictureError> for RequestFailure {
    fn from(error: PictureError) -> Self {
        let message = error.to_string();
        match error {
            PictureError::Deadline { .. } => Self::Of(ErrorCode::Deadline, message),
            PictureError::Interrupted => Self::Of(ErrorCode::Interrupted, message),
            PictureError::Url { .. } | PictureError::Page { .. } => Self::Refused(message),
            PictureError::Outage(_) => Self::Of(ErrorCode::Unavailable, message),
            PictureError::Host(error) => error.into(),
        }
    }
}

impl From<WaitError> for RequestFailure {
    fn from(error: WaitError) -> Self {
        Self::Of(of_wait(&error), error.to_string())
    }
}

fn of_wait(error: &WaitError) -> ErrorCode {
    match error {
        WaitError::Deadline { .. } | WaitError::Never { .. } => ErrorCode::Deadline,
        WaitError::Interrupted => ErrorCode::Interrupted,
        WaitError::Ended { .. } => ErrorCode::MachineEnded,
        WaitError::NotLooked { .. } => ErrorCode::Infrastructure,
    }
}

impl Session {
    /// Returns the answer to a request that has failed. Evidence of a machine's end is filed before evidence of a failing host, so that a
    /// failure caused by the end does not count as the host's.
    pub(super) fn answer_to(&self, failure: impl Into<RequestFailure>) -> RpcError {
        let (code, message) = match failure.into() {
            RequestFailure::Of(code @ (ErrorCode::MachineEnded | ErrorCode::Infrastructure), message) => {
                self.notice_ends();
                (code, message)
            }
            RequestFailure::Of(code, message) => (code, message),
            RequestFailure::Refused(message) => {
                self.notice_ends();
                let has_ended = self.lab.containers().iter().any(Container::is_dead);
                (if has_ended { ErrorCode::MachineEnded } else { ErrorCode::InvalidParams }, message)
            }
        };
        if code == ErrorCode::Infrastructure && !self.is_closed() {
            let place = self.under_way.location().map_or_else(String::new, |place| format!("\nasked for at {place}"));
            self.evidence.push(Evidence::Host(format!("{message}{place}")));
        }
        RpcError::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;
    use e2e_contract::Condition;

    use super::*;
    use crate::error::Error;
    use crate::host::container::lxc::InitEnd;
    use crate::host::exec::shell::Command;
    use crate::lab::{MachineEnd, Outage};

    fn code(failure: impl Into<RequestFailure>) -> Option<ErrorCode> {
        match failure.into() {
            RequestFailure::Of(code, _) => Some(code),
            RequestFailure::Refused(_) => None,
        }
    }

    fn outage() -> Outage {
        Outage { container: "a".into(), cause: "node.kill".into(), frozen: false }
    }

    fn end() -> MachineEnd {
        MachineEnd::example(InitEnd::Exited(0), Some(false))
    }

    #[test]
    fn a_command_line_that_is_too_long_is_told_from_a_host_that_fails() {
        let start = |program: &str, argument: String| {
            ExecError::Command(Command::new(program).arg(argument).run().unwrap_err())
        };
        assert_eq!(code(start("true", "x".repeat(1 << 20))), None);
        assert_eq!(code(start("no-such-program-here", String::new())), Some(ErrorCode::Infrastructure));
        assert_eq!(code(start("false", String::new())), Some(ErrorCode::Infrastructure));
    }

    #[test]
    fn a_program_that_a_fault_or_an_end_keeps_from_running_is_no_failure_of_the_host() {
        assert_eq!(code(ExecError::Outage(outage())), Some(ErrorCode::Unavailable));
        assert_eq!(code(ExecError::Ended(end())), Some(ErrorCode::MachineEnded));
        assert_eq!(code(RequestFailure::of_file(ExecError::Outage(outage()))), Some(ErrorCode::Unavailable));
        assert_eq!(code(RequestFailure::of_file(ExecError::Other(anyhow!("no such file")))), None);
    }

    #[test]
    fn a_faults_failure_is_answered_by_its_kind_below_all_contexts() {
        let of = |error: anyhow::Error| code(FaultError::from(error.context("it has no effect").context("on a")));
        assert_eq!(of(Error::Usage("no such unit".into()).into()), Some(ErrorCode::InvalidParams));
        assert_eq!(of(outage().into()), Some(ErrorCode::Unavailable));
        assert_eq!(of(end().into()), Some(ErrorCode::MachineEnded));
        assert_eq!(of(anyhow!("the rule is gone")), Some(ErrorCode::Infrastructure));
        let host = Error::Host { problem: "no tc".into(), help: "install it".into() };
        assert_eq!(of(host.into()), Some(ErrorCode::Infrastructure));
        let mut left = FaultError::from(Error::Usage("it is down".into()));
        left.kind = FaultFailure::NotTakenBack;
        assert_eq!(code(left), Some(ErrorCode::Infrastructure), "damage is left, whatever the injection failed by");
    }

    #[test]
    fn a_wait_that_the_machine_has_ended_is_told_from_one_that_was_not_looked_at() {
        let condition = Condition::Tcp(80);
        let (container, deadline) = ("a".to_owned(), Duration::from_secs(1));
        let late = WaitError::Deadline {
            container: container.clone(),
            condition: condition.clone(),
            deadline,
            last: Box::default(),
        };
        assert_eq!(code(late), Some(ErrorCode::Deadline));
        let ended = WaitError::Ended { end: Box::new(end()), condition: condition.clone() };
        assert_eq!(code(ended), Some(ErrorCode::MachineEnded));
        let not_looked = WaitError::NotLooked { container, condition, reason: "no lxc-attach".into() };
        assert_eq!(code(not_looked), Some(ErrorCode::Infrastructure));
    }
}
