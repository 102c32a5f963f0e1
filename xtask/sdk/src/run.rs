//! Process of a scenario, from its start to its exit status.

use std::os::unix::net::UnixStream;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use e2e_contract::{Abort, AbortKind, PANIC_EXIT_STATUS, SOCKET_VARIABLE};

use crate::check::CheckFailed;
use crate::connection::OF_THIS_PROCESS;
use crate::error::chain;
use crate::patience::scaled;
use crate::{Error, ExecFailed, Lab, RequestError, Result};

/// Maximum time for which a dying process waits for the engine to record the reason, and to take screenshots of the scenario's pages.
const ABORT_PATIENCE: Duration = Duration::from_secs(65);

/// Exit status of a scenario that was started without an engine.
const EXIT_NO_ENGINE: u8 = 2;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs a scenario in the lab that the engine made for it. Call it once, from `main`.
///
/// Exit status: 0 when the scenario returned `Ok` and no thread panicked; 1 for an error, a failed
/// [`check!`](crate::check) or a lost engine; 101 for a panic; 2 when there is no engine, because the program was
/// started by hand. When the engine goes away, the process ends at once.
///
/// ```no_run
/// use e2e::{Lab, Result};
///
/// fn main() -> std::process::ExitCode {
///     e2e::run(scenario)
/// }
///
/// fn scenario(lab: &Lab) -> Result {
///     lab.container("app")?.exec(["true"])?.success()?;
///     Ok(())
/// }
/// ```
pub fn run(scenario: impl FnOnce(&Lab) -> Result) -> ExitCode {
    Scenario::new(scenario).run()
}

/// Scenario with the function that tries its known defects alone, for `cargo xtask defects`.
///
/// ```no_run
/// use e2e::{Lab, Result, Scenario, failing_with};
///
/// fn main() -> std::process::ExitCode {
///     Scenario::new(scenario).defects(probes).run()
/// }
///
/// fn scenario(lab: &Lab) -> Result {
///     lab.step("what the product does wrong", || probes(lab))?;
///     lab.container("app")?.exec(["product", "work"])?.success()?;
///     Ok(())
/// }
///
/// fn probes(lab: &Lab) -> Result {
///     lab.known_defect("product-1.0/no-table", failing_with("has no table"), |mark| {
///         let table = lab.container("app")?.exec(["product", "table"])?.success()?;
///         mark.observed(table.stdout_text()?);
///         Ok(())
///     })
/// }
/// ```
#[must_use]
pub struct Scenario<'a> {
    scenario: Body<'a>,
    defects: Option<Body<'a>>,
}

/// Function that a scenario's program runs in the lab.
type Body<'a> = Box<dyn FnOnce(&Lab) -> Result + 'a>;

impl<'a> Scenario<'a> {
    /// Makes a scenario of this function.
    pub fn new(scenario: impl FnOnce(&Lab) -> Result + 'a) -> Self {
        Self { scenario: Box::new(scenario), defects: None }
    }

    /// Names the function that tries all known defects which `scenario.toml` lists, in a new lab and without anything else. In a usual run
    /// it is not called by itself: the scenario calls it where it fits.
    pub fn defects(self, probes: impl FnOnce(&Lab) -> Result + 'a) -> Self {
        Self { defects: Some(Box::new(probes)), ..self }
    }

    /// Runs the scenario, or its known defects alone, as the engine asks; see [`run`].
    pub fn run(self) -> ExitCode {
        play(|lab| self.body(lab)?(lab))
    }

    /// Returns the function that the engine asks for.
    fn body(self, lab: &Lab) -> Result<Body<'a>> {
        if !lab.is_for_defects_only() {
            return Ok(self.scenario);
        }
        self.defects.with_context(|| {
            format!(
                "{} names no function that tries its known defects alone: write \
                 `e2e::Scenario::new(scenario).defects(probes).run()` in `main`",
                lab.scenario()
            )
        })
    }
}

impl std::fmt::Debug for Scenario<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("defects", &self.defects.is_some()).finish_non_exhaustive()
    }
}

fn play(scenario: impl FnOnce(&Lab) -> Result) -> ExitCode {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else {
        say(&format!(
            "this is a scenario of the e2e engine and needs a lab: run it with `cargo xtask e2e {}`",
            program_name()
        ));
        return ExitCode::from(EXIT_NO_ENGINE);
    };
    let lab = match join(Path::new(&socket)) {
        Ok(lab) => lab,
        Err(error) => {
            say(&format!("the engine did not accept this scenario: {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let _ = OF_THIS_PROCESS.set(lab.connection());
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell_of_panic(info);
        default_hook(info);
    }));
    match scenario(&lab) {
        Ok(()) if PANICKED.load(Ordering::SeqCst) => ExitCode::from(PANIC_EXIT_STATUS as u8),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&chain(&error));
            if !error.chain().any(<dyn std::error::Error>::is::<CheckFailed>) {
                abort(AbortKind::Error, chain(&error), location(&error));
            }
            ExitCode::FAILURE
        }
    }
}

fn join(socket: &Path) -> Result<Lab> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    Lab::join(stream, end_at_once)
}

/// Ends the process: without the engine the lab is removed, and the process can do nothing useful.
fn end_at_once(reason: &str) {
    say(&format!("the scenario ends here, the engine is gone: {reason}"));
    std::process::exit(1);
}

/// Reports the first panic to the engine; later ones that follow from it (of a scope whose thread panicked) say nothing new.
fn tell_of_panic(info: &PanicHookInfo<'_>) {
    if PANICKED.swap(true, Ordering::SeqCst) {
        return;
    }
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is not text".into());
    let location = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
    abort(AbortKind::Panic, message, location);
}

/// Reports to the engine why the scenario ends. Errors are ignored: the reason is in stderr too.
fn abort(kind: AbortKind, message: String, location: Option<String>) {
    if let Some(connection) = OF_THIS_PROCESS.get() {
        let _ = connection.call_within(&Abort { kind, message, location }, scaled(ABORT_PATIENCE));
    }
}

/// Returns the place in the scenario of the failed request or program.
fn location(error: &Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let request = cause.downcast_ref::<RequestError>().and_then(RequestError::location);
        request.or_else(|| cause.downcast_ref::<ExecFailed>().map(ExecFailed::location)).map(str::to_owned)
    })
}

fn program_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_name().map_or_else(|| "NAME".into(), |name| name.to_string_lossy().into_owned())
}

#[expect(clippy::print_stderr, reason = "stderr is the scenario's log")]
fn say(message: &str) {
    eprintln!("{message}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lab::told;

    fn played(defects_only: bool, scenario: Scenario<'_>) -> String {
        let (mut lab, _) = told::lab(|_, _| Ok(json!({})));
        lab.set_for_defects_only(defects_only);
        let played = scenario.body(&lab).and_then(|body| body(&lab));
        played.map_or_else(|error| error.to_string(), |()| "passed".to_owned())
    }

    #[test]
    fn the_engine_chooses_between_the_scenario_and_its_probes() {
        let scenario = || Scenario::new(|_| Err(Error::msg("the scenario ran")));
        let both = || scenario().defects(|_| Err(Error::msg("the probes ran")));
        assert_eq!(played(false, scenario()), "the scenario ran");
        assert_eq!(played(false, both()), "the scenario ran");
        assert_eq!(played(true, both()), "the probes ran");
        assert_eq!(
            played(true, scenario()),
            "smoke/peer names no function that tries its known defects alone: write \
             `e2e::Scenario::new(scenario).defects(probes).run()` in `main`"
        );
    }
}
