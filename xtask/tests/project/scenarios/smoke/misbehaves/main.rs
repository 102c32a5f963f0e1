//! Scenario that ends badly in the way that its case names.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{Lab, Result, check};
use nix::sys::signal::{Signal, raise};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let a = lab.container("a")?;
    lab.step("misbehave", || match lab.case() {
        "check_fails" => {
            let rows = a.exec(["echo", "19999"])?.success()?.stdout_text()?.trim().parse::<u64>()?;
            check!(rows == 20_000, "every row was loaded");
            Ok(())
        }
        "error" => {
            a.sh("echo half of it; echo 'no such table' >&2; exit 3")?.success().context("counting rows")?;
            Ok(())
        }
        "panic" => lab.measure("unlucky", || panic!("this scenario panics")),
        "exit_7" => std::process::exit(7),
        "killed" => Ok(raise(Signal::SIGKILL)?),
        "hangs" => loop {
            std::thread::park();
        },
        "hangs_in_exec" => {
            a.command(["sleep", "54321"]).deadline(Duration::from_secs(54_321)).run()?;
            Ok(())
        }
        other => bail!("there is no case {other}"),
    })
}
