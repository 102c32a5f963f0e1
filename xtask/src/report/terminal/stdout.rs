//! Standard output, where results go. A write error does not end the verb at once: it is kept, and reported at the verb's end with exit
//! code 3. A closed pipe is no error.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;

/// First error of writing to standard output in this process.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Prints a line to standard output; unlike the macro of the standard library, it does not panic if the write fails.
macro_rules! print_line {
    ($($words:tt)*) => { $crate::report::terminal::write_line(::std::format_args!($($words)*)) };
}
pub(crate) use print_line as println;

/// Writes a line to standard output. An error is kept for [`check_stdout`].
pub fn write_line(line: fmt::Arguments<'_>) {
    if FAILURE.get().is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(line).and_then(|()| out.write_all(b"\n")) {
        let _ = FAILURE.set(error);
    }
}

/// Checks that everything was written to standard output. A closed pipe is no error: its reader has ended early, as `head` does.
pub fn check_stdout() -> anyhow::Result<()> {
    if let Err(error) = io::stdout().flush() {
        let _ = FAILURE.set(error);
    }
    match FAILURE.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("writing to standard output: {error}"))
        }
        _ => Ok(()),
    }
}
