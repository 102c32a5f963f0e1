//! Entry point of the engine: parses the command line, runs the verb, prints an error, exits.

use std::io::Write as _;
use std::process::ExitCode;

use xtask::cli::{Cli, error_text};
use xtask::error::Error;
use xtask::host::exec::descriptors;
use xtask::program;

fn main() -> ExitCode {
    descriptors::hand_on_no_files();
    // Whatever the user's own is: the scenario's user must find the way through the folders below /run.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    program::called(std::env::args_os().next().as_deref());
    match Cli::typed().run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Where nobody can be told any more, the exit code is all that is left to say.
            let _ = writeln!(std::io::stderr(), "{}", error_text(&error));
            ExitCode::from(Error::exit_code(&error))
        }
    }
}
