//! Content of the reference page `docs/scenarios.md`.

use std::time::Duration;

use super::document::{Missing, Others, Page, Section, duration};
use crate::manifest::{Scenario, Template};

const BEGINNING: &str = "\
A scenario is a folder `scenarios/CATEGORY/NAME/` with a `scenario.toml` and a program: a `main.rs` that the project's Cargo package of
scenarios lists, or whatever `command` says. Both names are made of a-z, 0-9, '-' and '_', and `NAME` is unique in the project.
`cargo xtask new CATEGORY/NAME` makes one that passes. Files for it lie in `fixtures/`.
";

const EXAMPLE: &str = r#"
description = "app reads from the database on db"
tags = ["data_pipeline", "slow"]
defects = ["mancer-0.1.4/df-table"]
command = ["python3", "main.py"]
timeout = "2m"

[containers.app]

[containers.db]
template = "postgres"

[[cases]]
name = "small"
rows = 1000

[[cases]]
name = "large"
on_request = true
rows = 1_000_000

[[expects]]
finding = "unit_restarted"
on = ["db"]
about = "postgresql*"

[limits.app]
memory_peak_bytes = "256M"
cpu_seconds = 20.0
read_bytes = "1G"
written_bytes = "64M"
received_bytes = "8M"
sent_bytes = "1M"

[chaos]
length = "10s"
longest = "3s"
max_concurrent = 2
quiet = "500ms"
recovery = "30s"
sometimes = ["a job was done again"]

[[chaos.faults]]
fault = "net"

[[chaos.faults]]
fault = "net.delay"
on = ["app"]
delay_ms = [5, 100]

[operations.query]
worse_percent = 10.0

[pages]
status = "http://app/status"
"#;

const WITHOUT_CHAOS: &str = r#"
description = "What the inventory says is what the machine has"
containers.app = {}

[chaos]
nothing_because = "it changes nothing: there is nothing to recover"
"#;

const SECTIONS: &[Section] = &[
    Section { heading: "The file", ..TABLE },
    Section {
        heading: "[containers.NAME]",
        about: "`NAME`, of up to 10 characters, is what the other machines of the lab know it by. A table without keys is enough.",
        place: &["containers", "*"],
        rust_type: "ContainerTable",
        ..TABLE
    },
    Section {
        heading: "[[cases]]",
        about: "Each runs in a lab of its own, in its first state.",
        place: &["cases"],
        rust_type: "CaseTable",
        others: Others::Taken,
        ..TABLE
    },
    Section {
        heading: "[[expects]]",
        about: "An unexpected anomaly that a lab shows at the end of a case stands in the record as a finding.",
        place: &["expects"],
        source: include_str!("../expects.rs"),
        rust_type: "ExpectedTable",
        ..TABLE
    },
    Section {
        heading: "[limits.CONTAINER]",
        about: "At least one of these. A case that exceeds one fails, unless it has failed already. They are not applied with `--chaos`, nor where \
                more samples are taken than the scenario planned.",
        place: &["limits", "*"],
        source: include_str!("../limits.rs"),
        rust_type: "LimitTable",
        ..TABLE
    },
    Section {
        heading: "[chaos]",
        about: "Either `faults`, or `nothing_because`.",
        place: &["chaos"],
        source: include_str!("../chaos.rs"),
        rust_type: "ChaosTable",
        ..TABLE
    },
    Section {
        heading: "[[chaos.faults]]",
        about: "[faults.md](faults.md) has all faults with their parameters. Those of a family are given no parameters.",
        place: &["chaos", "faults"],
        source: include_str!("../chaos.rs"),
        rust_type: "FaultTable",
        others: Others::Taken,
        ..TABLE
    },
    Section {
        heading: "[operations.NAME]",
        about: "`NAME` is that of a `lab.measure` or `lab.measure_n`.",
        place: &["operations", "*"],
        source: include_str!("../scenario.rs"),
        rust_type: "OperationTable",
        ..TABLE
    },
];

const TABLE: Section = Section {
    heading: "",
    about: "",
    place: &[],
    source: include_str!("../scenario.rs"),
    rust_type: "File",
    keys: None,
    missing: Missing::ByKey,
    others: Others::Refused,
};

fn words() -> Vec<(&'static str, String)> {
    vec![
        ("ContainerTables", "table of [tables](#containersname)".into()),
        ("LimitTables", "table of [tables](#limitscontainer)".into()),
    ]
}

/// Parses a scenario in a project that has the templates which the examples name.
fn read(text: &str) -> Result<Scenario, String> {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenarios/category/name");
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::write(scenario.join("scenario.toml"), text).unwrap();
    for name in ["app", "db", "postgres"] {
        let template = folder.path().join("containers").join(name);
        std::fs::create_dir_all(&template).unwrap();
        std::fs::write(template.join("template.toml"), "from = 'scratch'\ninit = ['/init']").unwrap();
    }
    let templates = Template::read_all(&folder.path().join("containers")).unwrap();
    let found = Scenario::read_all(&folder.path().join("scenarios"), &templates, Duration::from_secs(300));
    Ok(found.map_err(|error| error.to_string())?.remove(0))
}

/// Returns the default values of keys, from a minimal scenario.
fn defaults() -> Vec<(&'static str, String)> {
    let least = "description = 'x'\n[containers.app]\n[chaos]\nnothing_because = 'x'\n";
    let chaos = read(least).unwrap().chaos.unwrap();
    vec![
        ("[chaos] max_concurrent", chaos.max_concurrent.to_string()),
        ("[chaos] length", duration(chaos.length)),
        ("[chaos] longest", duration(chaos.longest)),
        ("[chaos] quiet", duration(chaos.quiet)),
        ("[chaos] recovery", duration(chaos.recovery)),
    ]
}

#[test]
fn the_page_is_what_the_parser_reads() {
    let page = Page {
        path: "docs/scenarios.md",
        title: "Scenarios: scenario.toml",
        beginning: BEGINNING,
        examples: &[("All that can be said:", EXAMPLE), ("One that tolerates no faults:", WITHOUT_CHAOS)],
        sections: SECTIONS,
        words: words(),
        defaults: defaults(),
        parse: |text| read(text).map(drop),
    };
    page.hold();
}
