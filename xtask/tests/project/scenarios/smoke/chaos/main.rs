//! Scenario in which a reads a page of b again and again, whatever faults are injected into both.

use std::process::ExitCode;
use std::time::Duration;

use e2e::{Container, Lab, Result, check};

const PAGE: &str = "a page of b\n";

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    serve(&b)?;
    if lab.case() == "never_begins" {
        return Ok(());
    }
    let started = b.get("/proc/1/stat")?;
    let wrong = lab.case() == "does_not_hold";
    let mut pages = 0_u32;
    lab.chaos(|chaos| {
        chaos.always("what b serves is its page", {
            let (a, b) = (a.clone(), b.clone());
            move || Ok(read(&a, &b)? == PAGE && !wrong)
        });
        if lab.case() == "ends_amid_faults" {
            std::process::exit(0);
        }
        while pages < 3 || chaos.lasts() {
            let reading = lab.invoke("reader", "read", ())?;
            match read(&a, &b) {
                Ok(page) => {
                    pages += 1;
                    reading.ok(page)?;
                }
                Err(error) => reading.unknown(format!("{error:#}"))?,
            }
        }
        Ok(())
    })?;
    lab.sometimes("a page was read", pages > 0 && lab.case() != "never_comes_true")?;
    serve(&b)?;
    lab.at_end("a reads from b again", || Ok(read(&a, &b)? == PAGE))?;
    if lab.case() == "cannot_stand_a_kill" {
        check!(first_process(&started) == first_process(&b.get("/proc/1/stat")?), "b was never started again");
    }
    Ok(())
}

/// Returns the start time of the first process: field 22 of its `stat`.
fn first_process(stat: &[u8]) -> String {
    String::from_utf8_lossy(stat).split(' ').nth(21).unwrap_or_default().to_owned()
}

/// Starts the server on b if it does not run, since a kill of b ends it.
fn serve(b: &Container) -> Result {
    b.write("/tmp/pages/page.txt", PAGE)?;
    b.sh("pidof httpd || httpd -p 80 -h /tmp/pages")?.success()?;
    Ok(())
}

/// Reads the page of b, and starts the server first if it has ended: this machine has no supervisor.
fn read(a: &Container, b: &Container) -> Result<String> {
    serve(b)?;
    let read = a.command(["wget", "-q", "-O", "-", "http://b/page.txt"]).deadline(Duration::from_millis(500)).run()?;
    Ok(read.success()?.stdout_text()?.to_owned())
}
