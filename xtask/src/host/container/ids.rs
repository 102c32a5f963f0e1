//! Ids of the host that stand for the ids inside machines: a range for the store of layers, and one for each slot.
//!
//! A process with an id of another lab's machines could signal their processes, read their keys and use up their budgets. So each slot has
//! a range of its own, and layers, which are stored once, are shown to it by id-mapped mounts. Where the host has no such mounts, all labs
//! share one range.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::idmap::{IdMap, IdMappedTree};
use crate::host::disk::mount;
use crate::host::machine::kernel_part::{self, Trial, one_line};

/// Number of ids in one range: those of a whole system.
pub const COUNT: u32 = 65_536;

/// Number of ranges in a region: the store's, those of the slots 1 to 99, doctor's, those of the second labs of duets, and spare ones.
const RANGES: u32 = 256;

/// Number of the range of doctor's own lab.
const DOCTOR: u32 = 100;

/// Number of ranges from that of a slot to that of its second lab in a duet, such as from `2` to `2b`.
const OTHER_LAB: u32 = 100;

/// Candidates for the first id of the range that labs share where a container around the engine lacks the region.
const SHARED_FIRST: [u32; 2] = [100_000, 65_536];

/// Range of ids on the host that stands for the ids from 0 on inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// Id on the host for root inside.
    pub first: u32,
    pub count: u32,
}

/// Region of ids that labs and layers of a project may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First id, a multiple of [`COUNT`].
    pub first: u32,
}

impl Region {
    /// Number of ids in a region.
    pub const COUNT: u32 = COUNT * RANGES;

    #[must_use]
    pub const fn last(self) -> u32 {
        self.first + (Self::COUNT - 1)
    }

    /// Range that the store's layers are owned by.
    #[must_use]
    pub const fn of_store(self) -> IdRange {
        self.range(0)
    }

    /// Range of a lab's slot: `1` to `99`, `1b` to `99b`, or `doctor`; fails for any other name.
    pub fn of_slot(self, slot: &str) -> anyhow::Result<IdRange> {
        let (number, other) = slot.strip_suffix('b').map_or((slot, 0), |number| (number, OTHER_LAB));
        let number = number.parse().ok().filter(|number| (1..DOCTOR).contains(number)).map(|number| number + other);
        let number = if slot == "doctor" { Some(DOCTOR) } else { number };
        Ok(self.range(number.with_context(|| format!("slot {slot} is not a lab's slot, so it has no range of ids"))?))
    }

    const fn range(self, number: u32) -> IdRange {
        IdRange { first: self.first + number * COUNT, count: COUNT }
    }
}

/// Assignment of host ids to the labs on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Own range for each slot.
    PerSlot(Region),
    /// Shared range for all labs and the store.
    Shared {
        range: IdRange,
        /// Reason why the slots have no ranges of their own.
        reason: String,
    },
}

impl Ids {
    /// Returns the ids of labs in a region, whose layers lie below a folder, which need not exist. Tries once a boot whether the host can
    /// mount layers with other owners (ID-mapped mounts), which takes root.
    #[must_use]
    pub fn of_this_host(region: Region, layers: &Path) -> Self {
        let maps =
            ["/proc/self/uid_map", "/proc/self/gid_map"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let has = |first: u32, count: u32| maps.iter().all(|map| holds(map, first, count));
        let problem = if has(region.first, Region::COUNT) {
            mapping_problem(region, layers)
        } else {
            Some(format!("the container around the engine lacks the ids {} to {}", region.first, region.last()))
        };
        let Some(reason) = problem else { return Self::PerSlot(region) };
        let first = [region.first].into_iter().chain(SHARED_FIRST).find(|first| has(*first, COUNT));
        Self::Shared { range: IdRange { first: first.unwrap_or(region.first), count: COUNT }, reason }
    }

    /// Range that the store's layers are owned by.
    #[must_use]
    pub const fn of_store(&self) -> IdRange {
        match self {
            Self::PerSlot(region) => region.of_store(),
            Self::Shared { range, .. } => *range,
        }
    }

    /// Range of a lab's slot; fails for a name that is no slot of a lab.
    pub fn of_slot(&self, slot: &str) -> anyhow::Result<IdRange> {
        match self {
            Self::PerSlot(region) => region.of_slot(slot),
            Self::Shared { range, .. } => Ok(*range),
        }
    }

    #[must_use]
    pub const fn are_shared(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    /// Tells whether labs can use layers whose files are owned on the disk by the ids from `first_id` on.
    #[must_use]
    pub const fn can_show(&self, first_id: u32) -> bool {
        match self {
            Self::PerSlot(_) => true,
            Self::Shared { range, .. } => range.first == first_id,
        }
    }
}

/// Tells whether a `uid_map` maps all of these ids inside.
fn holds(map: &str, first: u32, count: u32) -> bool {
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [inside, _, length] = numbers[..] else { return false };
        inside <= first && end <= inside + length
    })
}

/// Reason why this host cannot mount layers with other owners (ID-mapped mounts); `None` where it can.
fn mapping_problem(region: Region, layers: &Path) -> Option<String> {
    /// Results by the device number of the layers' folder, kept because a run asks once for each machine.
    static KNOWN: Mutex<Vec<(u64, Option<String>)>> = Mutex::new(Vec::new());
    let place = layers.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let device = match fs::metadata(place) {
        Ok(metadata) => metadata.dev(),
        Err(error) => return Some(format!("looking at {}: {error}", place.display())),
    };
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, problem)) = known.iter().find(|(of, _)| *of == device) {
        return problem.clone();
    }
    // A user namespace around the engine may not map what the host may.
    let namespace = fs::metadata("/proc/self/ns/user").map_or(0, |metadata| metadata.ino());
    let what = format!("id-mapped layers on device {device:x} in user namespace {namespace}");
    let problem = kernel_part::problem(&what, || trial(region, place));
    known.push((device, problem.clone()));
    problem
}

fn trial(region: Region, place: &Path) -> Trial {
    let Err(error) = try_overlay(region, place) else { return Trial::Works };
    let is_lack = |cause: &(dyn std::error::Error + 'static)| {
        let of_system =
            cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).map(Errno::from_raw);
        let errno = cause.downcast_ref::<Errno>().copied().or(of_system);
        matches!(errno, Some(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP))
    };
    let is_lack = error.chain().any(is_lack);
    let said = one_line(&error);
    if is_lack {
        Trial::Lacks(format!("overlays on id-mapped mounts of {} ({said})", place.display()))
    } else {
        Trial::Fails(said)
    }
}

/// Mounts an overlay on an ID-mapped view of a folder, in a mount namespace that ends with the thread.
fn try_overlay(region: Region, place: &Path) -> anyhow::Result<()> {
    let map = IdMap { from: region.of_store().first, to: region.range(1).first, count: COUNT };
    let mount_it = || {
        mount::leave_the_hosts_namespace()?;
        let tree = IdMappedTree::of(place, &map.namespace()?)?;
        mount::tmpfs(place, 1 << 20, 0o700, (0, 0))?;
        let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| place.join(name));
        for folder in [&lower, &upper, &work, &root] {
            fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        tree.attach(&lower)?;
        mount::overlay(&root, &[lower], &upper, &work)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("id-mapped mount".into()).spawn_scoped(scope, mount_it)?;
        thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that tried an id-mapped mount panicked")))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const REGION: Region = Region { first: 0x7000_0000 };

    #[test]
    fn no_two_slots_and_not_the_store_share_an_id() {
        let mut slots = vec!["doctor".to_owned()];
        slots.extend((1..=99).flat_map(|number| [number.to_string(), format!("{number}b")]));
        let mut firsts: BTreeSet<u32> = slots.iter().map(|slot| REGION.of_slot(slot).unwrap().first).collect();
        firsts.insert(REGION.of_store().first);
        assert_eq!(firsts.len(), slots.len() + 1);
        assert!(firsts.iter().all(|first| first % COUNT == 0), "ranges meet");
        assert!(firsts.last().unwrap() + COUNT - 1 <= REGION.last());
        for slot in ["0", "100", "b", "1bb", "build-0123", ""] {
            assert!(REGION.of_slot(slot).is_err(), "{slot}");
        }
    }

    #[test]
    fn a_container_around_the_engine_has_only_the_ids_of_its_map() {
        let all = "         0          0 4294967295\n";
        let unprivileged = "         0    1000000 1000000000\n";
        let in_parts = "0 100000 1000\n100000 200000 65536\n";
        let check =
            |map: &str, first: u32, expected: bool| assert_eq!(holds(map, first, COUNT), expected, "{map} {first}");
        check(all, REGION.first, true);
        check(unprivileged, REGION.first, false);
        check(unprivileged, 100_000, true);
        check(in_parts, 100_000, true);
        check(in_parts, 65_536, false);
        check("0 100000 65536\n", 65_536, false);
        check("", 100_000, false);
    }

    #[test]
    fn shared_ids_show_only_the_layers_that_have_them() {
        let range = IdRange { first: 100_000, count: COUNT };
        let shared = Ids::Shared { range, reason: "x".into() };
        assert!(shared.can_show(100_000) && !shared.can_show(REGION.first) && shared.are_shared());
        assert_eq!([shared.of_store(), shared.of_slot("7").unwrap()], [range; 2]);
        let own = Ids::PerSlot(REGION);
        assert!(own.can_show(100_000) && !own.are_shared());
        assert_ne!(own.of_slot("7").unwrap(), own.of_slot("8").unwrap());
    }
}
