//! `[chaos]` in a `scenario.toml`: faults that a scenario tolerates, their machines, and the deadline of the recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use e2e_contract::Fault;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use toml::Spanned;

use super::parse::{Source, nearest};
use super::range::{ChaosLength, ConcurrentFaults, FaultTime, QuietTime, RecoveryTime, Within, within};
use crate::error::Error;

/// Tolerance of a scenario for faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Chaos {
    /// Tolerated faults. Where it is empty, `nothing_because` says why.
    pub faults: Vec<FaultRule>,
    /// Reason why the scenario tolerates no fault.
    pub nothing_because: Option<String>,
    /// Maximum number of faults that are active at the same time.
    pub max_concurrent: u32,
    /// Time during which faults are injected.
    pub length: Duration,
    /// Longest duration of a fault.
    pub longest: Duration,
    /// Time without faults after everything was healed and works again.
    pub quiet: Duration,
    /// Deadline for all machines to be ready again after all faults are healed, and for a single machine after each fault.
    pub recovery: Duration,
    /// Names of the conditions that have to come true at least once in a run with faults.
    pub sometimes: Vec<String>,
}

/// A fault, or a family of them, that a scenario tolerates.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// Fault or family, such as `net.delay` or `net`.
    pub fault: String,
    /// Containers that the fault may be injected into, by their names in the lab.
    pub on: Vec<String>,
    /// The fault's parameters, each fixed or with the range that it is drawn from.
    pub parameters: BTreeMap<String, ParameterRule>,
}

/// Permitted values of a fault's parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterRule {
    Fixed(Value),
    /// Smallest and largest whole number, both permitted.
    Range(i64, i64),
}

impl FaultRule {
    /// Tells whether this rule permits a fault, by the fault's own name or by its family.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        name == self.fault || name.split('.').next() == Some(self.fault.as_str())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChaosTable {
    /// Reason why the scenario tolerates no fault, for one without any `faults`.
    nothing_because: Option<Spanned<String>>,
    /// Faults that the scenario tolerates.
    #[serde(default)]
    faults: Vec<Spanned<FaultTable>>,
    /// Maximum number of active faults; a fault is active until it is healed and its machine is ready again.
    #[serde(default = "default_concurrent", deserialize_with = "within::<ConcurrentFaults, _>")]
    max_concurrent: u32,
    /// Time during which faults are injected, from `lab.chaos` on.
    #[serde(default = "default_length", deserialize_with = "within::<ChaosLength, _>")]
    length: Duration,
    /// Longest duration of a fault; at most the `length`.
    #[serde(default)]
    longest: Option<Spanned<Within<FaultTime>>>,
    /// Time without faults after everything was healed and works again.
    #[serde(default = "default_quiet", deserialize_with = "within::<QuietTime, _>")]
    quiet: Duration,
    /// Deadline for the probes of all containers to pass again after everything was healed. A single machine has the same time
    /// to recover after each fault.
    #[serde(default = "default_recovery", deserialize_with = "within::<RecoveryTime, _>")]
    recovery: Duration,
    /// Conditions that have to come true at least once in a run with faults, by the names that `lab.sometimes` uses.
    #[serde(default)]
    sometimes: Vec<Spanned<String>>,
}

#[derive(Debug)]
struct FaultTable {
    /// A fault, such as `net.delay`, or a family of them, such as `net`.
    fault: Spanned<String>,
    /// Containers that the fault may be injected into; all if not given.
    on: Option<Vec<Spanned<String>>>,
    /// Any other keys: parameters of that fault, each a value or a range such as `[5, 100]`, from which a whole number is drawn, both ends
    /// included. A parameter that is not given is drawn from the fault's own range.
    parameters: AnyOther,
}

/// Keys of a table that are not fields of its type, each with its value and the value's position in the file.
type AnyOther = Vec<(String, Spanned<Value>)>;

/// Implemented by hand, because serde's `flatten` loses the positions of the parameters in the file.
impl<'de> Deserialize<'de> for FaultTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FaultKeys)
    }
}

struct FaultKeys;

impl<'de> Visitor<'de> for FaultKeys {
    type Value = FaultTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a fault")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<FaultTable, A::Error> {
        let (mut fault, mut on, mut parameters) = (None, None, Vec::new());
        while let Some(key) = table.next_key::<String>()? {
            match key.as_str() {
                "fault" => fault = Some(table.next_value()?),
                "on" => on = Some(table.next_value()?),
                _ => parameters.push((key, table.next_value()?)),
            }
        }
        Ok(FaultTable { fault: fault.ok_or_else(|| A::Error::missing_field("fault"))?, on, parameters })
    }
}

fn default_concurrent() -> u32 {
    2
}

fn default_length() -> Duration {
    Duration::from_secs(10)
}

fn default_longest() -> Duration {
    Duration::from_secs(3)
}

fn default_quiet() -> Duration {
    Duration::from_millis(500)
}

fn default_recovery() -> Duration {
    Duration::from_secs(30)
}

impl ChaosTable {
    /// Checks the table against the scenario's containers.
    pub fn check(self, source: &Source, whole: &Spanned<()>, containers: &[&str]) -> Result<Chaos, Error> {
        match (&self.nothing_because, self.faults.is_empty()) {
            (None, true) => {
                let message =
                    "list tolerated faults as [[chaos.faults]], or give the reason for none as `nothing_because`";
                return Err(source.error_at(whole, message));
            }
            (Some(reason), false) => {
                return Err(
                    source.error_at(reason, "`nothing_because` contradicts [[chaos.faults]]: remove one of them")
                );
            }
            (Some(reason), true) if reason.get_ref().trim().is_empty() => {
                return Err(source.error_at(
                    reason,
                    "`nothing_because` is empty: give the reason why the scenario tolerates no fault",
                ));
            }
            _ => {}
        }
        let longest = match self.longest {
            Some(longest) if longest.get_ref().0 > self.length => {
                let length = humantime::format_duration(self.length);
                let message = format!("`longest` cannot exceed `length`, which is {length}");
                return Err(source.error_at(&longest, message));
            }
            Some(longest) => longest.into_inner().0,
            None => default_longest().min(self.length),
        };
        let mut sometimes: Vec<String> = Vec::new();
        for name in &self.sometimes {
            if name.get_ref().trim().is_empty() || sometimes.contains(name.get_ref()) {
                return Err(source.error_at(name, "`sometimes` lists each condition once, by a name that is not empty"));
            }
            sometimes.push(name.get_ref().clone());
        }
        let faults = self.faults.iter().map(|fault| check_fault(source, fault, containers));
        Ok(Chaos {
            faults: faults.collect::<Result<_, _>>()?,
            nothing_because: self.nothing_because.map(Spanned::into_inner),
            max_concurrent: self.max_concurrent,
            length: self.length,
            longest,
            quiet: self.quiet,
            recovery: self.recovery,
            sometimes,
        })
    }
}

fn check_fault(source: &Source, table: &Spanned<FaultTable>, containers: &[&str]) -> Result<FaultRule, Error> {
    let FaultTable { fault, on, parameters } = table.get_ref();
    let name = fault.get_ref();
    let families: BTreeSet<&str> = Fault::NAMES.iter().filter_map(|name| name.split('.').next()).collect();
    if !Fault::NAMES.contains(&name.as_str()) && !families.contains(name.as_str()) {
        let hint = nearest(name, Fault::NAMES.into_iter().chain(families)).map_or_else(
            || "`cargo xtask fault list` shows them all".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
        return Err(source.error_at(fault, format!("there is no fault and no family {name:?}: {hint}")));
    }
    if families_own(name) && !parameters.is_empty() {
        let message = "the faults of a family have different parameters: give them to one fault, such as \"net.delay\"";
        return Err(source.error_at(fault, message));
    }
    let mut rules = BTreeMap::new();
    for (parameter, value) in parameters {
        let rule = rule_of(name, parameter, value.get_ref())
            .map_err(|message| source.error_at(value, format!("{name}: {parameter}: {message}")))?;
        rules.insert(parameter.clone(), rule);
    }
    if !families_own(name) {
        check_parameters(name, &rules).map_err(|message| source.error_at(fault, format!("{name}: {message}")))?;
    }
    for container in on.iter().flatten() {
        if !containers.contains(&container.get_ref().as_str()) {
            let known = containers.join(", ");
            let message = format!("there is no container {:?}: the scenario has {known}", container.get_ref());
            return Err(source.error_at(container, message));
        }
    }
    let on = match on {
        Some(on) if on.is_empty() => return Err(source.error_at(fault, "`on` names at least one container")),
        Some(on) => on.iter().map(|container| container.get_ref().clone()).collect(),
        None => containers.iter().map(|container| (*container).to_owned()).collect(),
    };
    Ok(FaultRule { fault: name.clone(), on, parameters: rules })
}

fn families_own(name: &str) -> bool {
    !name.contains('.')
}

/// Reads a parameter: `[5, 100]` is a range, of which the fault has to accept both ends; anything else is a fixed value.
fn rule_of(fault: &str, parameter: &str, value: &Value) -> Result<ParameterRule, String> {
    let may_be = |value: &Value| Fault::range_of(fault, parameter).map_or(Ok(()), |range| range.check(value));
    let ends = value.as_array().and_then(|list| match list.as_slice() {
        [from, to] => Some((from.as_i64()?, to.as_i64()?)),
        _ => None,
    });
    let Some((from, to)) = ends else {
        may_be(value)?;
        return Ok(ParameterRule::Fixed(value.clone()));
    };
    if from > to {
        return Err("a range goes from the smaller to the larger number".to_owned());
    }
    may_be(&from.into())?;
    may_be(&to.into())?;
    Ok(ParameterRule::Range(from, to))
}

/// Checks that the fault has each of the given parameters; missing ones are drawn later.
fn check_parameters(name: &str, rules: &BTreeMap<String, ParameterRule>) -> Result<(), String> {
    let mut fields = Map::from_iter([("name".to_owned(), Value::from(name))]);
    for (parameter, rule) in rules {
        let value = match rule {
            ParameterRule::Range(_, to) => Value::from(*to),
            ParameterRule::Fixed(value) => value.clone(),
        };
        fields.insert(parameter.clone(), value);
    }
    match serde_json::from_value::<Fault>(Value::Object(fields)) {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().starts_with("missing field") => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
