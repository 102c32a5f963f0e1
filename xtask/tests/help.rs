//! Help of errors that names a command of the engine: it can be typed, and a test carries it out in the state that
//! prints it, or the reason why not is here.

#[path = "tidy/command_lines.rs"]
mod command_lines;

use std::collections::BTreeSet;
use std::path::Path;

use command_lines::{help_texts, parse_as_typed};
use walkdir::WalkDir;

/// File below `xtask/src`, command, and the test of `xtask/tests/lxc` that carries it out.
const CARRIED_OUT: &[(&str, &str, (&str, &str))] = &[
    ("cli/baseline.rs", "baseline list", WITHOUT_LAB),
    ("cli/lab_selector.rs", "ps", FROZEN),
    ("cli/lab_selector.rs", "up TEMPLATE", ("slots.rs", "a_run_in_the_slot_leaves_room_in_another")),
    ("cli/lab_selector.rs", "e2e --keep-containers=always", KEPT),
    ("cli/fault.rs", "fault list", WITHOUT_LAB),
    ("cli/fault_live.rs", "fault inject FAULT --on CONTAINER", FROZEN),
    ("cli/image.rs", "down --slot N", LAYERS),
    ("cli/image.rs", "image build", LAYERS),
    ("cli/image.rs", "ps", LAYERS),
    ("cli/live_logs.rs", "e2e --keep-containers=always", KEPT),
    ("cli/live_logs.rs", "up TEMPLATE", ("slots.rs", "a_run_in_the_slot_leaves_room_in_another")),
    ("cli/up.rs", "up TEMPLATE --slot N", ("slots.rs", "a_run_in_the_slot_leaves_room_in_another")),
    ("cli/doctor.rs", "image prune", DAMAGED),
    ("error.rs", "image prune", LAYERS),
    ("fault/holder/client.rs", "down --slot {name}", ("slots.rs", "faults_whose_holder_was_killed_go_with_their_lab")),
    ("fault/schedule.rs", "fault list", WITHOUT_LAB),
    ("guard/client.rs", "down --slot {name}", STOPPED),
    ("guard/client.rs", "down --slot {}", STOPPED),
    (
        "host/doctor/permission.rs",
        "setup",
        ("alone/doctor.rs", "setup_registers_the_ids_of_labs_once_and_labs_work_with_the_line"),
    ),
    ("image/build.rs", "image prune", LAYERS),
    ("image/lock.rs", "image build", LAYERS),
    ("image/store.rs", "image prune", LAYERS),
    ("image/store.rs", "ps", DAMAGED),
    (
        "lab/layers.rs",
        "image rm {template}",
        ("readiness.rs", "a_layer_that_was_damaged_in_the_store_is_the_hosts_failure"),
    ),
    ("lab/live.rs", "fault heal --all --slot {}", FROZEN),
    ("lab/live.rs", "ps", FROZEN),
    ("lab/log_folder.rs", "clean --slot {}", OTHER_SLOT),
    ("lab/up.rs", "clean --slot {}", OTHER_SLOT),
    ("manifest/mutant.rs", "mutants --list", ("mutants.rs", "no_mutant_is_tried_on_a_suite_that_fails")),
    ("plan/cases.rs", "e2e --list", WITHOUT_LAB),
    ("record/run_list.rs", "runs", WITHOUT_LAB),
    (
        "run/slot_lease.rs",
        "clean --slot {name}",
        ("slots.rs", "a_guard_that_stands_still_and_has_no_engine_is_cleaned"),
    ),
    ("run/defects.rs", "defects --list", ("defect_probes.rs", "each_defect_is_present_or_gone_or_cannot_be_told")),
    ("run/slot_lease.rs", "down --slot {name}", STOPPED),
    ("run/kept_lab.rs", "e2e --list", WITHOUT_LAB),
];

const WITHOUT_LAB: (&str, &str) = ("slots.rs", "help_without_a_lab_can_be_carried_out");
const LAYERS: (&str, &str) = ("slots.rs", "help_for_layers_can_be_carried_out");
const DAMAGED: (&str, &str) = ("alone/image.rs", "a_damaged_layer_is_told_removed_and_built_again");
const FROZEN: (&str, &str) = ("slots.rs", "a_machine_that_stands_still_is_healed");
const STOPPED: (&str, &str) = ("slots.rs", "a_guard_that_stands_still_is_let_go_on_and_goes");
const OTHER_SLOT: (&str, &str) = ("slots.rs", "a_container_of_another_slot_is_named_with_its_slot");
const KEPT: (&str, &str) = ("runs.rs", "a_kept_lab_can_be_entered_holds_its_slot_and_is_cleaned");

/// Help that no test carries out in the state that prints it, and the reason.
const NOT_CARRIED_OUT: &[(&str, &str, &str)] = &[
    ("baseline/file.rs", "baseline-update", MINUTES),
    ("cli/doctor.rs", "doctor", DOCTOR),
    ("cli/doctor.rs", "doctor --as-root", DOCTOR),
    ("cli/host_tests.rs", "test host", "it boots guests for minutes"),
    ("cli/setup.rs", "setup --yes", SETUP),
    ("cli/test.rs", "test lxc", "it is a part of what runs this test"),
    ("cli/test.rs", "test {}", "it builds all tests"),
    ("error.rs", "doctor", DOCTOR),
    ("error.rs", "ps", BUDGET),
    ("error.rs", "runs prune --keep 20", "a full file system under the user's own project cannot be had in a test"),
    ("error.rs", "setup", SETUP),
    ("fault/cpu.rs", "doctor", DOCTOR),
    ("fault/disk/broken.rs", "setup", SETUP),
    ("fault/io.rs", "setup --optional", SETUP),
    ("fault/net/filter.rs", "setup", SETUP),
    ("fault/net/helper.rs", "setup --optional", SETUP),
    ("fault/net/means.rs", "setup", SETUP),
    ("guard/client.rs", "ps", "it takes a lab that goes between two looks"),
    ("guard/client.rs", "up TEMPLATE", "it takes a lab that goes between two looks"),
    ("host/machine/budget.rs", "ps", BUDGET),
    ("host/doctor/diagnosis.rs", "doctor", DOCTOR),
    ("host/doctor/optional.rs", "test host", "it boots guests for minutes"),
    ("host/doctor/resources.rs", "image prune", "a disk of this host that is nearly full cannot be had in a test"),
    ("host/doctor/tools.rs", "doctor", DOCTOR),
    ("host/doctor/tools.rs", "setup", SETUP),
    ("host/tools/setup.rs", "setup", SETUP),
    ("host/exec/shell.rs", "doctor", DOCTOR),
    ("host/exec/shell.rs", "setup", SETUP),
    ("host/container/userns.rs", "doctor", DOCTOR),
    ("image/build.rs", "image build NAME", "a host without memory cannot be had in a test"),
    ("image/build.rs", "setup", SETUP),
    ("image/recipe.rs", "doctor", DOCTOR),
    ("image/recipe.rs", "setup", SETUP),
    ("manifest/chaos.rs", "fault list", "the same words as cli/fault.rs, of a file"),
    ("baseline/compare.rs", "baseline-update {}", MINUTES),
    ("manifest/durations.rs", "runs durations RUN", "no error: the first line of a file"),
    ("run/fault_trial.rs", "doctor", DOCTOR),
];

const SETUP: &str = "it installs packages on this host";
const DOCTOR: &str = "what it says, and so its exit code, is the host's";
const BUDGET: &str = "a budget that is used up is one of a user namespace of the test's own";
const MINUTES: &str = "it takes 30 samples of 20 s";

/// Folders and files whose command lines are no help of an error: help of verbs, reports, documents that are made, tests.
const OTHER_TEXTS: [&str; 8] = [
    "selftest/",
    "dist/",
    "manifest/reference/",
    "record/reference/",
    "report/",
    "program.rs",
    "cli/command_line.rs",
    "cli/merge.rs",
];

fn src() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

/// The commands of the engine that texts of a source name, without the examples of help, which have lines of their own.
fn commands(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut joined = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        match line.strip_suffix('\\') {
            Some(line) => joined.push_str(line.trim_start()),
            None => joined.push_str(&format!("{line}\n")),
        }
    }
    let mut found = BTreeSet::new();
    for line in joined.lines() {
        for (at, _) in line.match_indices("cargo xtask ") {
            let rest = &line[at + "cargo xtask ".len()..];
            let is_quoted = line[..at].ends_with('`');
            let ends: &[char] = if is_quoted { &['`'] } else { &['"', ',', ';', '`', '\\'] };
            let command = rest.split(ends).next().unwrap_or_default();
            let command = command.split("  ").next().unwrap_or_default().trim().to_owned();
            let is_example = line[..at].trim().is_empty() || line[..at].ends_with("| ");
            if !command.is_empty() && !is_example {
                found.insert(command);
            }
        }
    }
    found
}

#[test]
fn every_help_with_a_command_can_be_typed_and_is_carried_out_or_says_why_not() {
    use clap::CommandFactory as _;
    let of_help: String = help_texts(&xtask::cli::Cli::command()).into_iter().map(|(_, text)| text).collect();
    let mut broken = Vec::new();
    let mut all = BTreeSet::new();
    for entry in WalkDir::new(src())
        .into_iter()
        .map(Result::unwrap)
        .filter(|it| it.path().extension().is_some_and(|it| it == "rs"))
    {
        let file = entry.path().strip_prefix(src()).unwrap().display().to_string();
        if OTHER_TEXTS.iter().any(|other| file.starts_with(other)) {
            continue;
        }
        for command in commands(&std::fs::read_to_string(entry.path()).unwrap()) {
            if of_help.contains(&format!("`cargo xtask {command}`")) {
                continue; // `tests/tidy.rs` has help typed
            }
            // A slot is a number, and so is what any other word may be.
            let typed = |word: &str| match word {
                "N" | "{}" | "{name}" => "1".to_owned(),
                other => other.replace(['{', '}'], "x"),
            };
            let words: Vec<String> = command.split(' ').map(typed).collect();
            // What is filled in may be all that a verb is told.
            if (!command.contains("{}") || words.len() > 2)
                && let Err(error) = parse_as_typed(&words)
            {
                broken.push(format!("{file}: `cargo xtask {command}` cannot be typed: {error}"));
            }
            all.insert((file.clone(), command));
        }
    }
    let is_of = |pair: &(String, String), file: &str, command: &str| pair.0 == file && pair.1 == command;
    for pair in &all {
        let listed = CARRIED_OUT.iter().filter(|(file, command, _)| is_of(pair, file, command)).count()
            + NOT_CARRIED_OUT.iter().filter(|(file, command, _)| is_of(pair, file, command)).count();
        if listed != 1 {
            broken.push(format!(
                "{}: `cargo xtask {}` stands {listed} times in xtask/tests/help.rs\n    help: carry it out in a test, in the \
                 state that prints it, and name that test",
                pair.0, pair.1
            ));
        }
    }
    let listed = CARRIED_OUT.iter().map(|(file, command, _)| (file, command));
    for (file, command) in listed.chain(NOT_CARRIED_OUT.iter().map(|(file, command, _)| (file, command))) {
        if !all.contains(&((*file).to_owned(), (*command).to_owned())) {
            broken.push(format!("xtask/tests/help.rs: {file} has no `cargo xtask {command}` any more"));
        }
    }
    for (file, command, (test_file, test)) in CARRIED_OUT {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lxc").join(test_file);
        let source = std::fs::read_to_string(path).unwrap_or_default();
        let body = source.split(&format!("fn {test}()")).nth(1).and_then(|rest| rest.split("\n}\n").next());
        let words = command.split([' ', '=', '{', '}']).filter(|word| !word.is_empty() && *word != "name");
        let missing: Vec<&str> = words.filter(|word| !source.contains(word)).collect();
        if body.is_none() || !missing.is_empty() {
            broken.push(format!("xtask/tests/help.rs: {file}: {test_file} has no test {test}, or not {missing:?}"));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn commands_are_found_in_texts_and_not_in_comments_and_help() {
    let source = "/// `cargo xtask a`\nlet x = \"see `cargo xtask b --slot {}` or \\\n      `cargo xtask c`\";\n\
                  let y = \"cargo xtask d, then\";\n  cargo xtask e   # help\n#[cfg(test)]\nmod tests { \"cargo xtask f\" }";
    let found: Vec<String> = commands(source).into_iter().collect();
    assert_eq!(found, ["b --slot {}", "c", "d"]);
}
