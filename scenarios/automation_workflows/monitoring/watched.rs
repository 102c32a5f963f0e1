//! Expected samples of the monitor: the state of the subjects in `watch.json`, as the machines themselves report it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use common::postgres::rows;
use e2e::{Container, Lab, Result};
use serde::Deserialize;

/// Maximum difference between two readings of a volume's use, in percent: logs grow.
const VOLUME_TOLERANCE: i64 = 2;

#[derive(Deserialize)]
struct Watch {
    machines: BTreeMap<String, Machine>,
}

#[derive(Deserialize)]
struct Machine {
    services: Vec<String>,
    /// Percentage from which on each volume counts as too full, by the volume's path.
    volumes: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Sampled {
    /// Machine, kind and subject of the samples, such as `db service ssh.service`.
    what: String,
    rounds: u64,
    lowest: i64,
    highest: i64,
}

/// Returns the lines that [`crate::observe::record`] must return for rounds without a problem.
pub fn quiet_record(lab: &Lab, rounds: u64) -> Result<Vec<String>> {
    let watch = Watch::of(lab)?;
    let lines = |(name, Machine { services, volumes }): (&String, &Machine)| {
        let services = services.iter().map(|service| format!("{name} service {service} is 1"));
        let volumes = volumes.keys().map(|path| format!("{name} volume {path} is well"));
        services.chain(volumes).chain([format!("{name} load runnable is well")]).collect::<Vec<_>>()
    };
    let watched: Vec<String> = watch.machines.iter().flat_map(lines).collect();
    let of_round = |round| watched.iter().map(move |line| format!("round {round}: {line}"));
    let mut lines: Vec<String> = (1..=rounds).flat_map(of_round).collect();
    lines.sort();
    Ok(lines)
}

/// Returns the services and volumes of these machines, sorted, such as `db service ssh.service`.
pub fn well(lab: &Lab, machines: &[&str]) -> Result<Vec<String>> {
    let watch = Watch::of(lab)?;
    let subjects = |(name, Machine { services, volumes }): (&String, &Machine)| {
        let services = services.iter().map(|service| format!("{name} service {service}"));
        services.chain(volumes.keys().map(|path| format!("{name} volume {path}"))).collect::<Vec<_>>()
    };
    let watched = watch.machines.iter().filter(|(name, _)| machines.contains(&name.as_str()));
    let mut lines: Vec<String> = watched.flat_map(subjects).collect();
    lines.sort();
    Ok(lines)
}

impl Watch {
    fn of(lab: &Lab) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(lab.fixture("watch.json"))?)?)
    }
}

/// Lists differences between the samples and the machines' own reports; empty without any.
pub fn differences(lab: &Lab, db: &Container) -> Result<Vec<String>> {
    let sampled: Vec<Sampled> = rows(
        db,
        "mancer",
        "SELECT concat_ws(' ', machine, kind, subject) AS what, count(*) AS rounds,
                min(value) AS lowest, max(value) AS highest
         FROM samples WHERE round <= (SELECT max(round) FROM samples) GROUP BY machine, kind, subject",
    )?;
    let rounds = sampled.iter().map(|sampled| sampled.rounds).max().unwrap_or(0);
    let mut found: BTreeMap<&str, &Sampled> = sampled.iter().map(|it| (it.what.as_str(), it)).collect();
    let mut differences = Vec::new();
    let mut compare = |what: String, here: Option<i64>, tolerance: i64| match found.remove(what.as_str()) {
        None => differences.push(format!("{what} was never sampled")),
        Some(it) if it.rounds != rounds => differences.push(format!("{what}: in {} of {rounds} rounds", it.rounds)),
        Some(Sampled { lowest, highest, .. }) => {
            if let Some(here) = here.filter(|here| lowest + tolerance < *here || highest - tolerance > *here) {
                differences.push(format!("{what}: {lowest} to {highest} in the samples, {here} on the machine"));
            }
        }
    };

    let watch = Watch::of(lab)?;
    for (name, machine) in &watch.machines {
        let container = lab.container(name)?;
        for service in &machine.services {
            let is_active = container.exec(["systemctl", "is-active", "--quiet", service])?.status == 0;
            compare(format!("{name} service {service}"), Some(is_active.into()), 0);
        }
        for path in machine.volumes.keys() {
            compare(format!("{name} volume {path}"), Some(used_percent(&container, path)?), VOLUME_TOLERANCE);
        }
        // How many are runnable changes all the time.
        compare(format!("{name} load runnable"), None, 0);
    }
    differences.extend(found.keys().map(|what| format!("{what} is sampled and not in watch.json")));
    Ok(differences)
}

fn used_percent(container: &Container, path: &str) -> Result<i64> {
    let output = container.exec(["df", "--output=pcent", path])?.success()?;
    let text = output.stdout_text()?;
    let percent = text.lines().nth(1).and_then(|line| line.trim().strip_suffix('%')?.parse().ok());
    percent.with_context(|| format!("df printed no percentage: {text}"))
}
