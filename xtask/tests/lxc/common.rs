//! What every integration test needs: the engine as a user starts it, projects made for one test, and the host as it
//! was before. Real LXC, on the template of busybox alone.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};
use serde_json::Value;
use xtask::host::inventory::Inventory;
use xtask::host::shell::{Command, Output};

/// The slot of all tests: a lab that a person keeps in the first one is left alone.
pub const SLOT: &str = "90";

/// How long one run of the engine may take, the build of the scenarios included.
const DEADLINE: Duration = Duration::from_secs(300);

/// One test at a time on this host; at its end nothing is left that was not there before.
pub struct Host {
    before: Inventory,
    _lock: Flock<File>,
}

impl Host {
    pub fn take() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "labs need root: `cargo xtask test` asks for it");
        let file = File::create("/run/lock/mancer-e2e-tests").unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
        // The programs are built outside the measured time of any test.
        build_scenarios();
        // A test that failed before may have kept its lab.
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["clean", "--slot", SLOT]).dir("/").run().unwrap();
        Self { before: inventory(), _lock: lock }
    }

    /// Waits until nothing is left; fails with what is, past the time.
    pub fn expect_clean_within(&self, time: Duration) {
        let started = Instant::now();
        loop {
            let left = inventory().leftovers_since(&self.before);
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < time, "left on the host after {time:?}:\n  {}", left.join("\n  "));
            std::thread::sleep(Duration::from_millis(20)); // the host gives no sign when something is gone
        }
    }

    /// What is there now and was not before.
    pub fn leftovers(&self) -> Vec<String> {
        inventory().leftovers_since(&self.before)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_clean_within(Duration::from_secs(2));
        }
    }
}

fn inventory() -> Inventory {
    Inventory::take(Path::new("/var/lib/mancer-e2e")).unwrap()
}

/// The engine's own test project.
pub fn selftest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project")
}

/// The folder of its scenarios' programs.
pub fn binaries() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap().to_owned()
}

/// Whose the checkout's target folder is: a user, when the tests run as root through sudo.
pub fn owner() -> User {
    User::from_uid(Uid::from_raw(binaries().metadata().unwrap().uid())).unwrap().unwrap()
}

/// A command of the owner's, without a network and with the cache of built crates.
pub fn as_owner(program: &str) -> Command {
    let owner = owner();
    let target = binaries().parent().unwrap().to_owned();
    // Beside the real Cargo is its compiler, which no login shell has put on the PATH here.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let beside = Path::new(&cargo).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let path = [beside, std::env::var("PATH").unwrap()].join(":");
    let command = Command::new(program).env("PATH", path).env("HOME", owner.dir.display().to_string());
    let command = command.env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true");
    if owner.uid.is_root() { command } else { command.user(owner.uid.as_raw(), owner.gid.as_raw()) }
}

/// A release of the engine, with the program that is built already, in a folder that goes with the answer; and what `dist`
/// said of it.
pub fn release() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let User { uid, gid, .. } = owner();
    std::os::unix::fs::chown(folder.path(), Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = as_owner(env!("CARGO_BIN_EXE_xtask"))
        .args(["--format", "json", "dist", "--profile", "dev", "--out"])
        .arg(folder.path())
        .dir(root)
        .deadline(DEADLINE)
        .run()
        .unwrap_or_else(|error| panic!("{error}"));
    (folder, serde_json::from_slice(&output.stdout).unwrap())
}

/// The program of a release, unpacked in its folder.
pub fn unpack(release: &Path) -> PathBuf {
    let name = concat!("mancer-e2e-", env!("CARGO_PKG_VERSION"), "-");
    let folder = release.join(format!("{name}{}", std::env::consts::ARCH));
    let archive = format!("{}.tar.gz", folder.display());
    Command::new("tar").args(["--extract", "--gzip", "--file", &archive]).dir(release).run().unwrap();
    folder.join("bin/mancer-e2e")
}

fn build_scenarios() {
    if std::env::var_os("E2E_TEST_BUILT").is_some() {
        return; // by `cargo xtask test`, as the invoking user
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["build", "--quiet", "--package", "selftest-scenarios", "--package", "scenarios", "--bins"];
    Command::new(cargo).args(args).dir(env!("CARGO_MANIFEST_DIR")).deadline(DEADLINE).run().unwrap();
}

/// `e2e` on a project, with the tests' slot and the programs built already.
pub fn e2e(project: &Path, args: &[&str]) -> Command {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(e2e_args(project, args)).dir(project).deadline(DEADLINE)
}

/// The arguments of `e2e` as [`e2e`] gives them.
pub fn e2e_args(project: &Path, args: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = ["--root", &project.display().to_string(), "e2e"].map(String::from).to_vec();
    words.extend(["--slot", SLOT, "--binaries", &binaries().display().to_string()].map(String::from));
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    words
}

/// `e2e` in the background, for tests that kill it.
#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
pub fn e2e_in_background(project: &Path, args: &[&str]) -> Child {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(e2e_args(project, args)).current_dir(project);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The process of the guard that holds the tests' slot.
pub fn guard_pid() -> Option<i32> {
    let text = std::fs::read_to_string(Path::new("/run/mancer-e2e").join(SLOT).join("owner.json")).ok()?;
    let owner: Value = serde_json::from_str(&text).ok()?;
    i32::try_from(owner["guard_pid"].as_i64()?).ok()
}

/// The record of the project's last run.
pub fn record(project: &Path) -> Value {
    let path = project.join("target/e2e/latest/run.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// All events of the project's last run.
pub fn events(project: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(project.join("target/e2e/latest/events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the engine said, for assertions.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A project made for one test: a container `a` of a template that says what is wrong with it, beside mini.
pub fn project_with_template(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/mini");
    Command::new("mkdir").arg(folder.path().join("containers")).run().unwrap();
    Command::new("cp").arg("-r").arg(mini).arg(folder.path().join("containers/mini")).run().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("e2e.toml", "name = \"e2e-selftest\"\ncontainers = [\"a\"]\n");
    write("containers/odd/template.toml", template);
    let scenario = "description = \"A lab that cannot be\"\n[containers.a]\ntemplate = \"odd\"\n";
    write("scenarios/smoke/never_connects/scenario.toml", scenario);
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
