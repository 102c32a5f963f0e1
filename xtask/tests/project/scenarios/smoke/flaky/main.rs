//! Scenario that fails as long as the file named by `SELFTEST_MARKER` does not exist, and makes it.

use std::process::ExitCode;

use anyhow::Context as _;
use e2e::{Lab, Result, check};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let marker = std::env::var_os("SELFTEST_MARKER")
        .context("set SELFTEST_MARKER to a path that does not exist yet and that this user may write")?;
    lab.container("a")?.exec(["true"])?.success()?;
    let tried_before = std::fs::exists(&marker)?;
    std::fs::write(&marker, "tried").with_context(|| format!("writing {}", marker.display()))?;
    check!(tried_before, "the second try passes");
    Ok(())
}
