//! Queries to PostgreSQL on db, run on db itself.

use anyhow::Context as _;
use e2e::{Container, Result};
use serde::de::DeserializeOwned;

/// Returns the output of a psql command, unaligned and without headers.
pub fn psql(db: &Container, database: &str, command: &str) -> Result<String> {
    let argv = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", command];
    Ok(db.command(argv).user("postgres").run()?.success()?.stdout_text()?.to_owned())
}

/// Returns the rows of a query, deserialized by the names of their columns.
pub fn rows<T: DeserializeOwned>(db: &Container, database: &str, query: &str) -> Result<Vec<T>> {
    let found = psql(db, database, &format!("SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found"))?;
    serde_json::from_str(&found).with_context(|| format!("reading the rows of {query}"))
}
