//! Reference page `docs/mutants-json.md`, on the file `mutants.json`.

use super::document::{COMMAND, hold_to_file, snake_case, table};
use super::source::{fields, variants};
use crate::record::{EmptiedDraw, MUTANTS_VERSION, MutantReport, MutantResult, MutantVerdict};

const SOURCE: &str = include_str!("../mutants.rs");

/// Types of the file, from the outer to the inner ones.
const TYPES: [&str; 4] = ["MutantReport", "EmptiedDraw", "MutantResult", "MutantCounts"];

fn example() -> MutantReport {
    let run = "20260101-000000-1".to_owned();
    let mut report = MutantReport { run: Some(run.clone()), ..MutantReport::new(Some(7)) };
    report.emptied =
        Some(EmptiedDraw { package: "shop".into(), version: "1.2".into(), candidates: 200, do_nothing: 3 });
    report.add(MutantResult {
        name: "half_upload".into(),
        breaks: "an upload sends half of the file, and says that it is done".into(),
        verdict: MutantVerdict::Killed,
        scenario: Some("shop/orders:small".into()),
        reason: "the file on db is the one that was sent: left == right [left = 10, right = 20] at main.py:42".into(),
        reached: vec!["shop.files:Store.upload".into()],
        run: Some(format!("{run}/mutants/half_upload")),
        duration_ms: Some(12_400.5),
    });
    report.add(MutantResult {
        name: "shorter_times".into(),
        breaks: "the log has one digit less of each time".into(),
        verdict: MutantVerdict::Equivalent,
        scenario: None,
        reason: "nobody is promised how many digits there are".into(),
        reached: Vec::new(),
        run: None,
        duration_ms: None,
    });
    report
}

fn document() -> String {
    let example = serde_json::to_string_pretty(&example()).unwrap();
    let mut text = format!(
        "# mutants.json\n\n\
         What [`cargo xtask mutants`](mutants.md) has found, in the folder of the run on the product as it is: it is written anew after each\n\
         mutant. `cargo xtask mutants --format json` prints the same at the end. This is version {MUTANTS_VERSION}; new fields may come \
         without a new\nversion. Text is the product's own, and may hold anything, escape codes too. This page is made from the types in\n\
         `xtask/src/record/mutants.rs`: `{COMMAND}`.\n\n```json\n{example}\n```\n"
    );
    for name in TYPES {
        let fields = fields(SOURCE, name).unwrap_or_else(|| panic!("the source has no {name}"));
        for field in &fields {
            assert!(!field.meaning.is_empty(), "{name}: {} has no documentation", field.name);
            assert!(example.contains(&format!("\"{}\":", field.name)), "the example has no {}", field.name);
        }
        let title = if name == "MutantReport" { "The file".to_owned() } else { format!("The type {name}") };
        text.push_str(&format!("\n## {title}\n\n{}", table(&fields)));
    }
    text.push_str("\n## The type MutantVerdict\n\n");
    for variant in variants(SOURCE, "MutantVerdict") {
        text.push_str(&format!("- `{}`: {}\n", snake_case(&variant.name), variant.meaning));
    }
    text.push_str(
        "\n`cargo xtask mutants --list --format json` prints an object with `format_version`, 1, and `mutants`, a list of objects with `name`,\n\
         `breaks`, `on` (the template) and `scenario`, which is null where the mutant is equivalent.\n",
    );
    text
}

#[test]
fn the_page_is_what_the_types_say() {
    hold_to_file("docs/mutants-json.md", &document());
}
