//! Scenario that injects several faults at once, heals none, and never ends.

use std::process::ExitCode;

use e2e::{Fault, Lab, Result};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    let _faults = [
        a.inject(Fault::DiskFull { path: "/data".into(), free_bytes: 0 })?,
        a.inject(Fault::NetDelay { delay_ms: 30, jitter_ms: 5, reorder_percent: 0 })?,
        a.inject(Fault::NetRate { kilobits_per_second: 500 })?,
        b.inject(Fault::NetIsolate)?,
        a.inject(Fault::NodeFreeze)?,
        b.inject(Fault::NodeKill)?,
    ];
    lab.log("everything is broken");
    loop {
        std::thread::park();
    }
}
