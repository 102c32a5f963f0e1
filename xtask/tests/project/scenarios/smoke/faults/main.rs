//! Scenario of every fault that a machine of busybox can have, and of its observable effects.

mod bounds;
mod disks;
mod machines;
mod network;

use std::process::ExitCode;
use std::time::Duration;

use bounds::{counts, healed_blindly, memory, outlives, processors};
use disks::{disks, files, system_calls};
use e2e::{Container, Direction, Fault, Lab, Partition, Port, Result, check, failing_with};
use machines::{machines, processes, programs, refusal, restarts};
use network::{healed_without_programs, links, several_at_once};

/// Deadline that is longer than any answer takes without a fault.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    lab.known_defect("selftest-1/known", failing_with("1 + 1 == 3"), |_| {
        check!(1 + 1 == 3);
        Ok(())
    })?;
    serve(&b)?;
    match lab.case() {
        "links" => links(lab, &a, &b),
        "links_together" => {
            lab.step("several at once", || several_at_once(lab, &a, &b))?;
            lab.step("healed on a machine that does nothing", || healed_without_programs(lab, &a, &b))
        }
        "disks" => {
            let c = lab.container("c")?;
            lab.step("disks", || disks(lab, &b, &c))?;
            lab.step("system calls", || system_calls(lab, &b))
        }
        "bounds" => {
            lab.step("memory", || memory(lab, &b))?;
            lab.step("processors", || processors(lab, &b))?;
            lab.step("counts", || counts(lab, &b))?;
            lab.step("what outlives a restart", || outlives(lab, &b))?;
            lab.step("what is healed in a machine that runs nothing", || healed_blindly(&b))
        }
        "left_to_the_engine" => leave_broken(&a, &b),
        _ => {
            lab.step("machines", || machines(lab, &a, &b))?;
            lab.step("restarts", || restarts(lab, &a, &b))?;
            lab.step("processes", || processes(lab, &b))?;
            lab.step("programs", || programs(lab, &b))?;
            lab.step("files and volumes", || files(&b))?;
            lab.step("bad parameters", || refused(&b))
        }
    }
}

/// Starts a server on b with a page that a can read.
pub fn serve(b: &Container) -> Result {
    b.write("/tmp/pages/page.txt", "a page of b\n")?;
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    b.wait_for(Port(80))?;
    Ok(())
}

pub fn reads(a: &Container) -> Result<bool> {
    let read = a.command(["wget", "-q", "-O", "-", "http://b/page.txt"]).deadline(Duration::from_secs(1)).run()?;
    Ok(read.status == 0 && read.stdout() == b"a page of b\n")
}

/// Kills a machine and starts it again.
pub fn restart(container: &Container) -> Result {
    container.inject(Fault::NodeKill)?.heal()?;
    Ok(())
}

fn refused(b: &Container) -> Result {
    let refusal = |fault: Fault| refusal(b, fault);
    let message = refusal(Fault::DiskFull { path: "/tmp".into(), free_bytes: 0 });
    check!(message.contains("lies on no volume; the volumes of its template: /data"));
    let message = refusal(Fault::DiskDead { path: "/data".into() });
    check!(message.contains("lies in memory"));
    let message = refusal(Fault::IoError { command: "init".into(), call: "no_such_call".into(), error: "EIO".into() });
    check!(message.contains("invalid system call"));
    let message = refusal(Fault::FileBitflip { path: "/no/such/file".into(), offset: 0, bit: 0 });
    check!(message.contains("/no/such/file"));
    let message = refusal(Fault::FileBitflip { path: "/data/file".into(), offset: 1 << 20, bit: 0 });
    check!(message.contains("no bit 0 of byte 1048576"));
    let message = refusal(Fault::NetPartition { shape: Partition::Ring });
    check!(message.contains("a ring needs at least 4 containers"));
    let message = refusal(Fault::NetOneway { lost: Direction::Inbound, peer: Some("x".into()) });
    check!(message.contains("x is no other container of the lab; the others are: a"));
    for (fault, range) in [
        (Fault::NetLoss { percent: 0 }, "1 to 100"),
        (Fault::NetNthLoss { every: 1 }, "2 to 10000"),
        (Fault::NetDuplicate { percent: 101 }, "1 to 100"),
        (Fault::NetCorrupt { percent: 0 }, "1 to 100"),
        (Fault::NetMtuHole { bytes: 1500 }, "68 to 1499"),
        (Fault::NetFlap { down_ms: 49, up_ms: 50 }, "50 to 60000"),
        (Fault::NetPortBlock { port: 0 }, "1 to 65535"),
        (Fault::NetReset { port: Some(0) }, "1 to 65535"),
    ] {
        check!(refusal(fault).contains(range));
    }
    let lossy = b.inject(Fault::NetLoss { percent: 50 })?;
    check!(refusal(Fault::NetLoss { percent: 10 }).contains("already"), "the same twice");
    lossy.heal()?;
    let message = refusal(Fault::ProcessKill { command: "no such process".into() });
    check!(message.contains("no process of b has \"no such process\" in its command"));
    Ok(())
}

/// Injects faults and heals none: the engine has to heal them before it collects the logs.
fn leave_broken(a: &Container, b: &Container) -> Result {
    for fault in [Fault::MemoryLimit { bytes: 32 << 20 }, Fault::CpuQuota { percent: 20 }, Fault::PidsCap { free: 4 }] {
        std::mem::forget(a.inject(fault)?);
    }
    std::mem::forget(a.inject(Fault::NodeKill)?);
    std::mem::forget(b.inject(Fault::NodeFreeze)?);
    Ok(())
}
