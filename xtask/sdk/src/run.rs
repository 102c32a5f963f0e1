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
