//! Order: the work for one guest, written as JSON by the host that makes the guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Work for one guest, which the guest runs with the engine's own command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Name of the record that the guest writes.
    pub name: String,
    /// Kind of host that the guest is, for the record.
    pub machine: String,
    /// Number of the guest, from 1, among the guests whose records are joined.
    pub guest: usize,
    /// Project that `doctor` checks; absent to skip `doctor`.
    pub doctor: Option<PathBuf>,
    /// Calls of `e2e` that run scenarios, in order.
    pub runs: Vec<Run>,
    /// Trials of faults; absent to try none.
    pub faults: Option<Faults>,
    /// Number of kills of each victim in the kill sweep.
    pub kills: u32,
    /// Project with the scenario of the kill sweep.
    pub kills_in: Project,
    /// True if no one else makes labs on the guest: then the kill sweep looks for leftovers on the whole guest, and its time to boot is
    /// recorded.
    pub has_host: bool,
    /// Folder in which the guest's engine finds the layers.
    pub state_dir: PathBuf,
    /// Slot of all labs that the guest creates.
    pub slot: String,
    /// Path at which the guest writes the record.
    pub record: PathBuf,
}

#[cfg(test)]
impl Order {
    /// Returns an order without work, for tests.
    pub fn example() -> Self {
        let project = Project { root: PathBuf::from("/project"), programs: PathBuf::from("/programs") };
        Self {
            name: "example".to_owned(),
            machine: "a test".to_owned(),
            guest: 1,
            doctor: None,
            runs: Vec::new(),
            faults: None,
            kills: 0,
            kills_in: project,
            has_host: true,
            state_dir: PathBuf::from("/state"),
            slot: "1".to_owned(),
            record: PathBuf::from("/record.json"),
        }
    }
}

/// Project with built scenarios.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Folder of the project, the one with `e2e.toml`.
    pub root: PathBuf,
    /// Folder with the built programs of the project's scenarios.
    pub programs: PathBuf,
}

/// Call of the verb `e2e`, which runs scenarios of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Project whose scenarios are run.
    pub project: Project,
    /// Arguments of the call: filters and flags.
    pub words: Vec<String>,
    /// True if the machines of the scenarios run systemd.
    pub is_systemd: bool,
}

/// Faults to try with `fault try`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Project with the templates that the faults are tried on.
    pub project: PathBuf,
    /// True if a template of the project runs systemd.
    pub has_systemd: bool,
    /// Share of the catalogue that this guest tries.
    pub share: Share,
}

/// Share of one guest in the catalogue of faults; the catalogue is divided by families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Index of the share, from 0.
    pub part: usize,
    /// Number of shares into which the catalogue is divided.
    pub of: usize,
    /// Number of faults by which the first share is smaller, because the first guest has other work too.
    pub first_less: usize,
}

impl Share {
    /// Share of a guest that tries the whole catalogue.
    pub const ALL: Self = Self { part: 0, of: 1, first_less: 0 };

    /// Returns the families of faults in this share. Families are assigned, the largest first, each to the share with the fewest faults so
    /// far. Every guest computes the same division, so every family lies in exactly one share.
    #[must_use]
    pub fn of_families<'a>(self, families: &[(&'a str, usize)]) -> Vec<&'a str> {
        let mut sorted = families.to_vec();
        sorted.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
        let mut loads = vec![0; self.of.max(1)];
        if loads.len() > 1 {
            loads[0] = self.first_less;
        }
        let mut own = Vec::new();
        for (family, faults) in sorted {
            let least = (0..loads.len()).min_by_key(|part| loads[*part]).unwrap_or(0);
            loads[least] += faults;
            if least == self.part {
                own.push(family);
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_lies_in_one_share_and_the_first_has_less() {
        let families = [("node", 4), ("net", 13), ("dns", 4), ("disk", 8), ("memory", 3), ("cpu", 4), ("clock", 2)];
        let share = |part| Share { part, of: 2, first_less: 10 }.of_families(&families);
        let (first, second) = (share(0), share(1));
        let mut all = [first.clone(), second.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, ["clock", "cpu", "disk", "dns", "memory", "net", "node"]);
        let count = |names: &[&str]| -> usize {
            families.iter().filter(|(name, _)| names.contains(name)).map(|(_, count)| count).sum()
        };
        assert!(count(&first) < count(&second), "{first:?} {second:?}");
        assert_eq!(Share::ALL.of_families(&families).len(), families.len());
    }
}
