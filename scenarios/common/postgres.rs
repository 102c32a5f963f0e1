//! PostgreSQL on db, asked on the machine itself.

use e2e::{Container, Result};

/// What a command of psql's prints, unaligned and without headers.
///
/// # Errors
/// When it fails, or cannot be run.
pub fn psql(db: &Container, database: &str, command: &str) -> Result<String> {
    let argv = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", command];
    Ok(db.command(argv).user("postgres").run()?.success()?.stdout_text()?.to_owned())
}
