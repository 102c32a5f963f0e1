//! Tests of what CI and `just` run: workflows hold to their rules, and every recipe is what its example says and can be
//! typed. The tools that read them come from the Python registry, at the first time (`.ci/tools`). Needs no root and no
//! container.

#![expect(clippy::unwrap_used, reason = "tests: clippy takes their helpers for ordinary code")]

#[path = "tidy/command_lines.rs"]
mod command_lines;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use clap::CommandFactory as _;
use command_lines::{command_lines, parse_as_typed};
use nix::unistd::{Uid, User, geteuid};
use serde_json::Value;
use xtask::cli::Cli;
use xtask::host::exec::shell::{Command, Output};

/// Deadline for tools that are fetched at the first time.
const DEADLINE: Duration = Duration::from_secs(300);

/// The texts that name recipes.
const NAMING_RECIPES: &[&str] = &["README.md", "CONTRIBUTING.md", "docs/running.md", "justfile"];

/// Expressions of workflows that only GitHub or a person can fill in, with a possible word.
const STANDS_FOR: &[(&str, &str)] = &[
    ("\"$SEED\"", "7"),
    ("\"$SHARD\"", "1/4"),
    ("\"$PROFILE\"", "heavy"),
    ("\"$KIND\"", "qemu"),
    ("\"$PREVIOUS\"", "v0.1.0"),
    ("\"${filters[@]}\"", "data_pipeline"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn expect_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// A program in the checkout, with the rights of its owner: what it leaves there is the owner's, when the tests run as root
/// through sudo.
fn command(program: impl AsRef<Path>) -> Command {
    let command = Command::new(program.as_ref()).dir(root()).deadline(DEADLINE);
    let owner = root().metadata().unwrap().uid();
    if owner == geteuid().as_raw() {
        return command;
    }
    let owner = User::from_uid(Uid::from_raw(owner)).unwrap().unwrap();
    command.env("HOME", owner.dir).user(owner.uid.as_raw(), owner.gid.as_raw())
}

fn workflows(args: &[&str]) -> Command {
    command(root().join(".ci/workflows")).args(args)
}

fn just(args: &[&str]) -> Output {
    static TOOLS: LazyLock<String> = LazyLock::new(|| command(root().join(".ci/tools")).run().unwrap().text());
    command(Path::new(&*TOOLS).join("bin/just")).args(args).output().unwrap()
}

/// Returns the recipes of `just`, by name.
fn recipes() -> BTreeMap<String, Value> {
    let dump = just(&["--dump", "--dump-format", "json"]);
    assert_eq!(dump.status, 0, "{}", said(&dump));
    let dump: Value = serde_json::from_slice(&dump.stdout).unwrap();
    let recipes = dump["recipes"].as_object().unwrap().clone();
    recipes.into_iter().filter(|(_, recipe)| recipe["private"] == false).collect()
}

/// The recipes that a text names, each with what it is given there. In prose they end with a backtick, in the justfile with
/// a comma.
fn named_recipes(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in text.lines() {
        for (at, _) in line.match_indices("just ").filter(|(at, _)| {
            let before = &line[..*at];
            before.ends_with('`') || before.ends_with(": ") || before.ends_with(", ")
        }) {
            let rest = &line[at..];
            let end = ["`", ",", " #"].iter().filter_map(|end| rest.find(end)).min();
            let words = rest[..end.unwrap_or(rest.len())].split_whitespace().skip(1);
            found.push(words.map(str::to_owned).collect());
        }
    }
    found
}

/// A copy of the workflows in which something else stands for a text of one of them, and what is said of it.
fn refused(file: &str, from: &str, to: &str, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Command::new("cp").arg("-r").arg(root().join(".github")).arg(folder.path()).run().unwrap();
    let path = folder.path().join(".github").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let output = workflows(&["--root", &folder.path().display().to_string()]).output().unwrap();
    assert_eq!(output.status, 1, "{file} with {to:?}: {}", said(&output));
    assert!(said(&output).contains(expected), "{file} with {to:?}: {expected}: {}", said(&output));
}

#[test]
fn workflows_are_sound_and_what_is_not_is_refused() {
    let sound = workflows(&[]).output().unwrap();
    assert_eq!((sound.status, said(&sound).as_str()), (0, ""));
    let ci = "workflows/ci.yml";
    refused(ci, "runs-on:", "run-on:", "run-on");
    refused("actions/record/action.yml", "using: composite", "using: compost", "compost");
    refused(ci, "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "actions/checkout@v7", "is not pinned");
    refused(ci, "3ba90b1 # v7.0.1", "3ba90b1", "is not pinned");
    refused(ci, "./.github/actions/rust", "./.github/actions/rest", "there is no ./.github/actions/rest");
    refused(ci, "run: nix/check", "run: nix/check ${{ inputs.x }}", "an expression in a script");
    refused(ci, "run: nix/check", "run: if nix/check", "syntax error");
    refused(ci, "timeout-minutes: 90", "continue-on-error: false", "test: no timeout-minutes");
    refused(ci, "    permissions:\n      contents: read\n", "", "test: no permissions");
    refused(ci, "concurrency:\n", "env:\n", "no concurrency");
    refused("workflows/suite.yml", "needs: shard", "needs: shart", "there is no such job");
    refused("actions/record/action.yml", "retention-days: ${{", "compression-level: ${{", "without retention-days");
}

#[test]
fn the_command_lines_of_workflows_can_be_typed() {
    let listed = workflows(&["--list"]).run().unwrap().text();
    let (mut typed, mut broken) = (0, Vec::new());
    for line in listed.lines().map(str::trim).filter(|line| line.starts_with("cargo xtask ")) {
        let known = STANDS_FOR.iter().fold(line.to_owned(), |line, (name, word)| line.replace(name, word));
        assert!(!known.contains('$'), "{line}: STANDS_FOR in xtask/tests/ci.rs has no word for what stands there");
        for (_, words) in command_lines(&known) {
            typed += 1;
            broken.extend(parse_as_typed(&words).err().map(|error| format!(".github: `{line}`: {error}")));
        }
    }
    assert!(typed > 10, "only {typed} command lines: {listed}");
    expect_none(&broken);
}

#[test]
fn a_step_runs_here_as_it_does_there() {
    let draw = "on-demand/run/Draw a seed, or take the one that was asked for";
    let run = |asked: &str| workflows(&["--run", draw]).env("ASKED", asked).output().unwrap();
    let given = run("77");
    assert!(given.status == 0 && said(&given).contains("GITHUB_ENV:\nSEED=77\n"), "{}", said(&given));
    let drawn = run("");
    assert!(drawn.status == 0 && !said(&drawn).contains("SEED=\n"), "{}", said(&drawn));
    let planted = run("7; echo planted");
    assert!(planted.status == 2 && said(&planted).contains("no number"), "{}", said(&planted));
    assert!(!said(&planted).contains("\nplanted"), "{}", said(&planted));
    let unknown = workflows(&["--run", "suite/shard"]).env_remove("SHARD").output().unwrap();
    assert!(unknown.status == 1 && said(&unknown).contains("only GitHub knows SHARD"), "{}", said(&unknown));
}

#[test]
fn just_lists_every_recipe_in_a_group_and_with_its_sentence() {
    let listed = just(&["--list", "--unsorted"]);
    let menu = just(&[]);
    assert_eq!((menu.status, said(&menu)), (0, said(&listed)));
    for (name, recipe) in recipes() {
        let sentence = recipe["doc"].as_str().unwrap_or_default();
        assert!(sentence.starts_with(char::is_uppercase), "justfile: {name} has no sentence above it: {sentence:?}");
        let line = |line: &str| line.trim_start().starts_with(&name) && line.ends_with(sentence);
        assert!(said(&listed).lines().any(line), "{name}: {}", said(&listed));
        assert!(recipe["attributes"][0]["group"].is_string(), "justfile: {name} is in no group");
    }
}

#[test]
fn every_recipe_is_one_line_that_can_be_typed_and_every_verb_has_one() {
    let (mut verbs, mut broken) = (BTreeSet::new(), Vec::new());
    for (name, recipe) in recipes() {
        let wants = recipe["parameters"].as_array().unwrap();
        let wants = wants.iter().filter(|one| one["kind"] == "singular" && one["default"].is_null());
        let given: Vec<&str> = wants.map(|_| "x").collect();
        let shown = just(&[&["--dry-run", &name][..], &given].concat());
        assert_eq!(shown.status, 0, "{name}: {}", said(&shown));
        let text = said(&shown);
        let lines = command_lines(&text);
        assert!(text.lines().count() == 1 && text.starts_with("cargo xtask ") && lines.len() == 1, "{name}: {text}");
        let typed = parse_as_typed(&lines[0].1);
        broken.extend(typed.err().map(|error| format!("justfile: {name}: `{}`: {error}", text.trim())));
        verbs.insert(lines[0].1[0].clone());
    }
    let command = Cli::command();
    let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name().to_owned());
    let missing = visible.filter(|verb| !verbs.contains(verb));
    broken.extend(missing.map(|verb| format!("justfile: there is no recipe for the verb {verb}")));
    expect_none(&broken);
}

#[test]
fn recipes_that_texts_name_are_there_and_take_what_is_shown() {
    let (recipes, mut broken) = (recipes(), Vec::new());
    for file in NAMING_RECIPES {
        let named = named_recipes(&fs::read_to_string(root().join(file)).unwrap());
        assert!(!named.is_empty(), "{file} names no recipe");
        for words in named {
            let line = words.join(" ");
            let Some(recipe) = recipes.get(&words[0]) else {
                broken.push(format!("{file}: `just {line}`: there is no such recipe"));
                continue;
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let shown = just(&[&["--dry-run"][..], &words].concat());
            assert_eq!(shown.status, 0, "{file}: `just {line}`: {}", said(&shown));
            // What the shell makes of its parameters, which `just` hands on as they are.
            let body = recipe["body"][0][0].as_str().unwrap();
            let typed =
                body.split_whitespace().skip(2).filter(|word| *word != "\"$@\"").chain(words[1..].iter().copied());
            let typed: Vec<String> = typed.map(str::to_owned).collect();
            let (parsed, typed) = (parse_as_typed(&typed), typed.join(" "));
            broken.extend(parsed.err().map(|error| format!("{file}: `just {line}` is `cargo xtask {typed}`: {error}")));
        }
    }
    expect_none(&broken);
}
