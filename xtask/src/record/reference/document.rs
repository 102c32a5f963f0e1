//! Reference page `docs/events.md`, made from the types, and its test.

use std::path::Path;

use serde_json::Value;

use super::examples::examples;
use super::source::{Field, Shape, fields, variants};
use crate::record::{FORMAT_VERSION, Stamped};

/// Environment variable that makes the tests write the pages, whatever its value.
const WRITE_VARIABLE: &str = "E2E_WRITE_REFERENCE";
/// Command that writes the pages.
pub const COMMAND: &str = "E2E_WRITE_REFERENCE=1 cargo test -p xtask --lib record::reference";

const EVENT: &str = include_str!("../event.rs");
const OUTCOME: &str = include_str!("../outcome.rs");
const COMPARISON: &str = include_str!("../comparison.rs");
const VERDICT: &str = include_str!("../../../stats/src/verdict.rs");
const ERROR: &str = include_str!("../../error.rs");
const COVERAGE: &str = include_str!("../coverage.rs");
const PATIENCE: &str = include_str!("../patience.rs");
const PERFORMANCE: &str = include_str!("../performance.rs");
/// Sources with structs that are flattened into others.
const SOURCES: [&str; 4] = [EVENT, COMPARISON, VERDICT, COVERAGE];
const CONTRACT: &str = include_str!("../../../contract/reference.json");

fn document() -> String {
    let mut text = format!(
        "# Events\n\n\
         `cargo xtask e2e --format json` prints what happens on stdout, a JSON object a line, as it happens; the same lines stand in\n\
         `target/e2e/RUN/events.jsonl`. This page is made from the types in `xtask/src/record/event.rs`, which is the one place that \
         decides:\n`{COMMAND}`.\n\n\
         This is version {FORMAT_VERSION}, which the first event of a run names in `format_version`. New events and new fields may \
         come without a new\nversion, so a reader passes over what it does not know; what there is keeps its name and meaning, or the \
         version is raised.\nNames are snake_case, units stand last in them. Text is the program's own, and may hold anything, escape \
         codes too: a\nterminal should not be sent it as it is.\n\n\
         Every line has `at_ms`, the time since the run's start in milliseconds, and `event`, the name of one of these:\n"
    );
    let shapes = variants(EVENT, "Event");
    let examples = examples();
    assert_eq!(shapes.len(), examples.len(), "examples.rs has an example of each event, in the order of the type");
    for (shape, example) in shapes.iter().zip(&examples) {
        let event = serde_json::to_value(Stamped { at_ms: 1234.567, event: example.clone() }).unwrap();
        let name = snake_case(&shape.name);
        assert_eq!(event["event"], name, "examples.rs is in the order of the type");
        let rows = rows(shape);
        hold(&name, &rows, &event);
        text.push_str(&format!("\n## {name}\n\n{}\n\n{}\n```json\n{event}\n```\n", shape.meaning, table(&rows)));
    }
    let types = [
        (OUTCOME, "Outcome"),
        (OUTCOME, "Cause"),
        (OUTCOME, "Verdict"),
        (OUTCOME, "Counts"),
        (OUTCOME, "FaultCounts"),
        (EVENT, "FaultLasted"),
        (EVENT, "LastedState"),
        (OUTCOME, "Lateness"),
        (EVENT, "Onward"),
        (COMPARISON, "Way"),
        (VERDICT, "Decision"),
        (ERROR, "HostCause"),
        (PATIENCE, "RecordedPatience"),
        (OUTCOME, "RecordedPart"),
        (PERFORMANCE, "Machine"),
    ];
    for (source, name) in types {
        text.push_str(&format!("\n## The type {name}\n\n"));
        match fields(source, name) {
            Some(fields) => text.push_str(&table(&fields)),
            None => variants(source, name).iter().for_each(|variant| {
                let fields: Vec<String> = variant
                    .fields
                    .iter()
                    .map(|field| format!("`{}`: {}{}", field.name, shown_type(field), missing(field)))
                    .collect();
                let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
                text.push_str(&format!("- `{}`{fields}: {}\n", snake_case(&variant.name), variant.meaning));
            }),
        }
    }
    text.push_str(
        "\nAn `Outcome` stands as an object whose field `outcome` names it, a `Cause` as one whose field `cause` does; a \
         `Verdict`,\nan `Onward`, a `Way`, a `Decision`, a `LastedState` and a `HostCause` stand as their names. All other types are those of the messages between engine and scenario:\n\
         [reference.json](../xtask/contract/reference.json) has them as JSON Schema.\n",
    );
    text
}

/// Returns the fields of an event's JSON object, with those of flattened structs.
fn rows(shape: &Shape) -> Vec<Field> {
    let own = match &shape.inner {
        Some(inner) => of_struct(inner),
        None => shape.fields.clone(),
    };
    own.into_iter().flat_map(|field| if field.is_flat { of_struct(&field.rust_type) } else { vec![field] }).collect()
}

/// Returns the fields of a struct of the record, or of the contract.
fn of_struct(name: &str) -> Vec<Field> {
    let name = name.strip_prefix("Box<").and_then(|inner| inner.strip_suffix('>')).unwrap_or(name);
    let name = name.rsplit("::").next().unwrap_or_default();
    if let Some(found) = SOURCES.iter().find_map(|source| fields(source, name)) {
        return found.into_iter().flat_map(|it| if it.is_flat { of_struct(&it.rust_type) } else { vec![it] }).collect();
    }
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let schema = &contract["$defs"][name];
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("nobody knows the type {name}"));
    let field = |(name, property): (&String, &Value)| Field {
        name: name.clone(),
        rust_type: of_schema(property),
        meaning: property["description"].as_str().unwrap_or_default().to_owned(),
        is_flat: false,
        may_be_missing: !required.contains(&Value::String(name.clone())),
        attributes: String::new(),
    };
    properties.iter().map(field).collect()
}

fn of_schema(property: &Value) -> String {
    let named = property["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let kind = property["type"].as_str().or_else(|| property["type"][0].as_str());
    match (named, kind) {
        (Some(name), _) => name.to_owned(),
        (None, Some("string")) => "String".to_owned(),
        (None, Some("integer")) => "u64".to_owned(),
        (None, Some("number")) => "f64".to_owned(),
        (None, Some("boolean")) => "bool".to_owned(),
        (None, kind) => panic!("no word for the type {kind:?}"),
    }
}

/// Asserts that an example has exactly the documented fields.
fn hold(name: &str, rows: &[Field], event: &Value) {
    let event = event.as_object().unwrap();
    for field in rows {
        assert!(event.contains_key(&field.name) || field.may_be_missing, "{name} has no field {}", field.name);
        assert!(!field.meaning.is_empty(), "{name}: {} has no documentation", field.name);
    }
    let known =
        |key: &&String| ["at_ms", "event"].contains(&key.as_str()) || rows.iter().any(|field| field.name == **key);
    let unknown: Vec<&String> = event.keys().filter(|key| !known(key)).collect();
    assert!(unknown.is_empty(), "{name} has fields that nobody describes: {unknown:?}");
}

fn missing(field: &Field) -> &'static str {
    if field.may_be_missing { ", or left out" } else { "" }
}

/// Formats fields as a table.
pub fn table(rows: &[Field]) -> String {
    let mut text = String::from("| field | type | meaning |\n|---|---|---|\n");
    for field in rows {
        let missing = missing(field);
        // Links of the documentation lead nowhere here.
        let meaning = field.meaning.replace("[`super::", "`").replace("[`", "`").replace("`]", "`");
        text.push_str(&format!(
            "| `{}` | {}{missing} | {} |\n",
            field.name,
            shown_type(field),
            meaning.replace('|', "\\|")
        ));
    }
    text
}

fn shown_type(field: &Field) -> String {
    let inside = |prefix: &str| field.rust_type.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inside("Option<") {
        let inner = shown_type(&Field { rust_type: inner.to_owned(), ..field.clone() });
        return if field.may_be_missing { inner } else { format!("{inner}, or null") };
    }
    if let Some(inner) = inside("Vec<") {
        return format!("list of {}", shown_type(&Field { rust_type: inner.to_owned(), ..field.clone() }));
    }
    if let Some(inner) = inside("BTreeMap<String, ") {
        return format!("by name: {}", shown_type(&Field { rust_type: inner.to_owned(), ..field.clone() }));
    }
    match field.rust_type.as_str() {
        "String" | "CaseId" => "text".to_owned(),
        "u8" | "u32" | "u64" | "i32" | "usize" => "whole number".to_owned(),
        "f64" => "number".to_owned(),
        "bool" => "true or false".to_owned(),
        "(f64, f64)" => "two numbers".to_owned(),
        named => format!("`{named}`"),
    }
}

pub fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// Asserts that a page's file has this text, and writes the file first if [`WRITE_VARIABLE`] is set.
pub fn hold_to_file(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = made.lines().zip(written.lines()).position(|(made, written)| made != written);
    let line = differing.unwrap_or_else(|| made.lines().count().min(written.lines().count())) + 1;
    assert!(made == written, "{name}:{line}: the types say something else\n    help: {COMMAND}");
}

#[test]
fn the_document_is_what_the_types_say() {
    hold_to_file("docs/events.md", &document());
}
