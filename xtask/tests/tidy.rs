//! The rules of the house that a compiler does not keep: which module may use which, who prints, what must be listed.
//!
//! Each rule is a test; what breaks it is told with file, line and help. The files below `tidy/` hold what the rules
//! see with, and the tests that each of them can fail.

#[path = "tidy/command_lines.rs"]
mod command_lines;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/openings.rs"]
mod openings;
#[path = "tidy/rust_rules.rs"]
mod rust_rules;
#[path = "tidy/text_rules.rs"]
mod text_rules;
#[path = "tidy/tokens.rs"]
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use command_lines::{command_lines, help_texts, parse_as_typed};
use e2e_contract::{Fault, ParameterRange};
use files::{engine, folders_with, read, root, rust_files, text_files};
use openings::openings;
use rust_rules::{allowance, attributes, composed, host_paths_in_rust, logic, prints, row, unscaled, uses};
use text_rules::{
    anchors, code_map, documented_structs, explained, has_command, headings, host_paths, links, listed_programs,
    machine_names, named_paths, nix_names, reasons, retired_words, sections, words,
};
use tokens::tokens;
use xtask::cli::Cli;
use xtask::fault::catalogue;
use xtask::host::tools::packages::{ITEMS, Need};
use xtask::manifest::{Mutant, Project};

/// Table of the modules of xtask/src and what each may use, in reading order; ARCHITECTURE.md shows the same table and
/// says why. `a::b` allows that part of `a` alone. Every line is in use: what no code needs any more is taken out.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "baseline", "bundle", "dist", "error", "fault", "guard", "host", "image", "input", "lab", "manifest",
            "plan", "program", "rates", "record", "report", "run", "selftest",
        ],
    ),
    ("rates", &["error", "host::invoker", "input", "manifest", "plan", "record", "run"]),
    (
        "run",
        &[
            "baseline", "error", "fault", "guard", "host", "image", "input", "lab", "manifest", "perf", "plan",
            "program", "record", "session",
        ],
    ),
    ("report", &["fault", "input", "program", "record"]),
    ("bundle", &["error", "host", "input", "manifest", "record"]),
    ("dist", &["error", "host"]),
    ("selftest", &["error", "host"]),
    ("session", &["error", "fault", "host", "lab", "manifest", "perf", "record"]),
    ("baseline", &["error", "host::invoker", "input", "manifest", "perf", "program", "record"]),
    ("perf", &["host", "lab", "record"]),
    ("fault", &["error", "guard", "host", "lab", "manifest", "program"]),
    ("lab", &["error", "guard", "host", "manifest", "program"]),
    ("image", &["error", "guard", "host", "input", "manifest", "program"]),
    ("guard", &["error", "host"]),
    ("plan", &["error", "manifest"]),
    ("record", &["error", "host::invoker", "input"]),
    ("manifest", &["error", "host::seccomp", "input"]),
    ("host", &["error", "program"]),
    ("input", &["error", "host::invoker"]),
    ("error", &["program"]),
    ("program", &[]),
];

/// Files that may print: the command line, its report, `main`; and a layer's build, whose standard error is its log.
const MAY_PRINT: &[&str] = &["cli/", "report/terminal/", "main.rs", "image/worker/sandbox.rs"];

/// The folders of scenarios, each with the Cargo.toml that lists them.
const SCENARIOS: &[&str] = &["scenarios", "xtask/tests/project/scenarios"];

/// The words that choose among Mancer's scenarios; scenarios/README.md shows them.
const TAGS: &[&str] = &["data_pipeline", "automation", "error_handling", "performance", "multi_container", "slow"];

/// Files without the ending of a text for people whose command lines are to be right as well.
const SCRIPTS: &[&str] = &["justfile", ".ci/run"];

/// Guides that would be of little use without command lines.
const SHOWS_COMMANDS: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "docs/faults.md",
    "docs/first-scenario.md",
    "docs/running.md",
    "docs/verdicts.md",
    "justfile",
    ".ci/run",
];

/// Most doc comments, in percent, that may open with a word that puts the noun off.
const PUT_OFF_PERCENT_MAX: usize = 8;

/// First pages, and the most bytes that each has: somebody new reads them whole. Details belong on the page of their subject.
const SHORT_PAGES: &[(&str, usize)] = &[("README.md", 8 * 1024), ("ARCHITECTURE.md", 20 * 1024)];

#[test]
fn modules_use_what_the_table_allows() {
    let mut unused: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (module, allowed) in MAY_USE {
        unused.extend(allowed.iter().map(|used| (*module, *used)));
    }
    let mut broken = Vec::new();
    for source in engine() {
        let Some(module) = source.module() else { continue };
        let uses = uses(&module, &tokens(&source.text)).into_iter().filter(|it| it.module() != module[0]);
        for used in uses {
            match allowance(MAY_USE, &module[0], &used.path) {
                Some(allowance) => drop(unused.remove(&allowance)),
                None => broken.push(source.at(
                    used.line,
                    &format!("{} uses {}, which the table does not allow", module[0], used.path),
                    "move the code to where it may use it; a new edge needs a reason, here and in ARCHITECTURE.md",
                )),
            }
        }
    }
    broken.extend(unused.iter().map(|(module, used)| {
        format!(
            "xtask/tests/tidy.rs: {module} uses {used} no more\n    help: take it out of MAY_USE and ARCHITECTURE.md"
        )
    }));
    expect_none(&broken);
}

#[test]
fn the_table_of_modules_is_whole_and_architecture_shows_it() {
    let mut modules = tokens(&read("xtask/src/lib.rs"))
        .windows(2)
        .filter(|pair| pair[0].text == "mod")
        .map(|pair| pair[1].text.to_owned())
        .collect::<Vec<_>>();
    let mut listed: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    modules.sort();
    listed.sort_unstable();
    assert_eq!(modules, listed, "xtask/src/lib.rs has these modules, MAY_USE those");
    let table: Vec<String> = MAY_USE.iter().map(|(module, used)| row(module, used)).collect();
    let text = read("ARCHITECTURE.md");
    let missing = table.iter().filter(|row| !text.lines().any(|line| line.starts_with(*row)));
    expect_none(
        &missing.map(|row| format!("ARCHITECTURE.md: it has no row\n    help: {row} why |")).collect::<Vec<_>>(),
    );
}

#[test]
fn scenarios_and_engine_know_the_contract_and_not_each_other() {
    let mut broken = Vec::new();
    for (manifest, forbidden) in [
        ("xtask/Cargo.toml", &["e2e"][..]),
        ("xtask/sdk/Cargo.toml", &["xtask"]),
        ("xtask/contract/Cargo.toml", &["xtask", "e2e"]),
        ("xtask/stats/Cargo.toml", &["xtask", "e2e", "e2e-contract"]),
        ("scenarios/Cargo.toml", &["xtask", "e2e-contract"]),
    ] {
        let document: toml::Table = read(manifest).parse().expect("a Cargo.toml");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let has = |name: &&&str| document.get(section).is_some_and(|it| it.get(**name).is_some());
            broken.extend(forbidden.iter().filter(has).map(|name| {
                format!(
                    "{manifest}: [{section}] has {name}\n    help: what both sides share belongs into xtask/contract"
                )
            }));
        }
    }
    expect_none(&broken);
}

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let text = read("Cargo.toml");
    let manifest: toml::Table = text.parse().expect("a Cargo.toml");
    let dependencies = manifest["workspace"]["dependencies"].as_table().expect("the workspace lists dependencies");
    let (reasons, loose) = reasons(&text);
    let foreign: BTreeSet<&str> =
        dependencies.iter().filter(|(_, it)| it.get("path").is_none()).map(|(name, _)| name.as_str()).collect();
    let missing = foreign
        .iter()
        .filter(|name| !reasons.contains(**name))
        .map(|name| format!("Cargo.toml: {name} has no reason\n    help: write it as a comment on the line above"));
    let stale = loose.iter().map(|line| {
        format!("Cargo.toml:{line}: the reason of no dependency\n    help: take it out, or put its dependency below")
    });
    let named: BTreeSet<String> = rust_files(&["xtask/", "scenarios/"])
        .iter()
        .flat_map(|source| tokens(&source.text).into_iter().map(|token| token.text.to_owned()).collect::<Vec<_>>())
        .collect();
    let idle = foreign.iter().filter(|name| !named.contains(&name.replace('-', "_"))).map(|name| {
        format!("Cargo.toml: no code names {name}\n    help: take it out, here and in the crate that lists it")
    });
    expect_none(&missing.chain(stale).chain(idle).collect::<Vec<_>>());
}

#[test]
fn clippy_bans_processes_and_archives_outside_their_seams() {
    let document: toml::Table = read("clippy.toml").parse().expect("clippy.toml is TOML");
    let banned: Vec<&str> = document["disallowed-methods"]
        .as_array()
        .expect("a list of methods")
        .iter()
        .filter_map(|method| method["path"].as_str())
        .collect();
    for method in
        ["std::process::Command::new", "duct::cmd", "nix::unistd::fork", "nix::unistd::execv", "tar::Archive::new"]
    {
        assert!(banned.contains(&method), "clippy.toml: it no longer bans {method}\n    help: put it back");
    }
    let mut broken = Vec::new();
    // The second measures a program with nothing of the seam's around it; the third forks to hold a namespace open, and runs none;
    // the fourth reads archives within its bounds.
    let seams = ["exec/shell.rs", "exec/program_time.rs", "container/userns.rs", "disk/tar_entries.rs"]
        .map(|name| format!("xtask/src/host/{name}"));
    for source in engine().into_iter().filter(|source| !seams.contains(&source.path)) {
        let tokens = tokens(&source.text);
        for token in tokens.iter().filter(|token| token.text == "disallowed_methods") {
            broken.push(source.at(
                token.line,
                "a ban of clippy.toml is lifted",
                "use crate::host::exec::shell, or crate::host::disk::tar_entries",
            ));
        }
    }
    expect_none(&broken);
}

#[test]
fn only_the_command_line_prints() {
    let mut broken = Vec::new();
    for source in engine() {
        let inside = source.path.trim_start_matches("xtask/src/");
        if !MAY_PRINT.iter().any(|may| inside.starts_with(may)) {
            broken.extend(prints(&tokens(&source.text)).into_iter().map(|(line, what)| {
                source.at(line, &format!("{what} outside the command line"), "return it, or record an event")
            }));
        }
    }
    expect_none(&broken);
}

/// Files that may hand over text which somebody else wrote as a whole, and text of words that the compiler does not check: with their
/// reasons.
const WHOLE_TEXTS: &[(&str, &str)] = &[
    ("xtask/src/host/syntax.rs", "it is what checks the words"),
    ("xtask/src/host/network/nft.rs", "parts of a table that was composed are tried one by one"),
    ("xtask/src/host/tools/setup.rs", "the engine's own list of command lines"),
    ("xtask/src/image/worker/layer.rs", "a template's line for its own shell, in its own sandbox"),
    ("xtask/src/selftest/", "guests of the project's own tests"),
];

#[test]
fn text_for_other_programs_is_composed_of_checked_words() {
    let mut broken = Vec::new();
    let mut unused: BTreeSet<&str> = WHOLE_TEXTS.iter().map(|(path, _)| *path).collect();
    for source in engine() {
        let makers = ["of_checked_words", "as_written"];
        let code = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let made = tokens(code).into_iter().filter(|token| makers.contains(&token.text));
        let made: Vec<_> =
            made.map(|token| (token.line, "text of another program that no type checks".to_owned())).collect();
        for (line, what) in composed(&source.text).into_iter().chain(made) {
            match WHOLE_TEXTS.iter().find(|(path, _)| source.path.starts_with(path)) {
                Some((path, _)) => drop(unused.remove(path)),
                None => broken.push(source.at(
                    line,
                    &what,
                    "compose!(Language, \"...\", name = word) of host::syntax, whose words are checked",
                )),
            }
        }
    }
    broken.extend(unused.iter().map(|path| {
        format!("xtask/tests/tidy.rs: {path} hands over no such text any more\n    help: take it out of WHOLE_TEXTS")
    }));
    expect_none(&broken);
}

#[test]
fn every_deadline_is_multiplied_on_a_slow_machine() {
    let mut broken = Vec::new();
    // What a project states is multiplied where it is used: its manifests know no machine.
    for source in engine().iter().filter(|source| !source.path.starts_with("xtask/src/manifest/")) {
        for (line, what) in unscaled(&tokens(&source.text)) {
            let help = "host::patience::Deadline, and its scaled() where it is used";
            broken.push(source.at(line, &format!("`{what}` is the same on every machine"), help));
        }
    }
    expect_none(&broken);
}

#[test]
fn every_scenario_is_listed_once() {
    let mut broken = Vec::new();
    for folder in SCENARIOS {
        let manifest = format!("{folder}/Cargo.toml");
        let listed = listed_programs(&read(&manifest));
        let found: BTreeMap<String, String> = folders_with(folder, "scenario.toml")
            .into_iter()
            .filter(|path| !has_command(&read(&format!("{folder}/{path}/scenario.toml"))))
            .filter_map(|path| Some((path.rsplit('/').next()?.to_owned(), format!("{path}/main.rs"))))
            .collect();
        for (name, path) in &found {
            if listed.get(name) != Some(path) {
                broken.push(format!(
                    "{folder}/{path}: it is not listed\n    \
                     help: write [[bin]] name = \"{name}\", path = \"{path}\" into {manifest}"
                ));
            }
            if !root().join(folder).join(path).is_file() {
                broken.push(format!("{folder}/{path}: the scenario has no program\n    help: write it"));
            }
        }
        for (name, path) in listed.iter().filter(|(name, _)| !found.contains_key(*name)) {
            broken.push(format!(
                "{manifest}: [[bin]] {name} ({path}) has no scenario.toml beside it, or one with a command\n    \
                 help: write one without, or take the lines out"
            ));
        }
    }
    expect_none(&broken);
}

#[test]
fn every_scenario_is_described_and_its_tags_are_known() {
    let page = read("scenarios/README.md");
    let mut broken = Vec::new();
    for name in folders_with("scenarios", "scenario.toml") {
        if !page.lines().any(|line| line.starts_with(&format!("| `{name}` |"))) {
            broken.push(format!(
                "scenarios/README.md: its table has no row {name}\n    \
                 help: write | `{name}` | what happens; what is checked |"
            ));
        }
        let path = format!("scenarios/{name}/scenario.toml");
        for tag in words(&read(&path), "tags").iter().filter(|tag| !TAGS.contains(&tag.as_str())) {
            broken.push(format!("{path}: there is no tag {tag}\n    help: take one of {}", TAGS.join(", ")));
        }
    }
    broken.extend(
        TAGS.iter().filter(|tag| !page.contains(&format!("`{tag}`"))).map(|tag| {
            format!("scenarios/README.md: it does not show the tag {tag}\n    help: write it below the table")
        }),
    );
    expect_none(&broken);
}

#[test]
fn every_known_defect_is_described() {
    let path = "scenarios/DEFECTS.md";
    let causes = if root().join(path).is_file() { headings(&read(path)) } else { Vec::new() };
    let described: Vec<&String> = causes.iter().flat_map(|(_, entries)| entries).collect();
    let mut listed: BTreeMap<String, String> = BTreeMap::new();
    for name in folders_with("scenarios", "scenario.toml") {
        let manifest = format!("scenarios/{name}/scenario.toml");
        listed.extend(words(&read(&manifest), "defects").into_iter().map(|defect| (defect, manifest.clone())));
    }
    let undescribed = listed.iter().filter(|(defect, _)| !described.contains(defect)).map(|(defect, manifest)| {
        let help = format!("write ### {defect} there, below the heading of its cause, with a reproduction");
        format!("{manifest}: {path} does not describe {defect}\n    help: {help}")
    });
    let unlisted = described
        .iter()
        .filter(|defect| !listed.contains_key(**defect))
        .map(|defect| format!("{path}: no scenario lists {defect}\n    help: mark it in one, or take its section out"));
    let twice = described.iter().enumerate().filter(|(place, defect)| described[..*place].contains(defect));
    let twice = twice.map(|(_, defect)| format!("{path}: it describes {defect} twice\n    help: make one of them"));
    let index: Vec<(String, Vec<String>)> = read(path).lines().filter_map(indexed).collect();
    let astray = causes.iter().filter(|cause| !index.contains(cause)).map(|(cause, entries)| {
        let help = format!("its row there lists {}", entries.join(", "));
        format!("{path}: the table at the top lacks {cause:?} with its entries\n    help: {help}")
    });
    let stray = index.iter().filter(|row| !causes.contains(row)).map(|(cause, _)| {
        format!("{path}: the table at the top has {cause:?}, and no heading has its entries\n    help: take it out")
    });
    expect_none(&undescribed.chain(unlisted).chain(twice).chain(astray).chain(stray).collect::<Vec<_>>());
}

/// Cause and entries of a row of the table in scenarios/DEFECTS.md.
fn indexed(line: &str) -> Option<(String, Vec<String>)> {
    let (cause, rest) = line.strip_prefix("| [")?.split_once(']')?;
    let entries = rest.split(" | ").nth(1)?.split(", ").map(|entry| format!("mancer-0.1.4/{entry}"));
    Some((cause.to_owned(), entries.collect()))
}

#[test]
fn every_mutant_can_be_used_and_has_its_row() {
    let path = "scenarios/MUTANTS.md";
    let table = read(path);
    let rows: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|it| it.0).collect();
    let project = Project::read(&root()).expect("the project is read");
    let mutants = Mutant::read_all(&project).expect("every mutant is read");
    assert!(mutants.len() >= 18, "only {} mutants", mutants.len());
    let names: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    let without = names.iter().filter(|name| !rows.contains(name));
    let without = without.map(|name| format!("{path}: no row {name}\n    help: run it, and write down its result"));
    let stray = rows.iter().filter(|row| !names.contains(row));
    let stray = stray.map(|row| format!("{path}: there is no mutant {row}\n    help: take its row out"));
    expect_none(&without.chain(stray).collect::<Vec<_>>());
}

#[test]
fn every_template_is_locked_and_described() {
    let lock: serde_json::Value = serde_json::from_str(&read("containers/lock.json")).expect("the lock file is JSON");
    let locked = lock["templates"].as_object().expect("the lock file lists templates");
    let page = read("containers/README.md");
    let mut broken = Vec::new();
    let found: BTreeSet<String> = folders_with("containers", "template.toml").into_iter().collect();
    for name in &found {
        if !locked.contains_key(name) {
            broken.push(format!("containers/lock.json: no entry {name}\n    help: cargo xtask image build"));
        }
        if !page.lines().any(|line| line.starts_with(&format!("| `{name}` |"))) {
            broken.push(format!(
                "containers/README.md: its table has no row {name}\n    help: write | `{name}` | what it has |"
            ));
        }
    }
    for name in locked.keys().filter(|name| !found.contains(*name)) {
        broken.push(format!("containers/lock.json: there is no template {name}\n    help: cargo xtask image build"));
    }
    expect_none(&broken);
}

#[test]
fn nix_provides_every_tool_that_doctor_looks_for() {
    let text = read("nix/tools.nix");
    let mut broken = Vec::new();
    let set_of = |need: Need| match need {
        Need::Required | Need::Where(_) | Need::Faults => Some("required"),
        Need::Optional => Some("optional"),
        Need::Tests | Need::Repository => None,
    };
    for set in ["required", "optional"] {
        let listed = nix_names(&text, set);
        let in_set = ITEMS.iter().filter(|item| set_of(item.need) == Some(set));
        let wanted: Vec<&str> = in_set.map(|item| item.name).collect();
        broken.extend(wanted.iter().filter(|name| !listed.iter().any(|it| it == *name)).map(|name| {
            format!("nix/tools.nix: {set} has no {name}\n    help: write \"{name}\" = pkgs.ITS_NAME_IN_NIXPKGS;")
        }));
        broken.extend(listed.iter().filter(|name| !wanted.contains(&name.as_str())).map(|name| {
            format!(
                "nix/tools.nix: doctor does not look for {name} as {set}\n    help: take it out, or see packages.rs"
            )
        }));
    }
    for (file, uses) in [("flake.nix", "(engineOf pkgs).tools"), ("nix/package.nix", "import ./tools.nix")] {
        if !read(file).contains(uses) {
            broken.push(format!("{file}: it does not use nix/tools.nix any more\n    help: put `{uses}` back"));
        }
    }
    expect_none(&broken);
}

/// The absolute paths of programs and system files in the engine and in what is run beside it: a file or a folder of files, what its
/// paths begin with, and the reason. A program of the host is found by [`xtask::host::exec::shell::which`]: `PATH` first, then one list.
/// Every line is in use.
const PATHS: &[(&str, &[&str], &str)] = &[
    ("xtask/src/fault/", &["/bin/", "/etc/hostname", "/usr/lib"], "in machines of a lab"),
    ("xtask/src/lab/copy.rs", &["/bin/sh", "/etc/hosts"], "in machines of a lab"),
    ("xtask/src/lab/exec.rs", &["/bin", "/sbin", "/usr/", "/etc/passwd"], "in machines of a lab"),
    ("xtask/src/lab/live.rs", &["/etc/passwd"], "in machines of a lab"),
    ("xtask/src/lab/live_logs.rs", &["/bin", "/sbin", "/usr/"], "in machines of a lab"),
    ("xtask/src/lab/logs.rs", &["/bin/sh"], "in machines of a lab"),
    ("xtask/src/lab/readiness.rs", &["/bin/true"], "in machines of a lab"),
    ("xtask/src/lab/ssh.rs", &["/etc/"], "in machines of a lab"),
    ("xtask/src/lab/up.rs", &["/etc/"], "in machines of a lab"),
    ("xtask/src/lab/config.rs", &["/sbin/init"], "in machines of a lab"),
    ("xtask/src/cli/enter.rs", &["/bin/sh"], "in machines of a lab"),
    ("xtask/src/perf/calibration.rs", &["/bin/sh"], "in machines of a lab"),
    ("xtask/src/run/case.rs", &["/bin/bash"], "in machines of a lab"),
    ("xtask/src/run/lab_check.rs", &["/bin/"], "in machines of a lab"),
    ("xtask/src/run/thin_layer.rs", &["/usr/bin/env"], "in layers"),
    ("xtask/src/manifest/mutant.rs", &["/opt"], "in layers"),
    ("xtask/src/run/fault_trial.rs", &["/bin/sh"], "in machines of a lab"),
    ("xtask/src/session/requests.rs", &["/etc/passwd"], "in machines of a lab"),
    ("xtask/src/selftest/guest/incus.rs", &["/usr/", "/sbin", "/bin"], "in trees of guests"),
    ("xtask/src/selftest/guest/qemu.rs", &["/bin/sh"], "in guests"),
    ("xtask/src/selftest/guest/tree.rs", &["/usr/share/"], "in trees of guests"),
    ("xtask/src/selftest/guest/uml.rs", &["/usr/", "/sbin", "/bin"], "in guests"),
    ("xtask/src/selftest/guest/host.rs", &["/etc/os-release"], "the system's files"),
    ("xtask/src/image/worker/", &["/bin", "/sbin", "/usr/", "/etc/"], "in trees of templates; DNS is the host's"),
    ("xtask/src/manifest/", &["/bin/", "/sbin/init", "/usr/", "/etc/", "/opt/python"], "in trees of templates"),
    ("xtask/src/lab/config.rs", &["/bin/sh"], "LXC runs the hook on the host; no system is without this one"),
    ("xtask/src/host/tools/chromium.rs", &["/bin/sh", "/etc"], "the host's shell lays rules over the host's own"),
    ("xtask/src/host/exec/shell.rs", &["/usr/", "/sbin", "/bin"], "the one list of folders, after PATH"),
    ("xtask/src/host/container/lxc.rs", &["/usr/sbin", "/sbin"], "LXC must not find newuidmap, which PATH may lead to"),
    ("xtask/src/cli/sudo.rs", &["/usr/", "/sbin", "/bin"], "root's own before the user's"),
    ("xtask/src/host/doctor/facts.rs", &["/etc/os-release", "/lib/modules"], "the system's files"),
    (
        "xtask/src/host/doctor/accounts.rs",
        &["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid", "/etc/login.defs"],
        "the system's files",
    ),
    ("xtask/src/host/doctor/surroundings.rs", &["/usr/share/lxc/config/nesting.conf"], "shown to be typed"),
    (
        "xtask/src/host/doctor/permission.rs",
        &["/usr/sbin/usermod", "/etc/"],
        "shown to be typed; `su` keeps the user's PATH",
    ),
    (
        "xtask/src/host/tools/packages.rs",
        &["/usr/share/keyrings", "/etc/NIXOS", "/etc/os-release", "/usr/local/bin"],
        "the system's files",
    ),
    ("xtask/benches/", &["/bin", "/sbin", "/usr/"], "in machines of a lab; LXC must not find newuidmap"),
    ("justfile", &["/etc/nginx"], "in machines of a lab"),
    ("nix/package.nix", &["/bin"], "the folder of programs in each package of Nix"),
    ("nix/stub/packages.nix", &["/bin/"], "builders are the host's shell; folders of programs in packages of Nix"),
    ("nix/stub/packages.nix", &["/usr/share/keyrings"], "Debian's keyring"),
];

/// The texts that run on a host, besides the engine.
const RUN_ON_HOSTS: &[&str] = &["nix/", ".ci/", ".github/", "justfile", "flake.nix", ".cargo/", "xtask/benches/"];

#[test]
fn programs_of_the_host_are_found_by_path_first() {
    let mut unused: BTreeSet<(&str, &str)> =
        PATHS.iter().flat_map(|(file, starts, _)| starts.iter().map(|start| (*file, *start))).collect();
    let mut broken = Vec::new();
    let engine = engine().into_iter().map(|source| {
        let found = host_paths_in_rust(&source.text);
        (source, found)
    });
    let scripts = text_files(RUN_ON_HOSTS).into_iter().map(|source| {
        let found =
            if source.path.ends_with(".rs") { host_paths_in_rust(&source.text) } else { host_paths(&source.text) };
        (source, found)
    });
    for (source, found) in engine.chain(scripts) {
        for (line, path) in found {
            let allowed = PATHS.iter().filter(|(file, _, _)| source.path.starts_with(file));
            let mut starts = allowed.flat_map(|(file, starts, _)| starts.iter().map(move |start| (*file, *start)));
            match starts.find(|(_, start)| path.starts_with(start)) {
                Some(allowance) => drop(unused.remove(&allowance)),
                None => broken.push(source.at(
                    line,
                    &format!("it names {path}"),
                    "`which` or `path_of` of xtask/src/host/exec/shell.rs; where it is no tool of the host, a line of PATHS with its reason",
                )),
            }
        }
    }
    broken.extend(unused.iter().map(|(file, start)| {
        format!("xtask/tests/tidy.rs: {file} names nothing that begins with {start}\n    help: take it out of PATHS")
    }));
    expect_none(&broken);
}

#[test]
fn every_fault_is_described_with_its_parameters() {
    let path = "docs/faults.md";
    let reference: serde_json::Value =
        serde_json::from_str(&read("xtask/contract/reference.json")).expect("the reference is JSON");
    let parameters = |name: &str| -> BTreeSet<String> {
        let variants = reference["$defs"]["Fault"]["oneOf"].as_array().expect("the reference has the faults");
        let variant = variants.iter().find(|it| it["properties"]["name"]["const"] == name).expect("each of them");
        let properties = variant["properties"].as_object().expect("a fault has parameters");
        properties.keys().filter(|key| *key != "name").cloned().collect()
    };
    let sections = sections(&read(path));
    let described: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    let names: Vec<&str> = catalogue().iter().map(|entry| entry.example.name()).collect();
    assert_eq!(described, names, "{path} has these sections, the catalogue those faults");
    let mut broken = Vec::new();
    for (entry, (name, text)) in catalogue().iter().zip(&sections) {
        let (has, wants) = (explained(text), parameters(name));
        broken.extend(wants.difference(&has).map(|parameter| {
            format!("{path}: {name} has no line for {parameter}\n    help: write - `{parameter}`: what it is, its unit")
        }));
        broken.extend(
            has.difference(&wants)
                .map(|parameter| format!("{path}: {name} has no parameter {parameter}\n    help: take its line out")),
        );
        for parameter in &wants {
            let Some(range) = ends(name, parameter) else { continue };
            let line = text.lines().find(|line| line.starts_with(&format!("- `{parameter}`: "))).unwrap_or_default();
            if !line.replace(',', "").contains(&range) {
                broken.push(format!("{path}: {name} does not say the range of {parameter}\n    help: write {range}"));
            }
        }
        for start in ["- Effect: ", "- Recovery: "] {
            if !text.lines().any(|line| line.starts_with(start)) {
                broken.push(format!("{path}: {name} does not say how it is seen\n    help: write {start}..."));
            }
        }
        let needs = entry.needs.to_string();
        if !text.lines().any(|line| line.starts_with("- Needs: ") && line.contains(&needs)) && !needs.is_empty() {
            broken.push(format!("{path}: {name} does not say that it needs {needs}\n    help: write - Needs: {needs}"));
        }
    }
    expect_none(&broken);
}

/// The ends of a parameter's range, as documentation writes them.
fn ends(fault: &str, parameter: &str) -> Option<String> {
    let (ParameterRange::Number { least, most } | ParameterRange::Offset { least, most }) =
        Fault::range_of(fault, parameter)?
    else {
        return None;
    };
    let shown = |bytes: i64| match bytes {
        0x10_0000 => "1 MiB".to_owned(),
        0x1000_0000_0000 => "16 TiB".to_owned(),
        number => number.to_string(),
    };
    Some(format!("{} to {}", shown(least), shown(most)))
}

#[test]
fn every_type_of_the_sdk_has_an_example() {
    let offered = read("xtask/sdk/src/lib.rs");
    let is_offered = |name: &str| {
        let used = offered.lines().filter(|line| line.starts_with("pub use "));
        used.flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).any(|word| word == name)
    };
    let mut broken = Vec::new();
    for source in rust_files(&["xtask/sdk/src/"]) {
        for (line, name, docs) in documented_structs(&source.text) {
            if is_offered(&name) && !docs.contains("```") {
                broken.push(source.at(line, &format!("{name} has no example"), "write one, as ```no_run"));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn module_files_hold_no_logic() {
    let mut broken = Vec::new();
    for source in rust_files(&["xtask/src/", "xtask/sdk/src/", "xtask/contract/src/", "xtask/stats/src/"]) {
        if source.path.ends_with("/mod.rs") {
            broken.extend(logic(&tokens(&source.text)).into_iter().map(|(line, item)| {
                source.at(line, &format!("a mod.rs with `{item}`"), "a file of its own; mod.rs says what there is")
            }));
        }
    }
    expect_none(&broken);
}

#[test]
fn no_module_hands_on_another_modules_items() {
    let mut broken = Vec::new();
    for source in engine() {
        let Some(module) = source.module() else { continue };
        for used in uses(&module, &tokens(&source.text)) {
            if used.is_public && used.module() != module[0] {
                broken.push(source.at(
                    used.line,
                    &format!("`pub use` of {}, which hides who uses whom", used.path),
                    "let its users name the module that owns it",
                ));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let help = "#[expect(lint, reason = \"...\")], which fails once it is no longer true";
    expect_no_attribute("allow", "an allowed lint", help);
}

#[test]
fn doc_comments_open_with_a_noun_or_a_verb() {
    let (mut count, mut put_off) = (0, Vec::new());
    for source in rust_files(&["xtask/"]) {
        let found = openings(&source.text);
        count += found.count;
        put_off.extend(found.put_off.into_iter().map(|(line, text)| format!("{}:{line}: {text}", source.path)));
    }
    assert!(
        put_off.len() * 100 <= count * PUT_OFF_PERCENT_MAX,
        "\n{}\n{} of {count} doc comments open with a pronoun, a question, a preposition or the like, and \
         {PUT_OFF_PERCENT_MAX} % at most may\n    help: begin with a noun phrase or a third-person verb\n",
        put_off.join("\n"),
        put_off.len()
    );
}

#[test]
fn no_test_is_ignored() {
    expect_no_attribute("ignore", "a test that does not run", "make it run everywhere, or remove it");
    let mut broken = Vec::new();
    for source in rust_files(&[""]) {
        for (line, text) in source.text.lines().enumerate() {
            let fence = text.trim_start().strip_prefix("//").and_then(|text| text.split_once("```"));
            if fence.is_some_and(|(_, words)| words.contains("ignore")) {
                broken.push(source.at(line + 1, "an example that nothing compiles", "make it compile (`no_run`)"));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn no_file_names_this_machine_or_a_registry() {
    let mut broken = Vec::new();
    for source in text_files(&[""]) {
        broken.extend(machine_names(&source.text).into_iter().map(|(line, what)| {
            source.at(
                line,
                &format!("it names {what}"),
                "a path relative to the project; a tool's own default registry",
            )
        }));
    }
    expect_none(&broken);
}

#[test]
fn retired_words_stay_away() {
    let texts = text_files(&[""]).into_iter().filter(|source| source.path != "CHANGELOG.md");
    let broken: Vec<String> = texts
        .flat_map(|source| {
            let words = retired_words(&source.text).into_iter();
            words
                .map(|(line, word, now)| source.at(line, &format!("it says {word}"), &format!("say {now}")))
                .collect::<Vec<_>>()
        })
        .collect();
    expect_none(&broken);
}

#[test]
fn the_command_lines_of_the_guides_can_be_typed() {
    let mut broken = Vec::new();
    let is_guide = |path: &str| path.ends_with(".md") || SCRIPTS.contains(&path);
    for guide in text_files(&[""]).into_iter().filter(|source| is_guide(&source.path)) {
        let lines = command_lines(&guide.text);
        assert!(
            !lines.is_empty() || !SHOWS_COMMANDS.contains(&guide.path.as_str()),
            "{} shows no command line at all",
            guide.path
        );
        for (line, words) in lines {
            if let Err(error) = parse_as_typed(&words) {
                broken.push(guide.at(line, &format!("`{}`: {error}", words.join(" ")), "see `cargo xtask help`"));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn links_between_the_guides_lead_somewhere() {
    let mut broken = Vec::new();
    for guide in text_files(&[""]).into_iter().filter(|source| source.path.ends_with(".md")) {
        let folder = Path::new(&guide.path).parent().unwrap_or(Path::new(""));
        for (line, target) in links(&guide.text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = root().join(if file.is_empty() { PathBuf::from(&guide.path) } else { folder.join(file) });
            let leads = path.exists()
                && (anchor.is_empty()
                    || std::fs::read_to_string(&path).is_ok_and(|text| anchors(&text).contains(anchor)));
            if !leads {
                broken.push(guide.at(line, &format!("{target} leads nowhere"), "name a file, and a heading in it"));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn the_command_lines_of_the_help_can_be_typed() {
    let (mut broken, mut seen) = (Vec::new(), BTreeSet::new());
    for (verb, text) in help_texts(&Cli::dressed()) {
        for (_, words) in command_lines(&text) {
            if let Err(error) = parse_as_typed(&words) {
                broken.push(format!(
                    "cargo xtask {verb} --help: `{}`: {error}\n    help: see `cargo xtask help`",
                    words.join(" ")
                ));
            }
            seen.insert(verb.clone());
        }
    }
    for verb in ["", "e2e", "up", "logs", "fault inject", "config show"] {
        assert!(seen.contains(verb), "the help of `cargo xtask {verb}` has no command line");
    }
    expect_none(&broken);
}

#[test]
fn first_pages_stay_short() {
    let broken: Vec<String> = SHORT_PAGES
        .iter()
        .map(|(path, most)| (path, most, read(path).len()))
        .filter(|(_, most, length)| length > most)
        .map(|(path, most, length)| {
            format!(
                "{path}: it has {length} bytes, and {most} at most\n    help: move details to the page of their subject"
            )
        })
        .collect();
    expect_none(&broken);
}

#[test]
fn paths_that_texts_for_people_name_exist() {
    let mut broken = Vec::new();
    let texts = text_files(&[""]).into_iter().filter(|source| source.path.ends_with(".md"));
    // The changelog tells of its own time, and the starter's README of a project that `init` makes of it.
    let elsewhere = ["CHANGELOG.md", "xtask/starter/README.md"];
    for source in texts.filter(|source| !elsewhere.contains(&source.path.as_str())) {
        for (line, path) in named_paths(&source.text) {
            if !root().join(&path).exists() {
                broken.push(source.at(line, &format!("there is no {path}"), "name the file as it is called now"));
            }
        }
    }
    expect_none(&broken);
}

#[test]
fn the_code_map_has_every_module_and_files_that_exist() {
    let map = code_map(&read("ARCHITECTURE.md"));
    let mapped: BTreeSet<&str> = map.iter().flat_map(|(modules, _)| modules.iter().map(String::as_str)).collect();
    let folders = MAY_USE.iter().map(|(module, _)| *module).filter(|it| root().join("xtask/src").join(it).is_dir());
    let mut broken: Vec<String> = folders
        .filter(|module| !mapped.contains(module))
        .map(|module| {
            format!("ARCHITECTURE.md: its code map lacks {module}\n    help: write | `{module}` | its files |")
        })
        .collect();
    for (modules, files) in &map {
        let exists =
            |file: &str| modules.iter().any(|module| root().join("xtask/src").join(module).join(file).exists());
        broken.extend(files.iter().filter(|file| !exists(file)).map(|file| {
            format!(
                "ARCHITECTURE.md: {} has no {file}\n    help: name the file as it is called now",
                modules.join(", ")
            )
        }));
    }
    expect_none(&broken);
}

#[test]
fn every_file_of_tests_on_containers_has_its_subject() {
    const HELPERS: [&str; 4] = ["main.rs", "common.rs", "project.rs", "story.rs"];
    let page = read("xtask/tests/README.md");
    let files = rust_files(&["xtask/tests/lxc/"]).into_iter().filter_map(|source| {
        let name = source.path.strip_prefix("xtask/tests/lxc/")?.trim_start_matches("alone/").to_owned();
        (!name.ends_with("mod.rs") && !HELPERS.contains(&name.as_str())).then_some(name)
    });
    let missing = files.filter(|name| !page.contains(&format!("`{name}`")));
    let help = "write it into a row of the table, with its subject";
    expect_none(
        &missing.map(|name| format!("xtask/tests/README.md: it lacks {name}\n    help: {help}")).collect::<Vec<_>>(),
    );
}

fn expect_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn expect_no_attribute(name: &str, problem: &str, help: &str) {
    let mut broken = Vec::new();
    for source in rust_files(&[""]) {
        let lines = attributes(&tokens(&source.text), name);
        broken.extend(lines.into_iter().map(|line| source.at(line, problem, help)));
    }
    expect_none(&broken);
}
