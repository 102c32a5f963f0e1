//! A fault from the words of a command line: its parameters as `NAME=VALUE`, each as JSON or as plain text.

use e2e_contract::Fault;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// A fault with the parameters that are given, and those of its example for the others.
///
/// # Errors
/// [`Error::Usage`] for a word that is no parameter, or not one of this fault.
pub(super) fn over_example(example: &Fault, given: &[String]) -> Result<Fault, Error> {
    fault(example, fields(example), given)
}

/// A fault with the parameters that are given: none is made up.
///
/// # Errors
/// As [`over_example`]; for a parameter that is missing.
pub(super) fn alone(example: &Fault, given: &[String]) -> Result<Fault, Error> {
    fault(example, Map::from_iter([("name".to_owned(), json!(example.name()))]), given)
}

fn fault(example: &Fault, mut base: Map<String, Value>, given: &[String]) -> Result<Fault, Error> {
    let bad = |message: String| Error::Usage(format!("{}: {message}; an example is: {example}", example.name()));
    let sample = fields(example);
    let mut names = Vec::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(bad(format!("{text:?} is not a parameter: write NAME=VALUE")));
        };
        let is_text = sample.get(name).is_some_and(Value::is_string);
        let value = match serde_json::from_str::<Value>(value) {
            Ok(value) if !is_text || value.is_object() => value,
            _ => Value::String(value.to_owned()),
        };
        names.push(name);
        base.insert(name.to_owned(), value);
    }
    let made: Fault = serde_json::from_value(Value::Object(base)).map_err(|error| bad(error.to_string()))?;
    // A fault without parameters takes any, and forgets them.
    let taken = fields(&made);
    match names.iter().find(|name| **name == "name" || !taken.contains_key(**name)) {
        Some(unknown) => Err(bad(format!("unknown field `{unknown}`"))),
        None => Ok(made),
    }
}

fn fields(fault: &Fault) -> Map<String, Value> {
    match serde_json::to_value(fault) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use e2e_contract::Partition;

    use super::*;

    type Make = fn(&Fault, &[String]) -> Result<Fault, Error>;

    fn check(make: Make, example: &Fault, given: &[&str], expected: &str) {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        let shown = match make(example, &given) {
            Ok(fault) => fault.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(shown.starts_with(expected), "{shown}\n  expected {expected}");
    }

    #[test]
    fn parameters_are_json_or_text() {
        let rate = Fault::NetRate { kilobits_per_second: 1 };
        let kill = Fault::ProcessKill { command: "x".into() };
        let ring = Fault::NetPartition { shape: Partition::Ring };
        for make in [over_example as Make, alone] {
            check(make, &rate, &["kilobits_per_second=50"], "net.rate kilobits_per_second=50");
            check(make, &kill, &["command=5"], "process.kill command=5");
            let groups = r#"shape={"groups":[["a"],["b"]]}"#;
            check(make, &ring, &[groups], r#"net.partition shape={"groups":[["a"],["b"]]}"#);
            check(make, &Fault::NetReset { port: None }, &["port=80"], "net.reset port=80");
            check(make, &rate, &["x"], "net.rate: \"x\" is not a parameter: write NAME=VALUE");
            check(make, &rate, &["x=1"], "net.rate: unknown field `x`, expected `kilobits");
            check(make, &rate, &["kilobits_per_second=a"], "net.rate: invalid type: string");
            check(make, &Fault::NetIsolate, &[], "net.isolate");
            check(make, &Fault::NetIsolate, &["x=1"], "net.isolate: unknown field `x`");
        }
    }

    #[test]
    fn what_is_not_given_is_the_examples_or_missing() {
        let delay = Fault::NetDelay { delay_ms: 50, jitter_ms: 5, reorder_percent: 0 };
        check(over_example, &delay, &["delay_ms=7"], "net.delay delay_ms=7 jitter_ms=5");
        check(alone, &delay, &["delay_ms=7"], "net.delay delay_ms=7");
        check(alone, &delay, &[], "net.delay: missing field `delay_ms`; an example is: net.delay delay_ms=50");
    }
}
