//! Faults that a scenario injects and heals.

use std::panic::Location;
use std::sync::Arc;

use e2e_contract::{Fault, FaultHeal, FaultInject};

use crate::connection::{Connection, shown};
use crate::{Container, Result};

/// Injected fault, whose effect the engine has verified. It is healed when dropped; an error while healing fails the case.
///
/// ```no_run
/// # use e2e::{Fault, Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// let cut = lab.container("db")?.inject(Fault::NetIsolate)?;
/// lab.log(cut.evidence());
/// cut.heal()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it is healed at once"]
pub struct InjectedFault {
    connection: Arc<Connection>,
    number: u64,
    evidence: String,
    /// Place in the scenario that injected the fault.
    location: String,
    healed: bool,
}

impl InjectedFault {
    /// Returns the observed effect, in words.
    #[must_use]
    pub fn evidence(&self) -> &str {
        &self.evidence
    }

    /// Heals the fault, waits until its effect is verified to be gone, and returns the observation. A container that is started again can
    /// run programs by then; its services may take longer, so wait for them.
    ///
    /// # Errors
    /// When the effect does not go away.
    #[track_caller]
    pub fn heal(mut self) -> Result<String> {
        self.healed = true;
        Ok(self.connection.call(&FaultHeal { fault: self.number })?.evidence)
    }
}

impl Drop for InjectedFault {
    fn drop(&mut self) {
        if !self.healed {
            // The engine records what it cannot heal.
            let _ = self.connection.call_from(&self.location, &FaultHeal { fault: self.number });
        }
    }
}

impl Container {
    /// Injects a fault into this container or its network, and waits until its effect is verified: `let cut =
    /// db.inject(Fault::NetIsolate)?`.
    ///
    /// # Errors
    /// When this host cannot inject the fault, or the fault has no effect.
    #[track_caller]
    pub fn inject(&self, fault: Fault) -> Result<InjectedFault> {
        let injected = self.ask(&FaultInject { container: self.name().to_owned(), fault })?;
        let (number, evidence) = (injected.fault, injected.evidence);
        let location = shown(Location::caller());
        Ok(InjectedFault { connection: self.connection(), number, evidence, location, healed: false })
    }
}
