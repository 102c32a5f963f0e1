//! Programs on app that use Mancer, and checks of Mancer's known defects.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use e2e::{Container, Lab, Result, failing_with};
use serde::de::DeserializeOwned;

/// Deadline of probes, which take about a second on an idle machine; the rest is headroom for a loaded machine.
const PROBES_DEADLINE: Duration = Duration::from_secs(60);

/// Runs `python3 ARGV` as the user mancer. Its output goes to a file, because Mancer prints every row it reads; results go to files too.
///
/// # Errors
/// When the program fails, with the end of its output, or takes longer than `deadline`.
pub fn run(app: &Container, argv: &[&str], deadline: Duration) -> Result {
    // Several of them may run at once.
    const LINE: &str =
        "python3 \"$@\" > /tmp/mancer.$$.log 2>&1 || { tail -n 5 /tmp/mancer.$$.log | tail -c 2000 >&2; exit 1; }";
    let argv = ["/bin/sh", "-c", LINE, "sh"].iter().chain(argv).copied();
    app.command(argv).user("mancer").deadline(deadline).run()?.success()?;
    Ok(())
}

/// Starts `python3 ARGV` as the user mancer, as a systemd unit of this name. Its stdout goes to /tmp/UNIT.log, its stderr to the journal.
///
/// # Errors
/// When the unit cannot be started. A program that ends soon after its start is no error.
pub fn start(app: &Container, unit: &str, argv: &[&str]) -> Result {
    start_as(app, unit, "simple", argv)
}

/// Starts a program as [`start`] does, and waits until it notifies systemd that it is ready.
///
/// # Errors
/// When the program ends, or the deadline passes, before it is ready. Its own words are in the journal of app.
pub fn start_ready(app: &Container, unit: &str, argv: &[&str]) -> Result {
    start_as(app, unit, "notify", argv)
}

fn start_as(app: &Container, unit: &str, kind: &str, argv: &[&str]) -> Result {
    let unit = [
        format!("--unit={unit}"),
        format!("--property=Type={kind}"),
        format!("--property=StandardOutput=file:/tmp/{unit}.log"),
    ];
    let words = ["--quiet", "--uid=mancer", "--setenv=PYTHONPATH", "--property=StandardError=journal"];
    // Threads count too, and by default a unit gets few in a small container.
    let words = words.iter().chain(&["--property=TasksMax=300", "python3"]).chain(argv).copied();
    let line = ["systemd-run".to_owned()].into_iter().chain(unit).chain(words.map(str::to_owned));
    app.exec(line)?.success()?;
    Ok(())
}

/// Runs a program as [`run`] does, whose last argument is a JSON file that it writes, also if its work fails. Returns the content of the
/// file, and keeps it as the artifact `NAME.json`.
pub fn report<T: DeserializeOwned>(
    lab: &Lab,
    app: &Container,
    argv: &[&str],
    name: &str,
    deadline: Duration,
) -> Result<T> {
    let path = format!("/tmp/{name}.json");
    run(app, &[argv, &[path.as_str()]].concat(), deadline)?;
    let found = app.get(&path)?;
    lab.artifact(format!("{name}.json"), &found)?;
    serde_json::from_slice(&found).with_context(|| format!("reading {name}.json"))
}

/// Runs `PROBES RESULT_FILE`, a program that makes the calls a user would make first, and writes as JSON, by the name of each defect, the
/// failure or null. Reports each as a known defect; `defects` are names without `mancer-0.1.4/`, with a part of the text of each failure.
///
/// # Errors
/// When the probes cannot be run, a probe is missing, or a probe fails in another way.
#[track_caller]
pub fn known_defects(lab: &Lab, app: &Container, probes: &str, defects: &[(&str, &str)]) -> Result {
    let found: BTreeMap<String, Option<String>> = report(lab, app, &[probes], "probes", PROBES_DEADLINE)?;
    for (name, failure) in defects {
        let outcome = found.get(*name).with_context(|| format!("{probes} has no probe {name}"))?;
        lab.known_defect(&format!("mancer-0.1.4/{name}"), failing_with(*failure), || match outcome {
            Some(failure) => Err(anyhow!("{failure}")),
            None => Ok(()),
        })?;
    }
    Ok(())
}
