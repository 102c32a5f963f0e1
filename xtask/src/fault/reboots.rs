//! Work on a container that may reboot by itself meanwhile. Such a reboot is caused by the product, and is no failure of the host.

use super::failure::{FaultError, FaultFailure};
use crate::lab::{Container, Lab};

/// Maximum number of attempts at a piece of work on a container that reboots during each.
const TRIES_MAX: u32 = 3;

/// Returns the error of a container that did not stay up long enough for the work on it.
pub(super) fn does_not_stay_up(container: &Container) -> FaultError {
    let (name, reboots) = (&container.machine().name, container.reboots());
    let message = format!("{name} does not stay up: it has rebooted by itself, {reboots} times until now in this lab");
    FaultError::new(FaultFailure::Reboots, message)
}

/// Does `work` on a container; where the work fails because of a reboot, repeats it when the container is ready again.
///
/// # Errors
/// [`FaultFailure::Reboots`] where the container reboots each time; else that of `work`.
pub(super) fn despite_reboots<T>(
    lab: &Lab,
    container: &Container,
    mut work: impl FnMut() -> Result<T, FaultError>,
) -> Result<T, FaultError> {
    for _ in 0..TRIES_MAX {
        let reboots = container.reboots();
        match work() {
            Err(error) if is_of_reboot(lab, container, reboots, &error.kind) => {}
            done => return done,
        }
        lab.wait_until_it_runs(container)?;
        // One that is not ready in time is asked all the same.
        let _ = lab.wait_until_ready_again(container, None, &|| container.reboots() > reboots + 1);
    }
    Err(does_not_stay_up(container))
}

/// Tells whether a failure is explained by a reboot of its container after the first `reboots` ones, or by one that is about to come. Waits
/// for signs of a coming reboot, except for failures that no reboot would explain: a parameter that names nothing, or a failure of the host
/// while the services are not ending. No reboot explains an outage by another fault, or damage that could not be taken back.
fn is_of_reboot(lab: &Lab, container: &Container, reboots: u64, failure: &FaultFailure) -> bool {
    let may_come = match failure {
        FaultFailure::Outage | FaultFailure::NotTakenBack => return false,
        FaultFailure::Usage => false,
        FaultFailure::Host => lab.is_going_down(container),
        FaultFailure::Reboots | FaultFailure::Ended | FaultFailure::NotReady(_) | FaultFailure::Other => true,
    };
    container.reboots() > reboots || (may_come && lab.has_rebooted_since(container, reboots))
}
