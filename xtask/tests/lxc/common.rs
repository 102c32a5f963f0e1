//! Common parts of integration tests: the engine as a user starts it, projects made for one test, and the host as it
//! was before. Real LXC, on the template of busybox alone.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};
use serde_json::Value;
use xtask::guard::Slot;
use xtask::host::exec::shell::{Command, Output};
use xtask::host::inventory::Inventory;
use xtask::record::PastRun;
use xtask::selftest::{Leftovers, PAIR_SLOTS, TEST_SLOTS};

/// Locked as shared by a test that leaves the rest of the host alone, as exclusive by one that needs all of it.
const HOST_LOCK: &str = "/run/lock/mancer-e2e-tests";

/// Deadline for one run of the engine, the build of the scenarios included.
const DEADLINE: Duration = Duration::from_secs(300);

/// Deadline of what is waited for on the host. A test that passes ends much sooner, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Deadline of a test's wait for a slot, or for tests that need the whole host.
const LEASE_DEADLINE: Duration = Duration::from_secs(1200);

/// The tests of one process share its slot, so they run one after another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The slot of this process, leased when it is first asked for and kept until the process ends.
pub fn slot() -> &'static str {
    static LEASE: LazyLock<(String, Flock<File>)> = LazyLock::new(|| {
        within(LEASE_DEADLINE, "no slot for tests is free", || {
            TEST_SLOTS.map(|slot| slot.to_string()).find_map(|slot| {
                let file = File::create(format!("{HOST_LOCK}-{slot}")).unwrap();
                Some((slot, Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?))
            })
        })
    });
    &LEASE.0
}

/// Slot of this process's second lab, for as long as it has that of [`slot`].
pub fn pair_slot() -> String {
    let place = slot().parse::<u32>().unwrap() - TEST_SLOTS.start();
    (PAIR_SLOTS.start() + place).to_string()
}

/// A host with what a test may use of it; at the test's end nothing is left there that was not there before.
pub struct Host {
    before: Inventory,
    scope: Scope,
    _lock: Flock<File>,
    _turn: MutexGuard<'static, ()>,
}

/// Part of the host that a test changes, and so compares.
enum Scope {
    Slot,
    Everything,
}

impl Host {
    /// Shares the host with other tests: everything happens in this process's slot.
    pub fn take() -> Self {
        Self::locked(FlockArg::LockSharedNonblock, Scope::Slot)
    }

    /// Takes the whole host, for a test whose subject is the host or which judges times. Such tests lie below `alone/`:
    /// `cargo xtask test` runs nothing beside them.
    pub fn alone() -> Self {
        Self::locked(FlockArg::LockExclusiveNonblock, Scope::Everything)
    }

    fn locked(kind: FlockArg, scope: Scope) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "labs need root: `cargo xtask test` asks for it");
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = within(LEASE_DEADLINE, "other tests have the host", || {
            Flock::lock(File::create(HOST_LOCK).unwrap(), kind).ok()
        });
        // The programs are built outside the measured time of any test.
        build_scenarios();
        // A test that failed before may have kept its lab.
        clean_slot();
        copy_checkout();
        Self { before: scope.inventory(), scope, _lock: lock, _turn: turn }
    }

    /// Waits until nothing is left; fails with what is, past the time.
    pub fn expect_clean_within(&self, time: Duration) {
        let started = Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < time, "left on the host after {time:?}:\n  {}", left.join("\n  "));
            std::thread::sleep(Duration::from_millis(20)); // the host gives no sign when something is gone
        }
    }

    /// Returns what exists now and did not before, except for what belongs to other runs.
    pub fn leftovers(&self) -> Vec<String> {
        let holder = |slot: &str| Slot::named(slot).holder().ok()?.map(|holder| holder.to_string());
        Leftovers::of(self.scope.inventory().since(&self.before), &holder).own
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_clean_within(PATIENCE);
        }
    }
}

impl Scope {
    fn inventory(&self) -> Inventory {
        let state_dir = Path::new("/var/lib/mancer-e2e");
        match self {
            Self::Slot => Inventory::of_slot(state_dir, slot()),
            Self::Everything => Inventory::take(state_dir).unwrap(),
        }
    }
}

/// Asks again until there is an answer; fails past the deadline.
fn within<T>(deadline: Duration, problem: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "{problem} after {deadline:?}");
        std::thread::sleep(Duration::from_millis(20)); // a lock of several kinds has no wait with a deadline
    }
}

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The copy of the repository's projects that belongs to this process's slot: runs write into their project's folder.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("slot-{}", slot()))
}

fn copy_checkout() {
    let checkout = checkout();
    let _ = std::fs::remove_dir_all(&checkout);
    std::fs::create_dir_all(checkout.join("xtask/tests/project")).unwrap();
    let own = ["e2e.toml", "scenarios"].map(|name| format!("xtask/tests/project/{name}"));
    for path in ["e2e.toml", "containers", "scenarios", "baselines"].map(String::from).into_iter().chain(own) {
        Command::new("cp").arg("-a").arg(repository().join(&path)).arg(checkout.join(&path)).run().unwrap();
    }
    let User { uid, gid, .. } = owner();
    Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(&checkout).run().unwrap();
}

/// Mancer's project, in this process's copy.
pub fn mancer() -> PathBuf {
    checkout()
}

/// The engine's own test project, in this process's copy.
pub fn selftest() -> PathBuf {
    checkout().join("xtask/tests/project")
}

/// The engine.
pub fn engine() -> Command {
    // Whoever has checked this repository out, the tests work on its projects.
    let trusted =
        [repository(), Path::new(env!("CARGO_TARGET_TMPDIR"))].map(|path| path.display().to_string()).join(":");
    Command::new(env!("CARGO_BIN_EXE_xtask")).env("E2E_TRUST", trusted)
}

/// A verb's words with this process's slot, which labs of others are not in; before what a program is given.
pub fn with_slot(args: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    if !words.iter().any(|word| word == "--slot") {
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.splice(end..end, ["--slot".to_owned(), slot().to_owned()]);
    }
    words
}

/// Takes back what this process's slot has: a kept lab, and what killed runs left.
pub fn clean_slot() {
    clean(slot());
}

/// Takes back what a slot has.
pub fn clean(slot: &str) {
    engine().args(["clean", "--slot", slot]).dir("/").run().unwrap();
}

/// The folder of the scenarios' programs.
pub fn binaries() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap().to_owned()
}

/// Returns the owner of the checkout's target folder: a user, when the tests run as root through sudo.
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

/// A release of the engine, and what `dist` said of it: made once for all tests that want one, as long as the program stays.
pub fn release() -> (PathBuf, Value) {
    let built = std::fs::metadata(env!("CARGO_BIN_EXE_xtask")).unwrap();
    let top = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = Flock::lock(File::create(top.join("release.lock")).unwrap(), FlockArg::LockExclusive);
    let _lock = lock.map_err(|(_, error)| error).unwrap();
    let folder = top.join("release");
    let answer = folder.join("answer.json");
    let is_newer = |answer: std::fs::Metadata| answer.modified().unwrap() >= built.modified().unwrap();
    if !answer.metadata().is_ok_and(is_newer) {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let made = make_release(&folder);
        std::fs::write(&answer, made.to_string()).unwrap();
    }
    let made = serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();
    (folder, made)
}

/// Makes a release of the engine, with the program that is built already, in a folder; the answer is what `dist` said.
pub fn make_release(folder: &Path) -> Value {
    let User { uid, gid, .. } = owner();
    std::os::unix::fs::chown(folder, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
    let output = as_owner(env!("CARGO_BIN_EXE_xtask"))
        .args(["--format", "json", "dist", "--profile", "dev", "--out"])
        .arg(folder)
        .dir(repository())
        .deadline(DEADLINE)
        .run()
        .unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The program of a release, unpacked in a folder of the test's own.
pub fn unpack(release: &Path) -> (tempfile::TempDir, PathBuf) {
    let own = tempfile::tempdir().unwrap();
    std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let name = concat!("mancer-e2e-", env!("CARGO_PKG_VERSION"), "-");
    let name = format!("{name}{}", std::env::consts::ARCH);
    let archive = release.join(format!("{name}.tar.gz")).display().to_string();
    Command::new("tar").args(["--extract", "--gzip", "--file", &archive]).dir(own.path()).run().unwrap();
    let program = own.path().join(name).join("bin/mancer-e2e");
    (own, program)
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
    engine().args(e2e_args(project, args)).dir(project).deadline(DEADLINE)
}

/// The arguments of `e2e` as [`e2e`] gives them.
pub fn e2e_args(project: &Path, args: &[&str]) -> Vec<String> {
    e2e_args_in(slot(), project, args)
}

/// The arguments of `e2e` in a slot that the test has beside its own: it has the whole host.
pub fn e2e_args_in(slot: &str, project: &Path, args: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = ["--root", &project.display().to_string(), "e2e"].map(String::from).to_vec();
    words.extend(["--slot", slot, "--binaries", &binaries().display().to_string()].map(String::from));
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    words
}

/// `e2e` in the background, for tests that kill it.
pub fn e2e_in_background(project: &Path, args: &[&str]) -> Child {
    let words = e2e_args(project, args);
    start(project, words.iter().map(String::as_str), &[])
}

/// The engine in the background, for tests that kill it.
#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
pub fn start<'a>(dir: &Path, words: impl IntoIterator<Item = &'a str>, environment: &[(&str, &Path)]) -> Child {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(words)
        .env("E2E_SLOT", slot())
        .env("E2E_TRUST", "*")
        .envs(environment.iter().copied())
        .current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The process of the guard that holds the tests' slot.
pub fn guard_pid() -> Option<i32> {
    guard_pid_of(slot())
}

/// The process of the guard that holds a slot.
pub fn guard_pid_of(slot: &str) -> Option<i32> {
    let text = std::fs::read_to_string(Path::new("/run/mancer-e2e").join(slot).join("owner.json")).ok()?;
    let owner: Value = serde_json::from_str(&text).ok()?;
    i32::try_from(owner["guard_pid"].as_i64()?).ok()
}

/// The record of the project's last run. Whatever run it was, its events come to the same.
pub fn record(project: &Path) -> Value {
    let path = project.join("target/e2e/latest/run.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let record: Value = serde_json::from_slice(&text).unwrap();
    let folded = PastRun::folded(&project.join("target/e2e/latest")).unwrap().expect("there are events");
    assert_eq!(serde_json::to_value(folded).unwrap(), record, "the fold of the events, and run.json");
    record
}

/// Returns all events of the project's last run.
pub fn events(project: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(project.join("target/e2e/latest/events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the engine's output, for assertions.
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
