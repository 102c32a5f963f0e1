//! Scenario that measures an exec from the scenario's side; the engine's benchmark reads the samples.

use std::process::ExitCode;

use e2e::{Lab, Result};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let a = lab.container("a")?;
    lab.measure_n("exec", 20, || {
        a.exec(["/bin/true"])?.success()?;
        Ok(())
    })?;
    Ok(())
}
