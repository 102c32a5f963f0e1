//! Command lines of the guides: each is run by `lxc/guides.rs`, or has here the reason why not, and the test that runs
//! the verb.

#![expect(clippy::unwrap_used, reason = "tests: clippy takes their helpers for ordinary code")]

use std::collections::BTreeSet;
use std::path::Path;

use story::{REPAIR, STORY, TUTORIAL, blocks};

#[expect(dead_code, reason = "what a line is to say is for the test that runs it")]
#[path = "lxc/story.rs"]
mod story;
#[path = "tidy/typed_words.rs"]
mod typed_words;

/// A line that is not run here.
struct NotRun {
    line: &'static str,
    because: &'static str,
    /// The file below `xtask`, and the test in it that runs the verb.
    elsewhere: (&'static str, &'static str),
}

const COMPARISONS: (&str, &str) =
    ("tests/lxc/alone/comparisons.rs", "committed_baselines_are_made_judged_and_kept_in_order");
const SETTLED: (&str, &str) = ("tests/lxc/alone/settled.rs", "doubts_are_settled_beside_the_machines_of_the_baseline");
const DUETS: (&str, &str) =
    ("tests/lxc/alone/comparisons.rs", "a_duet_finds_more_work_and_calls_the_same_work_no_worse");
const DEFECTS: (&str, &str) = ("tests/lxc/defect_probes.rs", "each_defect_is_present_or_gone_or_cannot_be_told");
const REPLACED: (&str, &str) =
    ("tests/lxc/replaced.rs", "known_defects_are_answered_for_the_pinned_package_and_for_a_local_one");
const MUTANTS: (&str, &str) = ("tests/lxc/mutants.rs", "each_mutant_gets_the_verdict_that_its_run_shows");
const COVERAGE: (&str, &str) =
    ("tests/lxc/coverage.rs", "the_functions_that_ran_are_in_the_record_and_an_emptied_one_is_noticed");
const ALL: (&str, &str) = ("tests/lxc/guides.rs", "the_story_of_the_guides_can_be_lived");

const NOT_RUN: &[NotRun] = &[
    NotRun { line: "e2e --setup", because: "it installs packages", elsewhere: SETUP },
    NotRun { line: "test", because: "it runs all tests, this one among them", elsewhere: ALL },
    NotRun { line: "test --setup", because: "it runs all tests, this one among them", elsewhere: ALL },
    NotRun { line: "test host", because: "it boots guests for minutes", elsewhere: GUESTS },
    NotRun { line: "test host --kind qemu", because: "it boots a guest for an hour", elsewhere: GUESTS },
    NotRun { line: "test host --kind incus", because: "it takes minutes", elsewhere: GUESTS },
    NotRun { line: "test host --kind here", because: "it takes minutes", elsewhere: GUESTS },
    NotRun { line: "test quick", because: "it is a part of what `test` runs", elsewhere: ALL },
    NotRun { line: "test redaction", because: "it builds all tests", elsewhere: PARTS },
    NotRun { line: "test --list", because: "it builds all tests", elsewhere: PARTS },
    NotRun { line: "test lxc runs::a_good_run", because: "it is a part of what `test` runs", elsewhere: PARTS },
    NotRun { line: "doctor", because: "what it says, and so its exit code, is the host's", elsewhere: DOCTOR },
    NotRun {
        line: "--root xtask/tests/project e2e tag:smoke --slot 7",
        because: "most of these scenarios fail, and are to",
        elsewhere: ("tests/lxc/runs.rs", "each_way_to_fail_is_told_apart"),
    },
    NotRun {
        line: "e2e --secret API_TOKEN",
        because: "the story's user has no such variable",
        elsewhere: ("tests/lxc/secrets.rs", "a_secret_that_cannot_be_kept_is_refused_before_anything_runs"),
    },
    NotRun {
        line: "fault try --all",
        because: "it takes more than a minute",
        elsewhere: ("tests/lxc/faults.rs", "the_whole_catalogue_can_be_tried"),
    },
    NotRun {
        line: "shrink latest",
        because: "it needs a case that fails with faults alone",
        elsewhere: ("tests/lxc/chaos.rs", "a_failure_is_reduced_to_the_fault_that_matters"),
    },
    NotRun {
        line: "e2e data_ingestion --break-on-failure --freeze",
        because: "it asks at a terminal",
        elsewhere: ("tests/lxc/live.rs", "held_machines_stand_still_but_for_the_one_that_is_entered"),
    },
    NotRun {
        line: "shell db",
        because: "it is used at a terminal",
        elsewhere: ("tests/lxc/live.rs", "held_machines_stand_still_but_for_the_one_that_is_entered"),
    },
    NotRun {
        line: "forward app:80 --port 8080",
        because: "it goes on until it is interrupted",
        elsewhere: ("tests/lxc/live.rs", "a_port_is_forwarded_and_its_packets_are_captured"),
    },
    NotRun {
        line: "logs --live db --follow",
        because: "it goes on until it is interrupted",
        elsewhere: ("tests/lxc/logs.rs", "what_a_run_and_a_live_lab_have_logged_is_shown"),
    },
    NotRun { line: "defects", because: "it takes minutes", elsewhere: DEFECTS },
    NotRun { line: "defects quoting", because: "it takes Mancer's own machines", elsewhere: DEFECTS },
    NotRun { line: "defects inventory", because: "it takes Mancer's own machines", elsewhere: DEFECTS },
    NotRun { line: "defects --set app.mancer=../mancer", because: "no tree of Mancer is here", elsewhere: REPLACED },
    NotRun { line: "defects --list", because: "the project of that test has none", elsewhere: DEFECTS },
    NotRun { line: "mutants", because: "it takes minutes", elsewhere: MUTANTS },
    NotRun { line: "mutants half_upload", because: "it takes Mancer's own machines", elsewhere: MUTANTS },
    NotRun { line: "mutants --sample 10 --seed 7", because: "it takes minutes", elsewhere: MUTANTS },
    NotRun { line: "mutants --empty 40 --seed 7", because: "it takes an hour", elsewhere: COVERAGE },
    NotRun {
        line: "mutants empty:mancer.domain.model.command_result:CommandResult.is_success",
        because: "it takes Mancer's own machines",
        elsewhere: COVERAGE,
    },
    NotRun { line: "e2e --coverage", because: "it takes minutes", elsewhere: COVERAGE },
    NotRun {
        line: "e2e data_ingestion --coverage=app.mancer",
        because: "it takes Mancer's own machines",
        elsewhere: COVERAGE,
    },
    NotRun { line: "mutants --list", because: "the project of that test has none", elsewhere: MUTANTS },
    NotRun { line: "e2e data_pipeline --baseline-ref v1.2", because: "it takes minutes", elsewhere: DUETS },
    NotRun { line: "e2e data_pipeline --baseline-ref HEAD~1", because: "it takes minutes", elsewhere: DUETS },
    NotRun {
        line: "e2e data_pipeline --baseline-dir ../old/containers",
        because: "it takes minutes",
        elsewhere: DUETS,
    },
    NotRun {
        line: "e2e data_pipeline --baseline-ref HEAD --set app.mancer=../mancer",
        because: "it takes minutes",
        elsewhere: REPLACEMENT,
    },
    NotRun { line: "baseline-update data_pipeline", because: "it takes 30 samples", elsewhere: COMPARISONS },
    NotRun { line: "e2e data_pipeline --baseline-compare --settle", because: "it takes minutes", elsewhere: SETTLED },
    NotRun { line: "e2e data_pipeline --baseline-compare", because: "it takes 30 samples", elsewhere: COMPARISONS },
    NotRun { line: "baseline list", because: "it needs baselines", elsewhere: COMPARISONS },
    NotRun {
        line: "dist",
        because: "it builds the engine once more",
        elsewhere: ("tests/lxc/dist.rs", "an_archive_runs_where_it_is_unpacked"),
    },
    NotRun { line: "e2e --shard 2/3", because: "it has fewer scenarios than shards", elsewhere: SHARDS },
    NotRun { line: "merge shards/", because: "it takes the records of several runs", elsewhere: SHARDS },
    NotRun {
        line: "e2e --set app.mancer=../mancer",
        because: "pip asks the network for what the package needs",
        elsewhere: REPLACEMENT,
    },
];

const PARTS: (&str, &str) = ("src/cli/test.rs", "a_part_or_names_choose_stages");
const GUESTS: (&str, &str) = ("src/selftest/guest/page.rs", "the_page_is_what_the_committed_records_say");
const SHARDS: (&str, &str) = ("tests/lxc/shards.rs", "shards_are_the_suite_once_and_become_one_report");
const SETUP: (&str, &str) = ("tests/lxc/alone/doctor.rs", "setup_without_a_terminal_never_asks");
const DOCTOR: (&str, &str) =
    ("tests/lxc/alone/doctor.rs", "doctor_answers_with_an_empty_path_and_its_exit_code_is_what_it_found");
const REPLACEMENT: (&str, &str) =
    ("tests/lxc/replaced.rs", "a_replaced_package_is_a_thin_layer_of_the_candidate_alone");

/// The guides whose command lines are to be run.
fn guides() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<String> = std::fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    paths.extend(
        [
            "README.md",
            "CONTRIBUTING.md",
            "containers/README.md",
            "scenarios/DEFECTS.md",
            "scenarios/README.md",
            "xtask/stats/README.md",
        ]
        .map(String::from),
    );
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(root.join(path)).unwrap())).collect()
}

/// The command lines in the fenced blocks of a text, each with its place.
fn typed(text: &str) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && ["sh", "text"].contains(&language);
            continue;
        }
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if inside && line.starts_with("cargo xtask ") {
            found.push((number + 1, typed_words::words(line).join(" ")));
        }
    }
    found
}

#[test]
fn every_command_line_of_the_guides_is_run_or_says_why_not() {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    let run: Vec<&str> = STORY.iter().map(|command| command.line).chain(NOT_RUN.iter().map(|it| it.line)).collect();
    let mut typed_somewhere = BTreeSet::new();
    for (path, text) in guides() {
        for (number, line) in typed(&text) {
            if !run.contains(&line.as_str()) {
                broken.push(format!(
                    "{path}:{number}: `{line}` is run by no test\n    help: a line in STORY (xtask/tests/lxc/story.rs), or in NOT_RUN (xtask/tests/guides.rs)"
                ));
            }
            typed_somewhere.insert(line);
        }
    }
    for line in run.iter().filter(|line| !typed_somewhere.contains(**line)) {
        broken.push(format!("xtask/tests/guides.rs: no guide has `{line}` any more\n    help: take it out"));
    }
    let both = |line: &&str| STORY.iter().any(|command| command.line == *line);
    for line in NOT_RUN.iter().map(|it| it.line).filter(both) {
        broken.push(format!("xtask/tests/guides.rs: `{line}` is run, and in NOT_RUN\n    help: take it out of that"));
    }
    let tutorial = std::fs::read_to_string(xtask.join("..").join(TUTORIAL)).unwrap();
    if !tutorial.contains(REPAIR) {
        broken.push(format!("{TUTORIAL}: it does not have `{REPAIR}` any more\n    help: say here what it has"));
    }
    let readme = std::fs::read_to_string(xtask.join("../README.md")).unwrap();
    let (program, shown) = (blocks(&tutorial, "python"), blocks(&readme, "python"));
    if shown.len() != 1 || shown.first() != program.first() {
        broken.push(format!("README.md: its program is not the first one of {TUTORIAL}\n    help: copy that"));
    }
    for NotRun { line, because, elsewhere: (file, test) } in NOT_RUN {
        let source = std::fs::read_to_string(xtask.join(file)).unwrap_or_default();
        if !source.contains(&format!("fn {test}()")) || because.is_empty() {
            broken.push(format!(
                "xtask/tests/guides.rs: `{line}`: {file} has no test {test}\n    help: name the one that runs this verb"
            ));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}
