//! `cargo xtask new`: what it makes runs and passes as it is, in a project of its own beside this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;

use super::common::{Host, as_owner, binaries, engine, owner, record, repository, said, slot};
use xtask::host::exec::shell::Command;

/// Deadline for a build whose dependencies are mostly built already.
const DEADLINE: Duration = Duration::from_secs(600);

/// A project in a folder of this one's target directory, made by and for the owner of that: a user, when the tests run as
/// root through sudo.
struct Fresh {
    root: PathBuf,
}

impl Fresh {
    fn make() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-scenarios");
        let _ = std::fs::remove_dir_all(&root); // of a test that was killed
        let fresh = Self { root };
        let mini = repository().join("containers/mini");
        fresh.write("e2e.toml", "name = \"e2e-selftest\"\n");
        fresh.write("containers/README.md", "Machines.\n");
        fresh.write("scenarios/README.md", "Scenarios.\n");
        Command::new("cp").arg("-r").arg(mini).arg(fresh.root.join("containers/mini")).run().unwrap();
        fresh.give();
        fresh
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn give(&self) {
        let User { uid, gid, .. } = owner();
        Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(&self.root).run().unwrap();
    }

    /// Adds what a Rust scenario needs: a workspace with this one's profiles and versions, so that little is built
    /// anew.
    fn add_cargo_package(&self) {
        let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let profile = toml::Table::from_iter([("profile".to_owned(), manifest["profile"].clone())]);
        self.write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = [\"scenarios\"]\n\n{profile}"));
        let sdk = repository().join("xtask/sdk");
        self.write(
            "scenarios/Cargo.toml",
            &format!(
                "[package]\nname = \"scenarios\"\nedition = \"2024\"\nautobins = false\n\n\
                 [dependencies]\ne2e = {{ path = \"{}\" }}\n",
                sdk.display()
            ),
        );
        std::fs::copy(repository().join("Cargo.lock"), self.root.join("Cargo.lock")).unwrap();
        self.give();
    }

    fn command(&self, program: &str) -> Command {
        as_owner(program).dir(&self.root).deadline(DEADLINE)
    }

    fn new_scenario(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(env!("CARGO_BIN_EXE_xtask")).arg("new").args(args).output().unwrap();
        (output.status, said(&output))
    }

    /// Runs scenarios as root: labs need it.
    fn e2e(&self, args: &[&str]) -> (i32, String) {
        let command = engine().args(["e2e", "--slot", slot()]).args(args);
        let output = command.dir(&self.root).deadline(DEADLINE).env("CARGO", "/no/such/cargo").output().unwrap();
        (output.status, said(&output))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[test]
fn a_new_scenario_passes_at_once_in_either_language() {
    let _host = Host::take();
    let fresh = Fresh::make();
    let (status, text) = fresh.new_scenario(&["smoke/fresh_python", "--language", "python"]);
    assert_eq!(status, 0, "{text}");
    for part in ["scenarios/smoke/fresh_python/main.py", "cargo xtask e2e fresh_python", "cargo xtask shell mini"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (status, text) = fresh.e2e(&[]);
    assert_eq!(status, 0, "without a Cargo package, and without Cargo: {text}");
    assert_eq!(record(&fresh.root)["counts"]["passed"], 1);

    let (status, text) = fresh.new_scenario(&["smoke/fresh_rust"]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("Cargo.toml does not exist") && text.contains("--language python"), "{text}");
    fresh.add_cargo_package();
    let (status, text) = fresh.new_scenario(&["smoke/fresh_rust", "--container", "mini"]);
    assert_eq!(status, 0, "{text}");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = fresh.command(&cargo).args(["build", "--quiet", "--bins"]).run().unwrap();
    assert_eq!(said(&built), "", "not even a warning");
    let (status, text) = fresh.e2e(&["--binaries", &binaries().display().to_string()]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(record(&fresh.root)["counts"]["passed"], 2);

    let (status, text) = fresh.new_scenario(&["smoke/fresh_rust"]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("smoke/fresh_rust exists already: take another name"), "{text}");
}
