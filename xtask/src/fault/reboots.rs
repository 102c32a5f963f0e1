//! Work on a container that may reboot by itself meanwhile: that is the product's doing, and no failure of the host.

use crate::error::Error;
use crate::lab::{Container, Lab, Outage};

/// Maximum number of attempts at a piece of work on a container that reboots during each.
const TRIES_MAX: u32 = 3;

/// Error of a container that did not stay up long enough for the work on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{container} does not stay up: it has rebooted by itself, {reboots} times until now in this lab")]
pub struct Reboots {
    pub container: String,
    pub reboots: u64,
}

impl Reboots {
    /// Returns the error for a container, with its number of reboots until now.
    pub(super) fn of(container: &Container) -> Self {
        Self { container: container.machine().name.clone(), reboots: container.reboots() }
    }
}

/// Error of a fault without effect that could not be taken back completely: no other conclusion may be drawn from the error below it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it could not be taken back completely ({0})")]
pub(super) struct NotTakenBack(pub(super) String);

/// Does `work` on a container; where that fails because of a reboot, once more when the container is ready again.
///
/// # Errors
/// [`Reboots`] where the container reboots each time.
pub(super) fn despite_reboots<T>(
    lab: &Lab,
    container: &Container,
    mut work: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    for _ in 0..TRIES_MAX {
        let reboots = container.reboots();
        match work() {
            Err(error) if may_be_of_reboot(&error) && has_rebooted(lab, container, reboots, &error) => {}
            done => return done,
        }
        lab.wait_until_it_runs(container)?;
        // One that is not ready in time is asked all the same.
        let _ = lab.wait_until_ready_again(container, None, &|| container.reboots() > reboots + 1);
    }
    Err(Reboots::of(container).into())
}

/// Tells whether a reboot may explain an error. It explains neither an outage by another fault nor damage that could not be taken back.
fn may_be_of_reboot(error: &anyhow::Error) -> bool {
    !error.is::<NotTakenBack>() && !error.chain().any(<dyn std::error::Error>::is::<Outage>)
}

/// Tells whether a container has rebooted since it had this number of reboots, or is about to. Waits for signs of that, but not after an
/// error that no reboot explains: a parameter that names nothing, or a failure of the host while the services are not ending.
fn has_rebooted(lab: &Lab, container: &Container, reboots: u64, error: &anyhow::Error) -> bool {
    let of_kind = |wanted: fn(&Error) -> bool| error.chain().any(|cause| cause.downcast_ref().is_some_and(wanted));
    let is_usage = of_kind(|error| matches!(error, Error::Usage(_)));
    let is_of_host = of_kind(|error| matches!(error, Error::Host { .. }));
    let may_come = !is_usage && (!is_of_host || lab.is_going_down(container));
    container.reboots() > reboots || (may_come && lab.has_rebooted_since(container, reboots))
}
