//! Reference page `docs/coverage-json.md`, on the file `coverage.json`.

use super::document::{COMMAND, hold_to_file, snake_case, table};
use super::source::{fields, variants};
use crate::record::{COVERAGE_VERSION, Coverage};

const SOURCE: &str = include_str!("../coverage.rs");

/// Types of the file, from the outer to the inner ones.
const TYPES: [&str; 3] = ["Coverage", "CoverageCounts", "CoveredFunction"];

/// Returns the coverage of a small package.
pub fn example() -> Coverage {
    let function = |name: &str, line: u32| serde_json::json!({ "function": name, "file": "shop/files.py", "line": line, "does_nothing": line == 41 });
    let functions = [("upload", 12), ("download", 30), ("stat", 41)];
    let functions = functions.map(|(name, line)| function(&format!("shop.files:Store.{name}"), line));
    let listed = serde_json::json!({ "package": "shop", "version": "1.2", "functions": functions });
    let mut coverage = Coverage::new("app", serde_json::from_value(listed).unwrap());
    let calls = "call\tshop.files:Store.upload\torders.py\nvalue\tshop.files:Store.upload\torders.py\tbool\n\
                 call\tshop.files:Store.download\tprobes.py\n";
    coverage.add("shop/orders:small", calls);
    coverage.count(&["probes.py".to_owned()]);
    coverage.gaps.push("shop/orders:small: the calls on db are missing: the machine was not running at the end".into());
    coverage
}

fn document() -> String {
    let example = serde_json::to_string_pretty(&example()).unwrap();
    let mut text = format!(
        "# coverage.json\n\n\
         What [`cargo xtask e2e --coverage`](coverage.md) has collected, in the folder of the run. This is version {COVERAGE_VERSION}; new \
         fields may come without a new\nversion. Text is the product's own, and may hold anything, escape codes too. This page is made from \
         the types in\n`xtask/src/record/coverage.rs`: `{COMMAND}`.\n\n```json\n{example}\n```\n"
    );
    for name in TYPES {
        let fields = fields(SOURCE, name).unwrap_or_else(|| panic!("the source has no {name}"));
        for field in &fields {
            assert!(!field.meaning.is_empty(), "{name}: {} has no documentation", field.name);
            assert!(example.contains(&format!("\"{}\":", field.name)), "the example has no {}", field.name);
        }
        let title = if name == "Coverage" { "The file".to_owned() } else { format!("The type {name}") };
        text.push_str(&format!("\n## {title}\n\n{}", table(&fields)));
    }
    text.push_str("\n## The type CalledBy\n\n");
    for variant in variants(SOURCE, "CalledBy") {
        text.push_str(&format!("- `{}`: {}\n", snake_case(&variant.name), variant.meaning));
    }
    text
}

#[test]
fn the_page_is_what_the_types_say() {
    hold_to_file("docs/coverage-json.md", &document());
}
