//! The command lines of the guides are run, on a small project in which machines and scenarios have the names that the guides use.
//! What is changed in a line to be run here stands beside it in `story.rs`; `tests/guides.rs` has those that are not run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use xtask::host::exec::shell::Command;

use super::common::{Host, engine, repository, said, slot};
use super::story::{Before, DocumentedCommand, STORY, TUTORIAL, blocks};

/// Deadline for one line.
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

#[test]
fn the_story_of_the_guides_can_be_lived() {
    let _host = Host::take();
    let project = project();
    let root = project.path();
    run(root, &["image", "build"]);
    let begun = std::time::Instant::now();
    let mut first_run = None;
    let first_scenario = FirstScenario::read();
    for DocumentedCommand { line, instead, status, says, before } in STORY {
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

/// Code of the tutorial's scenario.
struct FirstScenario {
    programs: Vec<String>,
    chaos: String,
}

impl FirstScenario {
    fn read() -> Self {
        let tutorial = std::fs::read_to_string(repository().join(TUTORIAL)).unwrap();
        Self { programs: blocks(&tutorial, "python"), chaos: blocks(&tutorial, "toml").concat() }
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
fn run(root: &Path, words: &[&str]) -> xtask::host::exec::shell::Output {
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

/// Machine with what the guides' scenarios need: a user, and a client that answers as the database does.
const APP: &str = r#"
[[users]]
name = "mancer"
uid = 1001

[[files]]
source = "files/psql"
target = "/bin/psql"
mode = "0755"
"#;

/// Machine that listens where a database would.
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
