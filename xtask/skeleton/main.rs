//! A machine reads the file that it was given. Tell your own story here: who does what, and what must come of it.

use std::process::ExitCode;

use e2e::{Lab, Result, check};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let machine = lab.container("{container}")?;

    // A step is a stretch with a name: the log has when it began and how it ended.
    lab.step("lay the fixture out", || machine.put(lab.fixture("greeting.txt"), "/tmp/greeting.txt"))?;

    // An operation is measured: its samples go to performance.json. The name is snake_case, unique in the scenario.
    let read = lab.measure("read_greeting", || machine.exec(["cat", "/tmp/greeting.txt"])?.success())?;

    // A check compares with what is known from elsewhere. When it fails, the run shows both values and this line.
    let expected = std::fs::read_to_string(lab.fixture("greeting.txt"))?;
    check!(read.stdout_text()? == expected, "the machine has the fixture, byte for byte");
    Ok(())
}
