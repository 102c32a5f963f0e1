//! Scenario of programs and files in one machine: statuses, streams, users, large files, overlapping requests, deadlines.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use e2e::{Access, Container, File, Lab, Result, check};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let a = lab.container("a")?;
    lab.step("programs", || programs(&a))?;
    lab.step("files of any bytes", || files(&a))?;
    lab.step("requests overlap", || requests_overlap(&a))?;
    lab.step("a deadline kills the whole family", || a_deadline_kills(&a))
}

fn programs(a: &Container) -> Result {
    let finished = a.sh("printf out; printf err >&2; exit 3")?;
    check!(finished.status == 3 && !finished.timed_out);
    check!((finished.stdout_text()?, finished.stderr_text()?) == ("out", "err"));
    check!(a.sh("kill -TERM $$")?.status == 128 + 15);
    let who = a.command(["/bin/sh", "-c", "id -un; printf %s \"$GREETING\""]).user("user").env("GREETING", "it's me");
    check!(who.run()?.success()?.stdout_text()? == "user\nit's me");
    check!(a.command(["cat"]).stdin([0xff, 0, b'\n', 0x80]).run()?.stdout() == [0xff, 0, b'\n', 0x80]);
    check!(a.exec(["cat"])?.success()?.stdout().is_empty(), "nothing on stdin is the end of the file");
    Ok(())
}

fn files(a: &Container) -> Result {
    let every_byte: Vec<u8> = (0..=255).collect();
    a.write_with("/tmp/new/folder/bytes", &every_byte, Access::mode(0o640).owner("user"))?;
    check!(a.get("/tmp/new/folder/bytes")? == every_byte);
    check!(
        a.exec(["stat", "-c", "%a", "/tmp/new"])?.stdout_text()? == "755\n",
        "folders that were missing are for all"
    );
    check!(a.exec(["stat", "-c", "%a %U", "/tmp/new/folder/bytes"])?.stdout_text()? == "640 user\n");
    check!(a.get("/tmp/nowhere").is_err(), "a missing file is an error");

    let large: Vec<u8> = (0..5u32 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    a.write("/tmp/large", &large)?;
    check!(a.get("/tmp/large")? == large, "20 MiB there and back as a file");
    let echoed = a.command(["cat"]).stdin(large.clone()).run()?.success()?;
    check!(echoed.stdout() == large, "20 MiB there and back as streams");
    a.exec(["rm", "/tmp/large"])?.success()?;
    Ok(())
}

/// Sends two requests that wait for each other, and would never end one after the other.
fn requests_overlap(a: &Container) -> Result {
    let meet = |mine: &'static str, other: &'static str| {
        a.sh(format!("touch /tmp/{mine}"))?.success()?;
        a.wait_for_within(File(format!("/tmp/{other}")), Duration::from_secs(10))?;
        let line = format!("touch /tmp/{mine}2; until [ -e /tmp/{other}2 ]; do sleep 0.01; done");
        a.command(["/bin/sh", "-c", &line]).deadline(Duration::from_secs(10)).run()?.success()
    };
    std::thread::scope(|scope| {
        let romeo = scope.spawn(|| meet("romeo", "juliet"));
        meet("juliet", "romeo")?;
        romeo.join().map_err(|_| anyhow!("the thread of the first request panicked"))??;
        Ok(())
    })
}

fn a_deadline_kills(a: &Container) -> Result {
    let family = "sleep 54321 & setsid sleep 54321 & sleep 54321";
    let finished = a.command(["/bin/sh", "-c", family]).deadline(Duration::from_millis(500)).run()?;
    check!(finished.timed_out);
    check!(finished.success().is_err());
    let left = a.sh("ps -o pid,args | grep '[s]leep 54321'")?;
    check!(left.stdout_text()? == "", "nothing of it is left");
    Ok(())
}
