//! Waits of a scenario: for a condition in a machine, as long as it can come true.

use e2e_contract::{ErrorCode, RpcError, Wait, Waited};

use super::requests::asked;
use super::state::{Answer, Session};
use crate::lab::{Circumstances, Nearness, WaitError, is_no_condition};
use crate::record::milliseconds;

impl Session {
    /// `wait`
    pub(super) fn wait(&self, wait: &Wait) -> Answer<Waited> {
        let container = self.container(&wait.container)?;
        if let Some(problem) = is_no_condition(&wait.condition) {
            return Err(RpcError::new(ErrorCode::InvalidParams, format!("{}: {problem}", wait.condition)));
        }
        let circumstances = Circumstances {
            network: self.lab.network(),
            streams_dir: self.lab.streams_dir(),
            interrupted: &|| self.shall_stop(),
            settled: &|| self.changes_when_settled(),
            nearness: Nearness::Ready,
        };
        match container.wait_for(&wait.condition, asked(wait.deadline_ms), &circumstances) {
            Ok(duration) => Ok(Waited { duration_ms: milliseconds(duration) }),
            Err(error @ (WaitError::Deadline { .. } | WaitError::Never { .. })) => {
                Err(RpcError::new(ErrorCode::Deadline, error.to_string()))
            }
            Err(error @ WaitError::Interrupted) => Err(RpcError::new(ErrorCode::Interrupted, error.to_string())),
            Err(error) => Err(self.infrastructure(&anyhow::Error::new(error))),
        }
    }

    /// Number of changes that the scenario has asked for; absent while something of the session may still change a machine.
    fn changes_when_settled(&self) -> Option<u64> {
        let is_broken = self.chaos.plays() || self.faults.any_is_on();
        self.under_way().changes().filter(|_| !is_broken)
    }
}
