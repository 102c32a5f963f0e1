//! Reference page `docs/defects-json.md`, on the file `defects.json`.

use super::document::{COMMAND, hold_to_file, snake_case, table};
use super::source::{fields, variants};
use crate::record::{DEFECTS_VERSION, DefectReport, DefectResult, DefectVerdict, ProductPackage};

const SOURCE: &str = include_str!("../defects.rs");

/// Types of the file, from the outer to the inner ones.
const TYPES: [&str; 4] = ["DefectReport", "ProductPackage", "DefectResult", "DefectCounts"];

fn example() -> DefectReport {
    let result = |name: &str, verdict, seen: &str, place: Option<&str>| DefectResult {
        name: format!("shop-1.0/{name}"),
        case: "shop/orders:small".into(),
        verdict,
        seen: seen.into(),
        place: place.map(str::to_owned),
    };
    let place = |line: u32| format!("scenarios/shop/orders/main.py:{line}");
    let package = ProductPackage {
        template: "app".into(),
        package: "shop".into(),
        version: "1.1".into(),
        path: Some("/srv/shop".into()),
    };
    let defects = vec![
        result("quoting", DefectVerdict::Present, "it failed: echo said 'a b'", Some(&place(42))),
        result("upload", DefectVerdict::Gone, "observed: worker has the file: 34 bytes", Some(&place(50))),
        result(
            "retries",
            DefectVerdict::CannotTell,
            "it failed: exec in app ended with status 1: disk full",
            Some(&place(58)),
        ),
        result(
            "timeout",
            DefectVerdict::CannotTell,
            "it was not reached: exception: KeyError: 'k' at main.py:64",
            None,
        ),
    ];
    DefectReport::new("20260101-000000-1".into(), vec![package], defects, 1)
}

fn document() -> String {
    let example = serde_json::to_string_pretty(&example()).unwrap();
    let mut text = format!(
        "# defects.json\n\n\
         What [`cargo xtask defects`](defects.md) has found, in the folder of its run. `cargo xtask defects --format json` prints the same.\n\
         This is version {DEFECTS_VERSION}; new fields may come without a new version. Text is the product's own, and may hold anything, escape \
         codes\ntoo. This page is made from the types in `xtask/src/record/defects.rs`: `{COMMAND}`.\n\n```json\n{example}\n```\n"
    );
    for name in TYPES {
        let fields = fields(SOURCE, name).unwrap_or_else(|| panic!("the source has no {name}"));
        for field in &fields {
            assert!(!field.meaning.is_empty(), "{name}: {} has no documentation", field.name);
            let is_shown = field.name == "refused" || example.contains(&format!("\"{}\":", field.name));
            assert!(is_shown, "the example has no {}", field.name);
        }
        let title = if name == "DefectReport" { "The file".to_owned() } else { format!("The type {name}") };
        text.push_str(&format!("\n## {title}\n\n{}", table(&fields)));
    }
    text.push_str("\n## The type DefectVerdict\n\n");
    for variant in variants(SOURCE, "DefectVerdict") {
        text.push_str(&format!("- `{}`: {}\n", snake_case(&variant.name), variant.meaning));
    }
    text.push_str(
        "\n`cargo xtask defects --list --format json` prints an object with `format_version`, 1, and `defects`, a list of objects with `name`\n\
         and `case`.\n",
    );
    text
}

#[test]
fn the_page_is_what_the_types_say() {
    hold_to_file("docs/defects-json.md", &document());
}
