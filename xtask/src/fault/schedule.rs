//! Schedules: times and targets of faults, drawn from a seed before a run and kept as data. Pure.
//!
//! Each fault has a random stream of its own, from the seed and the fault's number: removing one fault leaves the others as they are. The
//! same seed makes the same schedule; how the machines respond may differ.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e_contract::Fault;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use serde::{Deserialize, Deserializer, Serialize};

use super::sampling::{Intensity, draw};
use crate::manifest::{Chaos, FaultRule, WholeIn, nearest, within};
use crate::program;

/// Format version of a schedule in chaos.json.
pub const SCHEDULE_VERSION: u32 = 1;

/// Minimum time between faults that must not be active together, and before and after the time that a machine is down.
const MARGIN_MS: u64 = 400;

/// Number of draws of a fault's kind, target and times; where none fits the schedule, the fault is left out.
const DRAWS: u32 = 12;

/// Number and kind of the injected faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Short and mild faults, one at a time.
    Light,
    /// Faults that the scenario tolerates, a few of them overlapping.
    Default,
    /// Many faults, long and hard, no more at once than the scenario tolerates.
    Heavy,
    /// As many as [`Profile::Default`], only of these families and faults.
    Of(Vec<String>),
}

/// Faults with their times and targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Version of this format, [`SCHEDULE_VERSION`].
    pub format_version: u32,
    /// Case that the schedule was made for: `category/scenario:case`.
    pub case: String,
    /// Seed that the schedule was drawn from; absent where a person or `shrink` made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Profile that the schedule was made by.
    pub profile: String,
    /// Time from the start of the schedule to the latest end of a fault.
    #[serde(deserialize_with = "duration_ms")]
    pub length_ms: u64,
    /// Faults in the order in which they begin.
    pub faults: Vec<Planned>,
}

/// Fault of a schedule, with its time and target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Number of the fault and of its random stream.
    #[serde(deserialize_with = "within::<WholeIn<1, 1_000_000>, _>")]
    pub number: u32,
    /// Start of the fault, since the start of the schedule.
    #[serde(deserialize_with = "moment_ms")]
    pub at_ms: u64,
    /// Time from the injection to the healing.
    #[serde(deserialize_with = "duration_ms")]
    pub duration_ms: u64,
    /// Name of the container that the fault acts on.
    pub container: String,
    /// Kind of the fault and its parameters.
    pub fault: Fault,
}

/// Maximum length of a schedule: an hour, like `length` of a scenario's `[chaos]`.
const LENGTH_MAX_MS: u32 = 3_600_000;

fn moment_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within::<WholeIn<0, LENGTH_MAX_MS>, D>(deserializer).map(u64::from)
}

fn duration_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within::<WholeIn<1, LENGTH_MAX_MS>, D>(deserializer).map(u64::from)
}

impl Profile {
    /// Parses `light`, `default`, `heavy`, or families and faults separated by commas; the error says which word is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = match text {
            "light" => Some(Self::Light),
            "default" => Some(Self::Default),
            "heavy" => Some(Self::Heavy),
            _ => None,
        };
        if let Some(profile) = named {
            return Ok(profile);
        }
        let families = || Fault::NAMES.into_iter().filter_map(|name| name.split('.').next());
        let known: Vec<&str> =
            ["light", "default", "heavy"].into_iter().chain(families()).chain(Fault::NAMES).collect();
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        for word in &words {
            if !known[3..].contains(&word.as_str()) {
                let hint = nearest(word, known.iter().copied()).map_or_else(
                    || program::named("light, default, heavy, or names from `cargo xtask fault list`"),
                    |near| format!("did you mean {near:?}?"),
                );
                return Err(format!("there is no profile, family or fault {word:?}: {hint}"));
            }
        }
        Ok(Self::Of(words))
    }

    fn allows(&self, name: &str) -> bool {
        match self {
            Self::Of(words) => words.iter().any(|word| word == name || name.split('.').next() == Some(word)),
            _ => true,
        }
    }

    fn intensity(&self) -> Intensity {
        match self {
            Self::Light => Intensity::Low,
            Self::Default | Self::Of(_) => Intensity::Any,
            Self::Heavy => Intensity::High,
        }
    }

    /// Number of faults that are drawn for every ten seconds of the schedule.
    fn density(&self) -> u64 {
        match self {
            Self::Light => 4,
            Self::Default | Self::Of(_) => 8,
            Self::Heavy => 16,
        }
    }

    /// Maximum number of faults at once: never more than the scenario tolerates.
    fn concurrent(&self, chaos: &Chaos) -> u32 {
        match self {
            Self::Light => 1,
            Self::Default | Self::Of(_) | Self::Heavy => chaos.max_concurrent,
        }
    }

    /// Returns the bounds of a fault's duration, in milliseconds.
    fn duration_ms(&self, chaos: &Chaos) -> std::ops::RangeInclusive<u64> {
        let longest = millis(chaos.longest);
        let (from, to) = match self {
            Self::Light => (longest / 10, longest / 3),
            Self::Default | Self::Of(_) => (longest / 8, longest),
            Self::Heavy => (longest / 2, longest),
        };
        from.max(1)..=to.max(1)
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Light => f.write_str("light"),
            Self::Default => f.write_str("default"),
            Self::Heavy => f.write_str("heavy"),
            Self::Of(words) => f.write_str(&words.join(",")),
        }
    }
}

impl Schedule {
    /// Draws a schedule for a case. `can` tells whether this host supports a fault. `None` when no fault is left that the scenario
    /// tolerates.
    #[must_use]
    pub fn draw(case: &str, chaos: &Chaos, profile: &Profile, seed: u64, can: &dyn Fn(&str) -> bool) -> Option<Self> {
        let choices = choices(chaos, profile, can);
        if choices.is_empty() {
            return None;
        }
        let length_ms = millis(chaos.length);
        let (per_ten_seconds, concurrent) = (profile.density(), profile.concurrent(chaos));
        let count = u32::try_from((length_ms * per_ten_seconds).div_ceil(10_000)).unwrap_or(u32::MAX);
        // By their begins, so that only those near a new one are looked at.
        let mut faults: BTreeMap<(u64, u32), Planned> = BTreeMap::new();
        let longest_ms = *profile.duration_ms(chaos).end();
        for number in 1..=count {
            let mut stream = stream(case, seed, number);
            let drawn = (0..DRAWS).map(|_| {
                let (rule, name) = &choices[stream.random_range(0..choices.len())];
                let container = rule.on[stream.random_range(0..rule.on.len())].clone();
                let fault = draw(name, &rule.parameters, profile.intensity(), &mut stream)?;
                let duration_ms = stream.random_range(profile.duration_ms(chaos)).min(length_ms);
                let at_ms = stream.random_range(0..=length_ms - duration_ms);
                Some(Planned { number, at_ms, duration_ms, container, fault })
            });
            let fits = |planned: &Planned| {
                let first = planned.at_ms.saturating_sub(longest_ms + MARGIN_MS);
                let near = faults.range((first, 0)..(planned.end_ms() + MARGIN_MS, 0));
                has_room(planned, near.map(|(_, other)| other), concurrent)
            };
            let fitting = drawn.flatten().find(fits);
            faults.extend(fitting.map(|planned| ((planned.at_ms, planned.number), planned)));
        }
        let faults = faults.into_values().collect();
        let (format_version, seed) = (SCHEDULE_VERSION, Some(seed));
        Some(Self { format_version, case: case.to_owned(), seed, profile: profile.to_string(), length_ms, faults })
    }
}

impl Schedule {
    /// Maximum number of faults at once while the schedule is played, whoever made it.
    #[must_use]
    pub fn bound(&self, chaos: &Chaos) -> u32 {
        Profile::parse(&self.profile).map_or(chaos.max_concurrent, |profile| profile.concurrent(chaos))
    }
}

impl Planned {
    /// Planned end of the fault, in milliseconds since the start of the schedule.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.duration_ms
    }

    /// Tells whether two faults must not be active at the same time: they act on the same part of a machine, or the effect of one could not
    /// be observed beside the other.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        let same_container = self.container == other.container;
        let families = (self.fault.family(), other.fault.family());
        match families {
            ("net" | "dns", "net" | "dns") => same_container || is_unsteady(&self.fault) || is_unsteady(&other.fault),
            // All machines share the host's processors, and what the programs of one get is what is looked at.
            ("cpu", "cpu") => true,
            (one, two) if one == two || (is_of_programs(one) && is_of_programs(two)) => same_container,
            // What needs programs of the machine cannot be done while it has none. See `frames`.
            ("node", _) | (_, "node") => same_container && !self.frames(other) && !other.frames(self),
            _ => false,
        }
    }

    /// Tells whether this fault begins well before the other takes a machine down, ends well after the machine is up again, and outlives
    /// its restart.
    fn frames(&self, other: &Self) -> bool {
        let outlives = matches!(self.fault.family(), "net" | "cpu" | "memory");
        outlives && self.at_ms + MARGIN_MS <= other.at_ms && other.end_ms() + MARGIN_MS <= self.end_ms()
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.at_ms < other.end_ms() + MARGIN_MS && other.at_ms < self.end_ms() + MARGIN_MS
    }
}

/// Tells whether a fault of this family acts on running programs and is observed on them: a fault that ends or restarts the programs would
/// undo it.
fn is_of_programs(family: &str) -> bool {
    matches!(family, "process" | "service" | "io" | "fd" | "clock")
}

/// Tells whether packets that this fault loses, changes or delays could be taken for an effect of another fault.
fn is_unsteady(fault: &Fault) -> bool {
    !matches!(
        fault.name(),
        "net.isolate"
            | "net.delay"
            | "net.rate"
            | "net.mtu-hole"
            | "net.reset"
            | "net.port-block"
            | "dns.drop"
            | "dns.refuse"
    )
}

fn has_room<'a>(planned: &Planned, others: impl Iterator<Item = &'a Planned>, concurrent: u32) -> bool {
    let beside: Vec<&Planned> = others.filter(|other| planned.overlaps(other)).collect();
    if beside.iter().any(|other| planned.clashes_with(other)) {
        return false;
    }
    // At the start of each, so many are there at once.
    let begins = beside.iter().map(|other| other.at_ms).chain([planned.at_ms]);
    let mut together = begins.map(|at| {
        let there = |other: &&&Planned| other.at_ms <= at && at < other.end_ms();
        beside.iter().filter(there).count() + usize::from(planned.at_ms <= at && at < planned.end_ms())
    });
    together.all(|count| count <= concurrent as usize)
}

/// Returns every rule with every fault that the rule covers, the profile allows and the host can inject.
fn choices<'a>(chaos: &'a Chaos, profile: &Profile, can: &dyn Fn(&str) -> bool) -> Vec<(&'a FaultRule, &'static str)> {
    let of =
        |rule: &'a FaultRule| Fault::NAMES.into_iter().filter(|name| rule.covers(name)).map(move |name| (rule, name));
    let possible = |(rule, name): &(&FaultRule, &'static str)| {
        let mut draws = stream("", 0, 0);
        profile.allows(name) && can(name) && draw(name, &rule.parameters, Intensity::Any, &mut draws).is_some()
    };
    chaos.faults.iter().flat_map(of).filter(possible).collect()
}

/// Returns the random stream of one fault of one case.
fn stream(case: &str, seed: u64, number: u32) -> Pcg64 {
    // FNV-1a: the same on every machine and in every version of the compiler.
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let of_case = case.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let seeds = [seed, of_case, u64::from(number), 0].map(u64::to_le_bytes).concat();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&seeds);
    Pcg64::from_seed(bytes)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::ParameterRule;

    fn chaos(rules: &[(&str, &[&str])]) -> Chaos {
        let rule = |(fault, on): &(&str, &[&str])| FaultRule {
            fault: (*fault).into(),
            on: on.iter().map(|name| (*name).into()).collect(),
            parameters: BTreeMap::new(),
        };
        Chaos {
            faults: rules.iter().map(rule).collect(),
            nothing_because: None,
            max_concurrent: 2,
            length: Duration::from_secs(20),
            longest: Duration::from_secs(3),
            quiet: Duration::from_millis(1),
            recovery: Duration::from_secs(1),
            sometimes: Vec::new(),
        }
    }

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn a_seed_repeats_its_schedule_and_another_makes_another() {
        let chaos = chaos(&[("net", &["a", "b"]), ("node", &["b"]), ("cpu", &["a"])]);
        let drawn = |case, seed| Schedule::draw(case, &chaos, &Profile::Default, seed, &all).unwrap();
        assert_eq!(drawn("x", 1), drawn("x", 1));
        assert_ne!(drawn("x", 1).faults, drawn("x", 2).faults);
        assert_ne!(drawn("x", 1).faults, drawn("y", 1).faults);
        let text = serde_json::to_string(&drawn("x", 1)).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), drawn("x", 1));
    }

    #[test]
    fn each_schedule_keeps_to_its_rules() {
        let chaos = chaos(&[("net", &["a", "b", "c"]), ("node", &["b"]), ("memory", &["b"]), ("cpu", &["a", "b"])]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            for (profile, concurrent) in [(Profile::Light, 1), (Profile::Default, 2), (Profile::Heavy, 2)] {
                let schedule = Schedule::draw("x", &chaos, &profile, seed, &all).unwrap();
                assert!(!schedule.faults.is_empty(), "{seed}");
                for (place, planned) in schedule.faults.iter().enumerate() {
                    seen.insert(planned.fault.name());
                    assert!(planned.end_ms() <= schedule.length_ms && planned.duration_ms <= 3000, "{planned:?}");
                    assert!(planned.fault.family() != "node" || planned.container == "b", "{planned:?}");
                    for other in &schedule.faults[..place] {
                        assert!(!(planned.overlaps(other) && planned.clashes_with(other)), "{planned:?} {other:?}");
                    }
                    let there = |other: &&Planned| other.at_ms <= planned.at_ms && planned.at_ms < other.end_ms();
                    assert!(schedule.faults.iter().filter(there).count() <= concurrent, "{seed} {profile}");
                }
            }
        }
        assert!(seen.contains("net.delay") && seen.contains("node.freeze") && seen.contains("cpu.quota"), "{seen:?}");
    }

    #[test]
    fn faults_of_the_same_machines_programs_come_one_after_the_other() {
        let planned = |container: &str, fault: Fault| Planned {
            number: 1,
            at_ms: 0,
            duration_ms: 100,
            container: container.into(),
            fault,
        };
        let stop = || Fault::ServiceStop { unit: "x.service".into() };
        let pause = || Fault::ProcessPause { command: "x".into() };
        assert!(planned("a", stop()).clashes_with(&planned("a", pause())));
        assert!(!planned("a", stop()).clashes_with(&planned("b", pause())));
        assert!(!planned("a", stop()).clashes_with(&planned("a", Fault::DiskDead { path: "/data".into() })));
    }

    #[test]
    fn a_machine_goes_down_amid_a_fault_of_its_network() {
        let chaos = chaos(&[("net.delay", &["a"]), ("node.kill", &["a"])]);
        let framed = (0..300).any(|seed| {
            let schedule = Schedule::draw("x", &chaos, &Profile::Heavy, seed, &all).unwrap();
            schedule.faults.iter().any(|one| schedule.faults.iter().any(|two| one.frames(two)))
        });
        assert!(framed, "faults are composed");
    }

    #[test]
    fn what_is_not_wanted_not_tolerated_or_not_possible_is_not_drawn() {
        let both = chaos(&[("net.loss", &["a"]), ("node.kill", &["a"])]);
        let names = |profile: &str, can: &dyn Fn(&str) -> bool| {
            let profile = Profile::parse(profile).unwrap();
            let schedule = Schedule::draw("x", &both, &profile, 1, can)?;
            let mut names: Vec<&str> = schedule.faults.iter().map(|planned| planned.fault.name()).collect();
            names.sort_unstable();
            names.dedup();
            Some(names.join(" "))
        };
        assert_eq!(names("default", &all).unwrap(), "net.loss node.kill");
        assert_eq!(names("net", &all).unwrap(), "net.loss");
        assert_eq!(names("node.kill,disk", &all).unwrap(), "node.kill");
        assert_eq!(names("default", &|name| name != "net.loss").unwrap(), "node.kill");
        assert_eq!(names("disk", &all), None);
    }

    #[test]
    fn parameters_keep_to_the_scenarios_ranges() {
        let mut chaos = chaos(&[("net.delay", &["a"])]);
        chaos.faults[0].parameters.insert("delay_ms".into(), ParameterRule::Range(40, 60));
        chaos.faults[0].parameters.insert("jitter_ms".into(), ParameterRule::Fixed(7.into()));
        for seed in 0..50 {
            for planned in Schedule::draw("x", &chaos, &Profile::Default, seed, &all).unwrap().faults {
                let Fault::NetDelay { delay_ms, jitter_ms, .. } = planned.fault else { panic!("{planned:?}") };
                assert!((40..=60).contains(&delay_ms) && jitter_ms == 7, "{delay_ms} {jitter_ms}");
            }
        }
    }

    #[test]
    fn profiles() {
        for text in ["light", "default", "heavy", "net,process.kill"] {
            assert_eq!(Profile::parse(text).unwrap().to_string(), text);
        }
        let error = Profile::parse("net,proces").unwrap_err();
        assert_eq!(error, "there is no profile, family or fault \"proces\": did you mean \"process\"?");
        assert!(Profile::parse("heavi").unwrap_err().contains("did you mean \"heavy\"?"));
    }
}
