//! Reference page `docs/protocol.md`, made from the types, and its test.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::examples::{Exchange, exchanges, refusal};
use super::schema::{WRITE_VARIABLE, hold, reference};
use crate::*;

/// Variables in a scenario's environment: name, type and meaning. A test in `xtask/src/run/clients.rs` compares them with those that the
/// engine sets.
const VARIABLES: [(&str, &str, &str); 8] = [
    (SOCKET_VARIABLE, "always", "Path of the engine's socket; it is this user's alone."),
    (
        PATIENCE_VARIABLE,
        "always",
        "Factor of deadlines on this machine, such as `1` or `6.2`. The engine multiplies every `deadline_ms` of a request by it; \
         a client does the same to the deadlines of its own waits.",
    ),
    (
        "PYTHONPATH",
        "with a `command`",
        "The run's `sdk/` first, where `import e2e` finds the client; then what it was before.",
    ),
    ("PYTHONUNBUFFERED", "with a `command`", "`1`, so that the log of a killed scenario is whole."),
    ("PYTHONDONTWRITEBYTECODE", "with a `command`", "`1`, so that no run leaves files in the project."),
    ("USER", "under sudo", "The user who called sudo: the scenario runs as that user."),
    ("LOGNAME", "under sudo", "The same."),
    ("HOME", "under sudo", "The home of that user."),
];

/// Types without a section of their own, since another part of the text describes them.
const NO_SECTION: [&str; 3] = ["Done", "Request", "Response"];

struct Reference {
    types: Map<String, Value>,
    methods: Map<String, Value>,
    codes: Map<String, Value>,
    errors_of_any_method: Value,
}

fn document() -> String {
    let Value::Object(mut whole) = reference() else { panic!("the reference is an object") };
    let errors_of_any_method = whole["errors_of_any_method"].take();
    let mut take = |key: &str| match whole.remove(key) {
        Some(Value::Object(map)) => map,
        other => panic!("{key} is an object, not {other:?}"),
    };
    let reference =
        Reference { types: take("$defs"), methods: take("methods"), codes: take("error_codes"), errors_of_any_method };
    let exchanges = exchanges();
    let names: Vec<&str> = exchanges.iter().map(|exchange| exchange.method).collect();
    let methods: Vec<&str> = reference.methods.keys().map(String::as_str).collect();
    assert_eq!(names, methods, "examples.rs has an example of each method, in the order of the type's file");
    let mut text = beginning(&reference, &exchanges[0]);
    text.push_str("\n## The methods\n\n| method | what it does |\n|---|---|\n");
    for name in &methods {
        let first = reference.about_method(name).split_inclusive(". ").next().unwrap_or_default().trim().to_owned();
        text.push_str(&format!("| [`{name}`](#{}) | {} |\n", anchor(name), capital(first.trim_end_matches('.'))));
    }
    for (number, exchange) in exchanges.iter().enumerate() {
        text.push_str(&reference.method(number, exchange));
    }
    text.push_str("\n## The types\n");
    for name in reference.further_types() {
        text.push_str(&reference.section_of_type(&name));
    }
    text
}

fn beginning(reference: &Reference, hello: &Exchange) -> String {
    let mut text = format!(
        "# Protocol\n\n\
         What the engine and a scenario say to each other: for whoever writes scenarios in a language without a client. Rust has \
         `xtask/sdk`,\nPython `xtask/sdk/python/e2e.py`; both speak what stands here, and so may any program that can write JSON to \
         a socket. The same as\nJSON Schema, to generate types from: [reference.json](../xtask/contract/reference.json). Both are \
         made from the types in\n`xtask/contract/src`, which is the one place that decides: \
         `{WRITE_VARIABLE}=1 cargo test -p e2e-contract`.\n\n\
         ## How a scenario begins\n\n\
         A scenario with a `command` in its `scenario.toml` is started with those words, in its own folder, as the user who started \
         the run,\nwith nothing on stdin; what it writes to stdout and stderr is its log. It finds in its environment, beside what the \
         engine was\nstarted with:\n\n\
         | variable | where | what it is |\n|---|---|---|\n"
    );
    for (name, place, meaning) in VARIABLES {
        text.push_str(&format!("| `{name}` | {place} | {meaning} |\n"));
    }
    let line = |value: &Value| format!("{value}\n");
    text.push_str(&format!(
        "\nWhere sudo is used, `SUDO_UID`, `SUDO_GID`, `SUDO_USER` and `SUDO_COMMAND` are taken out of it.\n\n\
         The scenario runs in a session of its own, without a terminal, with nothing on its standard input and no other file open. `no_new_privs` \
         is set: no program that it starts gains rights from its mode, so sudo does not work in it.\n\n\
         It connects to the Unix socket that `{SOCKET_VARIABLE}` names, once, and writes its first request, `hello`. This is \
         version {PROTOCOL_VERSION} of\nthe protocol; the engine refuses a scenario that says another.\n\n\
         ## Messages\n\n\
         Both sides write JSON-RPC 2.0, a message a line (UTF-8, at the end `\\n`), of at most {LINE_BYTES_MAX} bytes. The scenario \
         asks, the engine\nanswers; it asks nothing itself. A stream of more than {STREAM_BYTES_MAX} bytes lies in a file, so that two of them fit into \
         a line. Up\nto 64 requests may be under way at once, and their answers come in any \
         order: `id` says whose each is.\nNames are snake_case, units stand last in them.\n\n\
         Parameters are read strictly: one that the engine does not know, or that comes twice, is an error. Answers may get more fields without another \
         version\nof the protocol, so a scenario passes over what it does not know.\n\n\
         A request:\n\n{}\nAn answer:\n\n{}\nThe first exchange, as it goes over the socket:\n\n```json\n{}{}```\n",
        reference.table(&reference.types["Request"], "field"),
        reference.table(&reference.types["Response"], "field"),
        line(&json!(Request::new(1, hello.method, hello.params.clone()))),
        line(&json!(Response::success(1, hello.answer.clone()))),
    ));
    text.push_str(&format!(
        "\n## Errors\n\n\
         An answer has `error` instead of `result` where the request was not carried out; `message` is for people, and says what \
         was tried,\non what, and what came of it.\n\n```json\n{}```\n\n| code | name | meaning |\n|---|---|---|\n",
        line(&json!(refusal()))
    ));
    for (name, code) in &reference.codes {
        text.push_str(&format!("| {} | `{name}` | {} |\n", code["code"], plain(code["description"].as_str().unwrap())));
    }
    text.push_str("\nAny request may be refused for these:\n\n");
    text.push_str(&reference.refusals(&reference.errors_of_any_method));
    text.push_str(&format!(
        "\nA program in a container that ends with a status other than 0 is no error of `exec`, and a failed `check` none of \
         `check`: the\nscenario was understood, and says by its end what it makes of it.\n\n\
         ## How a scenario ends\n\n\
         By its exit status. 0 passes, if it said `hello`, no check or invariant failed, no step and no measured operation is still \
         open,\neach of the scenario's `defects` was looked at, `chaos.begin` was followed by `settle`, and no limit was exceeded. \
         {PANIC_EXIT_STATUS} is a panic, any other\nstatus a failure; `abort` beforehand says why. What was written before the end \
         counts, also where nobody waits for the answer:\na check, an invariant, a defect or another statement that was refused, and \
         a method that there is not, fail a scenario that ends\nwith 0. A line that is no request, another version of the protocol \
         and an end without `hello` are failures, whatever the status.\nWhen the connection closes, the engine has ended the \
         session: there is nothing left to do.\n"
    ));
    text
}

impl Reference {
    fn type_of(&self, schema: &Value) -> Option<&str> {
        let name = schema["$ref"].as_str()?.strip_prefix("#/$defs/")?;
        self.types.get_key_value(name).map(|(name, _)| name.as_str())
    }

    /// Returns a method's doc comment, without the method's name.
    fn about_method(&self, name: &str) -> String {
        let params = self.type_of(&self.methods[name]["params"]).expect("parameters are a type");
        let about = plain(self.types[params]["description"].as_str().expect("each type is documented"));
        let prefix = format!("`{name}`: ");
        about
            .strip_prefix(&prefix)
            .unwrap_or_else(|| panic!("{params}'s documentation begins with {prefix}"))
            .to_owned()
    }

    fn refusals(&self, list: &Value) -> String {
        let one = |refusal: &Value| {
            let name = refusal["name"].as_str().expect("a code has a name");
            let because = refusal["because"].as_str().expect("a refusal has a reason");
            format!("- `{name}` ({}): {because}.\n", self.codes[name]["code"])
        };
        list.as_array().expect("a list of refusals").iter().map(one).collect()
    }

    fn method(&self, number: usize, exchange: &Exchange) -> String {
        let name = exchange.method;
        let schemas = &self.methods[name];
        let params = &self.types[self.type_of(&schemas["params"]).expect("parameters are a type")];
        let answer = self.type_of(&schemas["answer"]).expect("an answer is a type");
        self.hold(name, params, &exchange.params);
        self.hold(name, &self.types[answer], &exchange.answer);
        let mut text = format!("\n### {name}\n\n{}\n\n", capital(&self.about_method(name)));
        match params["properties"].as_object() {
            Some(_) => text.push_str(&self.table(params, "parameter")),
            None => text.push_str("No parameters: `{}`.\n"),
        }
        text.push_str(&match (answer, self.types[answer]["properties"].as_object()) {
            ("Done", _) => "\nResult: `{}`.\n".to_owned(),
            (_, Some(_)) => format!("\nResult:\n\n{}", self.table(&self.types[answer], "field")),
            (named, None) => format!("\nResult: a {}.\n", linked(named)),
        });
        let refusals = self.refusals(&schemas["errors"]);
        if !refusals.is_empty() {
            text.push_str(&format!("\nErrors:\n\n{refusals}"));
        }
        let id = number as u64 + 1;
        let request = json!(Request::new(id, name, exchange.params.clone()));
        let response = json!(Response::success(id, exchange.answer.clone()));
        text.push_str(&format!("\n```json\n{request}\n{response}\n```\n"));
        text
    }

    /// Asserts that an example has exactly the documented fields.
    fn hold(&self, method: &str, schema: &Value, example: &Value) {
        let (Some(properties), Some(example)) = (schema["properties"].as_object(), example.as_object()) else { return };
        for (name, property) in properties {
            assert!(example.contains_key(name), "the example of {method} has no {name}");
            assert!(property["description"].is_string(), "{method}: {name} has no documentation");
        }
        assert_eq!(example.len(), properties.len(), "the example of {method} has what no type has");
    }

    fn table(&self, schema: &Value, head: &str) -> String {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut text = format!("| {head} | type | required | meaning |\n|---|---|---|---|\n");
        for (name, property) in schema["properties"].as_object().expect("a type with fields") {
            text.push_str(&format!(
                "| `{name}` | {}{} | {} | {} |\n",
                self.shown(property),
                unit(name),
                if required.contains(&name.as_str()) { "yes" } else { "no" },
                plain(property["description"].as_str().unwrap_or_default()).replace('|', "\\|")
            ));
        }
        text
    }

    fn shown(&self, schema: &Value) -> String {
        if let Some(named) = self.type_of(schema) {
            return linked(named);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            return self.shown(&any[0]); // the other one is null, which is as good as absent
        }
        if let Some(items) = schema["prefixItems"].as_array() {
            let items: Vec<String> = items.iter().map(|item| self.shown(item)).collect();
            return format!("pair ({})", items.join(", "));
        }
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
            Some("string") => "text".to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some("number") => "number".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            Some("array") => format!("list of {}", self.shown(&schema["items"])),
            Some("object") => "object".to_owned(),
            None => "anything".to_owned(),
            Some(other) => panic!("no word for the type {other}"),
        }
    }

    /// Returns the names of types that are neither a method's parameters nor a plain result, sorted.
    fn further_types(&self) -> Vec<String> {
        let mut taken: BTreeSet<&str> = NO_SECTION.into_iter().collect();
        for method in self.methods.values() {
            taken.extend(self.type_of(&method["params"]));
            let answer = self.type_of(&method["answer"]).expect("an answer is a type");
            if self.types[answer].get("properties").is_some() {
                taken.insert(answer);
            }
        }
        self.types.keys().filter(|name| !taken.contains(name.as_str())).cloned().collect()
    }

    fn section_of_type(&self, name: &str) -> String {
        let schema = &self.types[name];
        let about = plain(schema["description"].as_str().unwrap_or_else(|| panic!("{name} has no documentation")));
        let mut text = format!("\n### The type {name}\n\n{about}\n\n");
        if name == "Fault" {
            text.push_str(
                "An object whose `name` is that of a fault, with the fault's parameters beside it: \
                 [faults.md](faults.md) has all of them.\n",
            );
            return text;
        }
        let Some(variants) = schema["oneOf"].as_array() else { return text + &self.table(schema, "field") };
        for variant in variants {
            text.push_str(&self.variant(variant));
        }
        text
    }

    fn variant(&self, schema: &Value) -> String {
        let about = plain(schema["description"].as_str().expect("each variant is documented"));
        if let Some(name) = schema["const"].as_str() {
            return format!("- `\"{name}\"`: {about}\n");
        }
        let properties = schema["properties"].as_object().expect("a variant is a name or an object");
        let (name, inner) = properties.iter().next().expect("an object of one field");
        let Some(fields) = inner["properties"].as_object() else {
            return format!("- `{{\"{name}\": ...}}`, {}: {about}\n", self.shown(inner));
        };
        let mut text = format!("- `{{\"{name}\": {{...}}}}`: {about}\n");
        for (field, property) in fields {
            let meaning = plain(property["description"].as_str().expect("each field is documented"));
            text.push_str(&format!("  - `{field}`, {}{}: {meaning}\n", self.shown(property), unit(field)));
        }
        text
    }
}

fn linked(name: &str) -> String {
    format!("[{name}](#the-type-{})", name.to_lowercase())
}

/// Returns the anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    heading.replace('.', "")
}

fn unit(name: &str) -> &'static str {
    let last = name.rsplit('_').next().unwrap_or_default();
    match last {
        "ms" => ", milliseconds",
        "bytes" => ", bytes",
        _ => "",
    }
}

/// Removes line breaks and links from a doc comment; the links would lead nowhere on the page.
fn plain(text: &str) -> String {
    text.replace("[`crate::", "`").replace("[`", "`").replace("`]", "`").replace('\n', " ").replace("  ", " ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[test]
fn the_document_is_what_the_types_say() {
    hold("docs/protocol.md", &document());
}
