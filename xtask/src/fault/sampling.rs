//! Random parameters of faults, from the ranges of a scenario, else from default ones.

use std::collections::BTreeMap;

use e2e_contract::Fault;
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde_json::{Map, Value, json};

use crate::manifest::ParameterRule;

/// Part of a parameter's range that its value is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intensity {
    /// Mild half of the range.
    Low,
    /// Whole range.
    Any,
    /// Hard half of the range.
    High,
}

/// Range of a parameter, from its mildest to its hardest value.
struct Range {
    parameter: &'static str,
    mild: i64,
    hard: i64,
}

const fn range(parameter: &'static str, mild: i64, hard: i64) -> Range {
    Range { parameter, mild, hard }
}

/// Returns the default ranges for the parameters of a fault. A parameter without a default has to be stated by the scenario.
fn ranges(name: &str) -> Vec<Range> {
    match name {
        "node.stop" => vec![range("grace_ms", 2000, 500)],
        "node.restart-storm" => vec![range("times", 1, 3), range("up_ms", 500, 50)],
        "net.flap" => vec![range("down_ms", 50, 400), range("up_ms", 800, 100)],
        "net.delay" => vec![range("delay_ms", 5, 200), range("jitter_ms", 0, 50)],
        "net.loss" => vec![range("percent", 1, 30)],
        "net.nth-loss" => vec![range("every", 20, 3)],
        "net.duplicate" => vec![range("percent", 5, 60)],
        "net.corrupt" => vec![range("percent", 1, 20)],
        "net.rate" => vec![range("kilobits_per_second", 50_000, 1000)],
        "net.mtu-hole" => vec![range("bytes", 1400, 600)],
        "cpu.quota" => vec![range("percent", 80, 15)],
        "cpu.burn" => vec![range("processes", 1, 4)],
        "memory.pressure" => vec![range("bytes", 8 << 20, 64 << 20)],
        "pids.cap" => vec![range("free", 8, 0)],
        _ => Vec::new(),
    }
}

/// Draws the parameters of a fault of this name; `None` when neither the scenario nor `ranges` has a range for one of them.
pub fn draw(
    name: &str,
    rules: &BTreeMap<String, ParameterRule>,
    intensity: Intensity,
    stream: &mut Pcg64,
) -> Option<Fault> {
    let mut parameters = Map::new();
    for Range { parameter, mild, hard } in ranges(name) {
        let middle = mild + (hard - mild) / 2;
        let (from, to) = match intensity {
            Intensity::Low => (mild, middle),
            Intensity::Any => (mild, hard),
            Intensity::High => (middle, hard),
        };
        parameters.insert(parameter.to_owned(), stream.random_range(from.min(to)..=from.max(to)).into());
    }
    match name {
        "net.oneway" => {
            let lost = if stream.random_bool(0.5) { "inbound" } else { "outbound" };
            parameters.insert("lost".into(), lost.into());
        }
        "net.partition" => {
            parameters.insert("shape".into(), json!("majority"));
        }
        _ => {}
    }
    for (parameter, rule) in rules {
        let value = match rule {
            ParameterRule::Fixed(value) => value.clone(),
            ParameterRule::Range(from, to) => stream.random_range(*from..=*to).into(),
        };
        parameters.insert(parameter.clone(), value);
    }
    // A delay can vary by no more than itself.
    if let (Some(delay), Some(jitter)) = (number(&parameters, "delay_ms"), number(&parameters, "jitter_ms")) {
        parameters.insert("jitter_ms".into(), jitter.min(delay).into());
    }
    fault_of(name, parameters)
}

fn number(parameters: &Map<String, Value>, name: &str) -> Option<i64> {
    parameters.get(name)?.as_i64()
}

/// Returns the same fault, half as hard; `None` when no parameter of it can be made milder.
pub fn milder(fault: &Fault) -> Option<Fault> {
    let Ok(Value::Object(mut parameters)) = serde_json::to_value(fault) else { return None };
    parameters.remove("name");
    let mut changed = false;
    for Range { parameter, mild, .. } in ranges(fault.name()) {
        let Some(now) = number(&parameters, parameter) else { continue };
        let next = now + (mild - now) / 2;
        if next != now {
            parameters.insert(parameter.to_owned(), next.into());
            changed = true;
        }
    }
    if changed { fault_of(fault.name(), parameters) } else { None }
}

/// Builds a fault from its parameters; `None` when they do not fit it.
fn fault_of(name: &str, parameters: Map<String, Value>) -> Option<Fault> {
    let mut fields = Map::from_iter([("name".to_owned(), Value::from(name))]);
    fields.extend(parameters);
    serde_json::from_value(Value::Object(fields)).ok()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn what_is_drawn_is_a_fault_of_that_name() {
        let mut stream = Pcg64::seed_from_u64(1);
        let mut drawn = 0;
        for name in Fault::NAMES {
            for intensity in [Intensity::Low, Intensity::Any, Intensity::High] {
                if let Some(fault) = draw(name, &BTreeMap::new(), intensity, &mut stream) {
                    assert_eq!(fault.name(), name);
                    drawn += 1;
                }
            }
        }
        assert!(drawn >= 3 * 25, "{drawn}: families are of use without parameters");
        for name in ["process.kill", "disk.full", "file.truncate", "service.stop", "clock.jump"] {
            let fault = draw(name, &BTreeMap::new(), Intensity::Any, &mut stream);
            assert_eq!(fault, None, "{name}: whose, is the scenario's to say");
        }
    }

    #[test]
    fn a_range_with_a_name_that_is_no_parameter_would_never_be_drawn() {
        for name in Fault::NAMES.into_iter().filter(|name| !ranges(name).is_empty()) {
            let mut stream = Pcg64::seed_from_u64(1);
            assert!(draw(name, &BTreeMap::new(), Intensity::Any, &mut stream).is_some(), "{name}");
        }
    }

    #[test]
    fn a_fault_becomes_milder_until_nothing_is_left_to_lessen() {
        let mut fault = Fault::NetDelay { delay_ms: 200, jitter_ms: 50, reorder_percent: 0 };
        let mut steps = 0;
        while let Some(next) = milder(&fault) {
            (fault, steps) = (next, steps + 1);
            assert!(steps < 20, "{fault}");
        }
        let Fault::NetDelay { delay_ms, jitter_ms, .. } = fault else { panic!("{fault}") };
        assert!(delay_ms <= 6 && jitter_ms <= 1, "{fault}");
        assert_eq!(milder(&Fault::NodeKill), None);
    }
}
