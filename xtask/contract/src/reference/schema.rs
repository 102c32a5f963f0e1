//! Reference `reference.json`, made from the types, and the tests that it is up to date and complete.

use std::path::Path;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::*;

/// Environment variable that makes the tests write `reference.json` and `docs/protocol.md`, whatever its value.
pub const WRITE_VARIABLE: &str = "E2E_WRITE_REFERENCE";

const CODES: [ErrorCode; 9] = [
    ErrorCode::Parse,
    ErrorCode::InvalidRequest,
    ErrorCode::MethodNotFound,
    ErrorCode::InvalidParams,
    ErrorCode::Infrastructure,
    ErrorCode::Deadline,
    ErrorCode::Interrupted,
    ErrorCode::Unavailable,
    ErrorCode::MachineEnded,
];

macro_rules! methods {
    ($generator:expr, $($params:ty),+ $(,)?) => {
        Map::from_iter([$((<$params>::NAME.to_owned(), method::<$params>($generator))),+])
    };
}

/// Returns the content of `reference.json`.
pub fn reference() -> Value {
    let generator = &mut SchemaSettings::draft2020_12().into_generator();
    let methods = methods!(
        generator,
        Hello,
        Exec,
        Put,
        Get,
        Wait,
        Step,
        MeasureBegin,
        MeasureEnd,
        Metric,
        Check,
        Log,
        Abort,
        Artifact,
        FaultInject,
        FaultHeal,
        ChaosBegin,
        Settle,
        Invariant,
        History,
        Defect,
        Screenshot,
        ScreenshotCompare,
    );
    let envelope = json!({
        "request": generator.subschema_for::<Request>(),
        "response": generator.subschema_for::<Response>(),
    });
    let codes = codes(generator);
    let mut types = generator.take_definitions(true);
    types.sort_keys();
    add_ranges(&mut types["Fault"]);
    json!({
        "title": "What the engine and a scenario say to each other",
        "description": format!(
            "Made from the types in xtask/contract/src: {WRITE_VARIABLE}=1 cargo test -p e2e-contract. A scenario \
             connects to the Unix socket that the environment variable names, and both sides write JSON-RPC 2.0, one \
             message a line. The first request is hello. Requests may overlap: answers are matched by id."
        ),
        "protocol_version": PROTOCOL_VERSION,
        "socket_variable": SOCKET_VARIABLE,
        "patience_variable": PATIENCE_VARIABLE,
        "line_bytes_max": LINE_BYTES_MAX,
        "stream_bytes_max": STREAM_BYTES_MAX,
        "envelope": envelope,
        "methods": methods,
        "errors_of_any_method": refusals(&REFUSALS_OF_ALL),
        "error_codes": codes,
        "$defs": types,
    })
}

/// Adds the minimum and maximum of the faults' parameters, which their types do not have.
fn add_ranges(faults: &mut Value) {
    for variant in faults["oneOf"].as_array_mut().expect("an enum of documented variants") {
        let properties = variant["properties"].as_object_mut().expect("a fault has fields");
        let fault = properties["name"]["const"].as_str().expect("a fault has a name").to_owned();
        for (parameter, schema) in properties {
            if let Some(ParameterRange::Number { least, most }) = Fault::range_of(&fault, parameter) {
                schema["minimum"] = least.into();
                schema["maximum"] = most.into();
            }
        }
    }
}

fn method<M: Method<Answer: schemars::JsonSchema> + schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({
        "params": generator.subschema_for::<M>(),
        "answer": generator.subschema_for::<M::Answer>(),
        "errors": refusals(M::REFUSALS),
    })
}

fn refusals(refusals: &[(ErrorCode, &str)]) -> Value {
    let one = |(code, reason): &(ErrorCode, &str)| json!({ "name": format!("{code:?}"), "because": reason });
    refusals.iter().map(one).collect()
}

/// Returns the error codes by name, each with its number and its doc comment.
fn codes(generator: &mut SchemaGenerator) -> Value {
    let schema = <ErrorCode as schemars::JsonSchema>::json_schema(generator).to_value();
    let documented = schema["oneOf"].as_array().expect("an enum of documented variants");
    assert_eq!(documented.len(), CODES.len(), "CODES lacks one");
    let described = CODES.iter().zip(documented).map(|(code, variant)| {
        assert_eq!(variant["const"], format!("{code:?}"), "CODES is in the order of the type");
        (format!("{code:?}"), json!({ "code": *code as i64, "description": variant["description"] }))
    });
    Value::Object(described.collect())
}

/// Asserts that a file has this text, and writes the file first if [`WRITE_VARIABLE`] is set.
pub fn hold(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = made.lines().zip(written.lines()).position(|(made, written)| made != written);
    assert!(
        made == written,
        "{name}:{}: the types say something else\n    help: {WRITE_VARIABLE}=1 cargo test -p e2e-contract",
        differing.unwrap_or_else(|| made.lines().count().min(written.lines().count())) + 1
    );
}

#[test]
fn the_reference_is_what_the_types_say() {
    hold("xtask/contract/reference.json", &format!("{:#}\n", reference()));
}

#[test]
fn every_method_is_in_the_reference() {
    let reference = reference();
    let listed: Vec<&str> = reference["methods"].as_object().unwrap().keys().map(String::as_str).collect();
    let source = include_str!("../method.rs");
    let declared: Vec<&str> =
        source.lines().filter_map(|line| line.strip_prefix("method!(")?.split('"').nth(1)).collect();
    assert_eq!(listed, declared, "the list in schema.rs and the types in method.rs, in their order");
}
