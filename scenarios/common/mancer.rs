//! Programs on app that use Mancer, and checks of Mancer's known defects.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use e2e::{Container, Lab, Result, failing_with};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

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

/// Result of a probe.
#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// The call failed, or did something else than Mancer promises.
    Failure(String),
    /// The promised effect was seen on a machine.
    Observed(String),
    /// The call did not fail, and nothing was seen of its effect.
    Nothing,
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Found {
            failure: Option<String>,
            observed: Option<String>,
        }
        match Found::deserialize(deserializer)? {
            Found { failure: Some(failure), observed: None } => Ok(Self::Failure(failure)),
            Found { failure: None, observed: Some(effect) } => Ok(Self::Observed(effect)),
            Found { failure: None, observed: None } => Ok(Self::Nothing),
            Found { .. } => Err(D::Error::custom("a probe has a failure or an observed effect, not both")),
        }
    }
}

/// Puts the fixture `probes.py` to the path `probes` on app and runs it: a program that makes the calls a user would make first, and
/// writes to the file that its argument names, as JSON, by the name of each defect, an object: `{"failure": TEXT}`,
/// `{"observed": TEXT}` with the promised effect as it was seen on a machine, or `{}` if the call did not fail and nothing was seen of
/// its effect. Reports each as a known defect; `defects` are names without `mancer-0.1.4/`, with a part of the text of each failure.
///
/// # Errors
/// When the probes cannot be run, or a probe is missing.
#[track_caller]
pub fn known_defects(lab: &Lab, app: &Container, probes: &str, defects: &[(&str, &str)]) -> Result {
    install(lab, app, probes)?;
    let found: BTreeMap<String, Probe> = report(lab, app, &[probes], "probes", PROBES_DEADLINE)?;
    for (name, failure) in defects {
        let probe = found.get(*name).with_context(|| format!("{probes} has no probe {name}"))?;
        lab.known_defect(&format!("mancer-0.1.4/{name}"), failing_with(*failure), |mark| {
            match probe {
                Probe::Failure(failure) => return Err(anyhow!("{failure}")),
                Probe::Observed(effect) => mark.observed(effect.as_str()),
                Probe::Nothing => {}
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Puts the fixture `probes.py` to this path, and beside it the modules that all probes use.
fn install(lab: &Lab, app: &Container, probes: &str) -> Result {
    let (folder, _) = probes.rsplit_once('/').context("the program of probes is not in a folder")?;
    for module in ["facts.py", "probing.py"] {
        app.put(lab.fixture("../../../common").join(module), format!("{folder}/{module}"))?;
    }
    app.put(lab.fixture("probes.py"), probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_a_failure_or_an_effect_or_neither() {
        let read = serde_json::from_str::<Probe>;
        assert_eq!(read(r#"{"failure": "no table"}"#).unwrap(), Probe::Failure("no table".into()));
        assert_eq!(read(r#"{"observed": "3 rows"}"#).unwrap(), Probe::Observed("3 rows".into()));
        assert_eq!(read("{}").unwrap(), Probe::Nothing);
        for wrong in ["null", "\"no table\"", r#"{"failure": "x", "observed": "y"}"#, r#"{"seen": "y"}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
