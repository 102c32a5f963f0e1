//! Environment of a run, and the commands that repeat it.

use serde::Serialize;

use super::words::size;
use crate::record::{LabIds, Machine, RunRecord};
use crate::report::next::repeat_command;

#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Command line that repeats the run with the same seeds.
    pub command: Option<String>,
    /// Names and values of facts about the run: engine, user, seeds.
    pub facts: Vec<(&'static str, String)>,
    /// Names and values of the host's properties: processor, memory, kernel.
    pub machine: Vec<(&'static str, String)>,
    pub templates: Vec<Template>,
    /// Things that could not be removed from the host after the run, with the reasons.
    pub cleanup_failures: Vec<String>,
}

/// Template as it was in the run.
#[derive(Debug, Clone, Serialize)]
pub struct Template {
    pub name: String,
    /// Hash that names the template's layer.
    pub layer: String,
    /// True if root of the template's containers is root of the host.
    pub privileged: bool,
    /// Features of the kernel that the template allows its containers to use, beyond what all containers may use.
    pub allowed: Vec<String>,
    pub packages: Vec<(String, String)>,
}

pub fn environment(record: &RunRecord) -> Environment {
    let mut facts = vec![
        ("run", record.run_id.clone()),
        ("engine", record.engine_version.clone()),
        ("scenarios ran as", record.user.clone()),
        ("started", record.started_at.clone()),
        ("exit code", record.exit_code.to_string()),
    ];
    let ids = |ids: LabIds| match ids {
        LabIds::PerSlot => "a range for each slot",
        LabIds::Shared => "shared by all labs of the host",
    };
    facts.extend(record.ids.map(|it| ("ids of the machines", ids(it).to_owned())));
    let seed = |name, seed: Option<u64>| seed.map(|seed| (name, seed.to_string()));
    facts.extend(seed("seed of the faults", record.chaos_seed));
    facts.extend(seed("seed of the order", record.shuffle_seed));
    facts.extend(record.patience.iter().map(|patience| ("factor of deadlines", patience.to_string())));
    facts.extend(record.compared_with.iter().map(|with| ("compared with", with.clone())));
    let templates = record.layers.iter().map(|(name, layer)| Template {
        name: name.clone(),
        layer: layer.clone(),
        privileged: record.privileged.contains(name),
        allowed: record.allowed.get(name).cloned().unwrap_or_default(),
        packages: record.packages.get(name).map(|all| all.iter().map(|one| package(one)).collect()).unwrap_or_default(),
    });
    Environment {
        command: repeat_command(record),
        facts,
        machine: record.machine.as_ref().map(machine).unwrap_or_default(),
        templates: templates.collect(),
        cleanup_failures: record.cleanup_failures.clone(),
    }
}

/// Splits `NAME=VERSION` or `NAME==VERSION` into a package's name and version.
pub fn package(text: &str) -> (String, String) {
    let (name, version) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), version.trim_start_matches('=').to_owned())
}

/// Returns names and values of the properties of the host on which a run took place.
pub fn machine(machine: &Machine) -> Vec<(&'static str, String)> {
    vec![
        ("processor", machine.cpu_model.clone()),
        ("cores", machine.cores.to_string()),
        ("memory", size(machine.memory_bytes as f64)),
        ("kernel", machine.kernel.clone()),
        ("LXC", machine.lxc.clone()),
        ("storage", machine.storage.clone()),
        ("cgroup", machine.cgroup.clone()),
    ]
}
