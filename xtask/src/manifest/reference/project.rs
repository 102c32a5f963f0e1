//! Content of the reference page `docs/project.md`.

use super::document::{Missing, Others, Page, Section, duration};
use super::source::Field;
use crate::manifest::{
    BaselineMissing, ColorWhen, KeepWhen, MaxFail, MonitoringRate, PatienceFactor, PerfGate, ProgressHow, Project,
    Retries, Setting, Settle, SlotNumber, TimeToLive, Timeout, settings,
};

const SOURCE: &str = include_str!("../project.rs");
const SECRETS_SOURCE: &str = include_str!("../secrets.rs");

const BEGINNING: &str = "\
A project is a folder with an `e2e.toml`, the templates of its machines and its scenarios. The engine is started in that folder, or is
told of it with `--root`. Templates: [templates.md](templates.md); scenarios: [scenarios.md](scenarios.md).
";

const EXAMPLE: &str = r#"
name = "mancer-e2e"
containers = ["app", "db", "worker"]
timeout = "5m"
network = "10.77.0.0/24"
ids = { first = 1879048192 }
scenarios_package = "scenarios"

[secrets]
variables = ["API_TOKEN"]
files = { SIGNING_KEY = "keys/signing.pem" }
shapes = ["SESSION_ID", "/cust-[0-9]{6}/"]

[coverage]
of = "app.mancer"
probes = ["probes.py"]

[paths]
containers = "containers"
scenarios = "scenarios"

[defaults]
max_fail = 3
retries = 1
performance_monitoring = "off"
perf_gate = "fail"
baseline_missing = "error"
settle = "off"
keep_containers = "failure"
ttl = "2h"
slot = 1
patience = 1.5
progress = "auto"
color = "auto"
"#;

const SECTIONS: &[Section] = &[
    Section { heading: "The file", ..TABLE },
    Section {
        heading: "ids",
        about: "The first 65536 ids are those of the layers in the store. Each slot has the next 65536 of its own: root in a lab of slot 3 \
                is the id `first` + 196608 of the host. `cargo xtask doctor` says whether somebody else has some of them, and \
                `cargo xtask setup` registers them in /etc/subuid and /etc/subgid. Where the kernel or the store's file system cannot show \
                layers with other owners (id-mapped mounts, and overlays on them since Linux 5.19), all labs share one range, which doctor and the run's record say.",
        place: &["ids"],
        rust_type: "Ids",
        ..TABLE
    },
    Section {
        heading: "[secrets]",
        about: "[labs.md](labs.md#secrets) says what is masked where. A value has at least 6 characters, so that it does not stand in \
                ordinary words. Names that mean something to other programs (`PATH`, `LD_...`) are refused.",
        place: &["secrets"],
        source: SECRETS_SOURCE,
        rust_type: "SecretsTable",
        missing: Missing::ByTable,
        ..TABLE
    },
    Section {
        heading: "[coverage]",
        about: "[coverage.md](coverage.md) says what is collected and how.",
        place: &["coverage"],
        rust_type: "CoverageTable",
        missing: Missing::ByTable,
        ..TABLE
    },
    Section {
        heading: "[paths]",
        about: "",
        place: &["paths"],
        rust_type: "Paths",
        missing: Missing::ByTable,
        ..TABLE
    },
    Section {
        heading: "[defaults]",
        about: "A flag is above the environment (`E2E_RETRIES` and so on), that above these, and these above what is built in. \
                `cargo xtask config show` says what holds, and where it came from.",
        place: &["defaults"],
        rust_type: "DefaultsTable",
        keys: Some(keys),
        missing: Missing::ByTable,
        ..TABLE
    },
];

macro_rules! of_page {
    ($($(#[doc = $about:literal])* $key:ident: $value:ident $([$skip:ident])? = $built_in:expr;)+) => {
        /// Returns the keys of `[defaults]`, each with its permitted values.
        fn words() -> Vec<(&'static str, String)> {
            let bare = |words: String| words.strip_prefix("a ").map_or_else(|| words.clone(), str::to_owned);
            vec![$((stringify!($value), bare($value::words()))),+]
        }

        fn keys() -> Vec<Field> {
            let all = [$((stringify!($key), stringify!($value), concat!($($about),*))),+];
            let field = |(key, value, about): (&str, &str, &str)| Field {
                name: key.to_owned(),
                rust_type: format!("Option<{value}>"),
                meaning: format!("{}: `--{}`.", about.trim().trim_end_matches('.'), key.replace('_', "-")),
                is_flat: false,
                may_be_missing: true,
                attributes: String::new(),
            };
            all.into_iter().filter(|(key, ..)| *key != "timeout").map(field).collect()
        }
    };
}
settings!(of_page);

const TABLE: Section = Section {
    heading: "",
    about: "",
    place: &[],
    source: SOURCE,
    rust_type: "File",
    keys: None,
    missing: Missing::ByKey,
    others: Others::Refused,
};

/// Parses the `e2e.toml` of a project without templates and scenarios.
fn read(text: &str) -> Result<Project, String> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["containers", "scenarios"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("e2e.toml"), text).unwrap();
    Project::read(folder.path()).map_err(|error| error.to_string())
}

/// Returns the default values of keys, from a minimal project.
fn defaults() -> Vec<(&'static str, String)> {
    let Project { root, timeout, network, first_id, containers_dir, scenarios_dir, scenarios_package, .. } =
        read("name = 'x'\n").unwrap();
    let below = |path: std::path::PathBuf| format!("\"{}\"", path.strip_prefix(&root).unwrap().display());
    vec![
        ("The file timeout", duration(timeout)),
        ("The file network", format!("\"{}/{}\"", network.base, crate::manifest::Network::PREFIX_BITS)),
        ("The file ids", format!("{{ first = {first_id} }}")),
        ("The file scenarios_package", format!("{scenarios_package:?}")),
        ("[paths] containers", below(containers_dir)),
        ("[paths] scenarios", below(scenarios_dir)),
    ]
}

#[test]
fn the_page_is_what_the_parser_reads() {
    let page = Page {
        path: "docs/project.md",
        title: "The project: e2e.toml",
        beginning: BEGINNING,
        examples: &[("All that can be said:", EXAMPLE)],
        sections: SECTIONS,
        words: words(),
        defaults: defaults(),
        parse: |text| read(text).map(drop),
    };
    page.hold();
}
