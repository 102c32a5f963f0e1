//! Every command line of the guides is run, in an order that makes a story, on a small project in which machines and scenarios have
//! the names that the guides use. What is changed in a line to be run here stands beside it. Those that are not run say why, and
//! which other test runs the verb.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use xtask::host::shell::Command;

use super::common::{Host, engine, repository, said, slot};

#[path = "../tidy/typed_words.rs"]
mod typed_words;

/// For one line.
const DEADLINE: Duration = Duration::from_secs(120);

/// Verbs that are told of the tests' slot.
const WITH_SLOT: &[&str] = &[
    "e2e",
    "up",
    "down",
    "ttl",
    "clean",
    "shell",
    "exec",
    "cp",
    "forward",
    "pcap",
    "fault inject",
    "fault heal",
    "fault try",
    "logs --live",
];

/// A line of a guide that is run.
struct Told {
    line: &'static str,
    /// Pieces of it, and what stands in their place here. `{RUN}` is the name of the first run.
    instead: &'static [(&'static str, &'static str)],
    /// Its exit code.
    status: i32,
    /// Part of what it says.
    says: &'static str,
    /// What the README says is to be done before.
    before: Before,
}

/// What somebody does who follows the README's first scenario.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// The scenario's program becomes the block of Python with this number.
    Program(usize),
    /// The scenario's manifest gets the block of TOML.
    Chaos,
    /// This line for the shell.
    Shell(&'static str),
}

const fn told(line: &'static str, says: &'static str) -> Told {
    Told { line, instead: &[], status: 0, says, before: Before::Nothing }
}

impl Told {
    const fn fails(self, status: i32) -> Self {
        Self { status, ..self }
    }

    const fn after(self, before: Before) -> Self {
        Self { before, ..self }
    }

    const fn instead(self, instead: &'static [(&'static str, &'static str)]) -> Self {
        Self { instead, ..self }
    }
}

/// How the README mends its scenario.
const REPAIR: &str = "sed -i s/160_000/150_000/ scenarios/data_pipeline/first_query/main.py";

/// In the order in which they are run.
const STORY: &[Told] = &[
    told("fault list", "net.delay delay_ms="),
    told(
        "new data_pipeline/first_query --language python --container app,db",
        "written: scenarios/data_pipeline/first_query/",
    ),
    told("e2e first_query", "PASSED  1 passed"),
    told("e2e first_query", "version = 150020").fails(1).after(Before::Program(0)),
    told("logs latest db --level warning", ""),
    told("logs --digest", "data_pipeline/first_query"),
    told("up first_query --ttl 2h", "by itself in 2h"),
    told("down", "is gone"),
    told("e2e first_query", "PASSED  1 passed").after(Before::Shell(REPAIR)),
    told("e2e first_query", "fault net.delay").after(Before::Program(1)),
    told("e2e first_query --chaos --seed 7", "PASSED  1 passed").after(Before::Chaos),
    told("e2e data_ingestion", "PASSED  2 passed"),
    told("e2e data_ingestion --progress plain", "data_pipeline/data_ingestion:small"),
    told("e2e data_ingestion --perf", "PASSED  2 passed"),
    told("logs", "refused: 3 rows"),
    told("logs latest db --level warning --since 30s", ""),
    told("logs --case data_ingestion --grep refused", "refused: 3 rows"),
    told("e2e --chaos", "PASSED"),
    told("e2e batch_processing --chaos --seed 7", "PASSED  1 passed"),
    told("e2e batch_processing --chaos-replay latest", "PASSED  1 passed"),
    told("fault try net.delay delay_ms=200", "net.delay delay_ms=200"),
    told("fault try net.delay delay_ms=200 jitter_ms=50", "net.delay delay_ms=200 jitter_ms=50"),
    told("up app db --ttl 2h", "by itself in 2h"),
    told("ps", "db"),
    told("exec db --user postgres -- psql -l", "user\n").instead(&[("postgres", "user"), ("psql -l", "id -un")]),
    told("cp app:/etc/nginx .", "").instead(&[("/etc/nginx", "/etc")]),
    told("cp ./site.conf app:/etc/nginx/site.conf --force", "")
        .instead(&[("./site.conf", "./etc/inittab"), ("/etc/nginx/site.conf", "/etc/inittab")]),
    told("pcap db --for 10s", "db.pcap").instead(&[("10s", "1s")]),
    told("fault inject net.delay delay_ms=200 --on db", "net.delay"),
    told("down", "is gone"),
    told("e2e data_ingestion --keep-containers --ttl 2h", "PASSED  2 passed"),
    told("clean", ""),
    told("report --open", "report.html"),
    told("report --compare 20261122-194813-4422 latest", "html").instead(&[("20261122-194813-4422", "{RUN}")]),
    told("runs", "{RUN}"),
    told("runs show latest", "PASSED"),
    told("runs durations latest", "2 cases recorded"),
    told("config show", "keep_containers"),
    told("runs prune --keep 20 --older 14d", ""),
    told("e2e --rerun-failed", "there is nothing to repeat"),
    told("bundle latest", ".tar.gz"),
    told("e2e --from-bundle target/e2e/bundles/RUN.tar.gz", "PASSED  2 passed")
        .instead(&[("RUN.tar.gz", "{LATEST}.tar.gz data_ingestion")]),
    told("e2e --root ../other-project", "PASSED  2 passed")
        .instead(&[("../other-project", "{PROJECT} data_ingestion")]),
    told("image build --locked", ""),
    told("judge-check xtask/tests/data/noise/raw.csv --random 60", "duet")
        .instead(&[("xtask/tests", "{TESTS}"), ("--random 60", "--random 0")]),
];

/// A line that is not run here.
struct NotRun {
    line: &'static str,
    because: &'static str,
    /// The file below `xtask`, and the test in it that runs the verb.
    elsewhere: (&'static str, &'static str),
}

const COMPARISONS: (&str, &str) =
    ("tests/lxc/alone/comparisons.rs", "committed_baselines_are_made_judged_and_kept_in_order");
const DUETS: (&str, &str) =
    ("tests/lxc/alone/comparisons.rs", "a_duet_finds_more_work_and_calls_the_same_work_no_worse");
const ALL: (&str, &str) = ("tests/lxc/guides.rs", "the_story_of_the_guides_can_be_lived");

const NOT_RUN: &[NotRun] = &[
    NotRun { line: "e2e --setup", because: "it installs packages", elsewhere: SETUP },
    NotRun { line: "test", because: "it runs all tests, this one among them", elsewhere: ALL },
    NotRun { line: "test --setup", because: "it runs all tests, this one among them", elsewhere: ALL },
    NotRun { line: "test host", because: "it boots guests for minutes", elsewhere: GUESTS },
    NotRun { line: "test host --kind qemu", because: "it boots a guest for an hour", elsewhere: GUESTS },
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
    NotRun { line: "e2e data_pipeline --baseline-ref v1.2", because: "it takes minutes", elsewhere: DUETS },
    NotRun { line: "e2e data_pipeline --baseline-ref HEAD~1", because: "it takes minutes", elsewhere: DUETS },
    NotRun {
        line: "e2e data_pipeline --baseline-dir ../old/containers",
        because: "it takes minutes",
        elsewhere: DUETS,
    },
    NotRun { line: "baseline-update data_pipeline", because: "it takes 30 samples", elsewhere: COMPARISONS },
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
const REPLACEMENT: (&str, &str) = ("src/image/replacement.rs", "what_can_be_replaced_and_what_cannot");

/// The guides whose command lines are to be run.
fn guides() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<String> = std::fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    paths.extend(
        ["README.md", "CONTRIBUTING.md", "scenarios/DEFECTS.md", "xtask/src/judge/README.md"].map(String::from),
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
    let run: Vec<&str> = STORY.iter().map(|told| told.line).chain(NOT_RUN.iter().map(|it| it.line)).collect();
    let mut typed_somewhere = BTreeSet::new();
    for (path, text) in guides() {
        for (number, line) in typed(&text) {
            if !run.contains(&line.as_str()) {
                broken.push(format!(
                    "{path}:{number}: `{line}` is run by no test\n    cure: a line in STORY, or in NOT_RUN"
                ));
            }
            typed_somewhere.insert(line);
        }
    }
    for line in run.iter().filter(|line| !typed_somewhere.contains(**line)) {
        broken.push(format!("guides.rs: no guide has `{line}` any more\n    cure: take it out"));
    }
    let both = |line: &&str| STORY.iter().any(|told| told.line == *line);
    for line in NOT_RUN.iter().map(|it| it.line).filter(both) {
        broken.push(format!("guides.rs: `{line}` is run, and in NOT_RUN\n    cure: take it out of that"));
    }
    let readme = std::fs::read_to_string(xtask.join("../README.md")).unwrap();
    if !readme.contains(REPAIR) {
        broken.push(format!("README.md: it does not have `{REPAIR}` any more\n    cure: say here what it has"));
    }
    for NotRun { line, because, elsewhere: (file, test) } in NOT_RUN {
        let source = std::fs::read_to_string(xtask.join(file)).unwrap_or_default();
        if !source.contains(&format!("fn {test}()")) || because.is_empty() {
            broken.push(format!(
                "guides.rs: `{line}`: {file} has no test {test}\n    cure: name the one that runs this verb"
            ));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_story_of_the_guides_can_be_lived() {
    let _host = Host::take();
    let project = project();
    let root = project.path();
    run(root, &["image", "build"]);
    let begun = std::time::Instant::now();
    let mut first_run = None;
    let first_scenario = FirstScenario::read();
    for Told { line, instead, status, says, before } in STORY {
        first_scenario.go_on(*before, root);
        let fill = |text: &str| {
            text.replace("{RUN}", first_run.as_deref().unwrap_or("{RUN}"))
                .replace("{LATEST}", &latest(root).unwrap_or_default())
                .replace("{PROJECT}", &root.display().to_string())
                .replace("{TESTS}", &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").display().to_string())
        };
        let mut words = (*line).to_owned();
        for (documented, here) in *instead {
            assert!(words.contains(documented), "`{line}` has no {documented:?}");
            words = words.replace(documented, here);
        }
        let words = fill(&words);
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = run(root, &words);
        assert_eq!(output.status, *status, "`{line}`, run as {words:?}: {}", said(&output));
        assert!(said(&output).contains(&fill(says)), "`{line}`, run as {words:?}: {}", said(&output));
        if first_run.is_none() {
            first_run = latest(root);
        }
    }
    println!("{} command lines took {:.1?}", STORY.len(), begun.elapsed());
}

/// The code of the README's first scenario.
struct FirstScenario {
    programs: Vec<String>,
    chaos: String,
}

impl FirstScenario {
    fn read() -> Self {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let (_, section) = readme.split_once("\n## The first scenario in ten minutes\n").expect("the README has it");
        let section = section.split("\n## ").next().unwrap();
        let blocks = |language: &str| -> Vec<String> {
            let opening = format!("\n```{language}\n");
            let begins = section.split(&opening).skip(1);
            begins.map(|rest| format!("{}\n", rest.split("\n```").next().unwrap())).collect()
        };
        Self { programs: blocks("python"), chaos: blocks("toml").concat() }
    }

    fn go_on(&self, before: Before, root: &Path) {
        let folder = root.join("scenarios/data_pipeline/first_query");
        match before {
            Before::Nothing => {}
            Before::Program(number) => std::fs::write(folder.join("main.py"), &self.programs[number]).unwrap(),
            Before::Chaos => {
                let manifest = std::fs::read_to_string(folder.join("scenario.toml")).unwrap();
                std::fs::write(folder.join("scenario.toml"), format!("{manifest}\n{}", self.chaos)).unwrap();
            }
            Before::Shell(line) => drop(Command::new("/bin/sh").args(["-c", line]).dir(root).run().unwrap()),
        }
    }
}

/// The engine as somebody in this folder starts it, in the tests' slot.
fn run(root: &Path, words: &[&str]) -> xtask::host::shell::Output {
    let line = words.join(" ");
    let takes_slot = WITH_SLOT.iter().any(|verb| line == *verb || line.starts_with(&format!("{verb} ")));
    let mut words: Vec<&str> = words.to_vec();
    if takes_slot {
        let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        words.splice(end..end, ["--slot", slot()]);
    }
    engine()
        .args(words)
        .dir(root)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("GITHUB_ACTIONS")
        .deadline(DEADLINE)
        .output()
        .unwrap()
}

/// The name of the project's last run.
fn latest(root: &Path) -> Option<String> {
    Some(std::fs::read_link(root.join("target/e2e/latest")).ok()?.file_name()?.display().to_string())
}

const MACHINE: &str = r#"
from = "mini"
init = ["/bin/init"]

[[volumes]]
path = "/data"
size = "1M"
kind = "tmpfs"
"#;

/// What the guides' scenarios find on it: a user, and a client that answers as the database does.
const APP: &str = r#"
[[users]]
name = "mancer"
uid = 1001

[[files]]
source = "files/psql"
target = "/bin/psql"
mode = "0755"
"#;

/// Something listens where a database would.
const DB: &str = r#"
[[files]]
source = "files/inittab"
target = "/etc/inittab"

[[probes]]
tcp = 5432
"#;

const INGESTION: &str = r#"
import e2e

def scenario(lab: e2e.Lab) -> None:
    app, db = lab.container("app"), lab.container("db")
    rows = lab.param("rows")
    with lab.measure("data_setup"):
        db.exec(["/bin/sh", "-c", f"seq {rows} > /data/rows"]).success()
    print("refused: 3 rows")
    app.write("/tmp/rows", db.get("/data/rows"))
    count = int(app.sh("wc -l < /tmp/rows").success().stdout_text)
    lab.check_equal(count, rows)

if __name__ == "__main__":
    e2e.run(scenario)
"#;

const PROCESSING: &str = r#"
import e2e

def scenario(lab: e2e.Lab) -> None:
    worker = lab.container("worker")
    done = 0
    with lab.chaos() as chaos:
        while done < 3 or chaos.lasts():
            worker.sh("true", deadline=5).success()
            done += 1
    lab.at_end("the worker works", lambda: worker.sh("true").success())

if __name__ == "__main__":
    e2e.run(scenario)
"#;

/// A project with the machines and scenarios of the guides, each as small as can be.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("e2e.toml", "name = \"e2e-selftest\"\ncontainers = [\"app\", \"db\", \"worker\"]\n");
    let mini = repository().join("containers/mini");
    std::fs::create_dir_all(folder.path().join("containers")).unwrap();
    Command::new("cp").arg("-r").arg(mini).arg(folder.path().join("containers/mini")).run().unwrap();
    for (name, more) in [("app", APP), ("db", DB), ("worker", "")] {
        write(&format!("containers/{name}/template.toml"), &format!("{MACHINE}{more}"));
    }
    write("containers/app/files/psql", "#!/bin/sh\necho 150020\n");
    write("containers/db/files/inittab", "::respawn:/bin/nc -ll -p 5432 -e /bin/true\n");
    let manifest = |description: &str, rest: &str| {
        format!("description = \"{description}\"\ncommand = [\"python3\", \"main.py\"]\n{rest}")
    };
    let ingestion = "[containers.app]\n[containers.db]\n[[cases]]\nname = \"small\"\nrows = 100\n[[cases]]\nname = \"large\"\nrows = 1000\n";
    write("scenarios/data_pipeline/data_ingestion/scenario.toml", &manifest("Rows go from db to app", ingestion));
    write("scenarios/data_pipeline/data_ingestion/main.py", INGESTION);
    let processing =
        "[containers.worker]\n[chaos]\nlength = \"1s\"\nquiet = \"100ms\"\n[[chaos.faults]]\nfault = \"cpu.burn\"\n";
    write("scenarios/data_pipeline/batch_processing/scenario.toml", &manifest("A worker works", processing));
    write("scenarios/data_pipeline/batch_processing/main.py", PROCESSING);
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
