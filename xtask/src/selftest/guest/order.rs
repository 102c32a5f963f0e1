//! Order of work for one guest, written by the machine that makes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Work of one guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Name of the record.
    pub name: String,
    /// Kind of machine that the guest is.
    pub machine: String,
    /// Number of this guest among those of one record, from 1.
    pub guest: usize,
    /// Project that `doctor` looks at; absent for no doctor.
    pub doctor: Option<PathBuf>,
    /// Runs of scenarios, in order.
    pub runs: Vec<Run>,
    /// Project whose templates the faults are tried on, and the share of this guest; absent for none.
    pub faults: Option<Faults>,
    /// Kills per victim.
    pub kills: u32,
    /// Project of the kill sweep.
    pub kills_in: Project,
    /// True if nobody else makes labs on the machine.
    pub has_host: bool,
    /// Folder of the layers.
    pub state_dir: PathBuf,
    /// Slot of all labs.
    pub slot: String,
    /// Path of the record, written at the end.
    pub record: PathBuf,
}

#[cfg(test)]
impl Order {
    /// An order without work.
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

/// A project, with the programs of its scenarios.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Folder with `e2e.toml`.
    pub root: PathBuf,
    /// Folder of the programs.
    pub programs: PathBuf,
}

/// Call of `e2e`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Project of the scenarios.
    pub project: Project,
    /// Filters and flags.
    pub words: Vec<String>,
    /// True if its machines run systemd.
    pub is_systemd: bool,
}

/// Faults to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Project whose templates they are tried on.
    pub project: PathBuf,
    /// True if one of its templates runs systemd.
    pub has_systemd: bool,
    /// Share of this guest.
    pub share: Share,
}

/// Share of one guest in the catalogue of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Number of the share, from 0.
    pub part: usize,
    /// Number of shares.
    pub of: usize,
    /// Number of faults that the first share has less than the others, for its other work.
    pub first_less: usize,
}

impl Share {
    /// The whole catalogue.
    pub const ALL: Self = Self { part: 0, of: 1, first_less: 0 };

    /// Deals families of faults out, the largest first, each to the share with the least so far. Every guest computes the
    /// same, so every family lies in exactly one share.
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
