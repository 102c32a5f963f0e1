//! A user with sudo: the engine asks for root once, the scenario does not have it, and what comes back is the user's.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::common::{Host, binaries, record, said, selftest, slot};
use xtask::host::exec::shell::Command;

/// A user made for one test, with the name of its slot: another test may have one at the same time.
struct TestUser {
    name: String,
    sudoers: PathBuf,
}

impl TestUser {
    /// Makes a user, with a rule of sudo for what the user may run; without a rule where that is empty.
    fn make(may: &str) -> Self {
        let name = format!("e2e-test-user-{}", slot());
        let user = Self { sudoers: Path::new("/etc/sudoers.d").join(&name), name };
        user.remove(); // of a test that was killed
        Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", &user.name]).run().unwrap();
        user.allow(may);
        user
    }

    fn allow(&self, may: &str) {
        if !may.is_empty() {
            std::fs::write(&self.sudoers, format!("{} ALL=(ALL) {may}\n", self.name)).unwrap();
        }
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.sudoers);
        let _ = Command::new("userdel").args(["--remove", &self.name]).output();
    }

    fn uid(&self) -> u32 {
        Command::new("id").args(["-u", &self.name]).run().unwrap().text().parse().unwrap()
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A file or folder as it is.
#[derive(Debug, PartialEq)]
struct Seen {
    path: PathBuf,
    owner: (u32, u32),
    mode: u32,
    content: Option<Vec<u8>>,
}

/// Things of root's that the scenario tries to read and to write with the engine's help.
struct Prey {
    folder: PathBuf,
    before: Vec<Seen>,
}

impl Prey {
    fn make(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        for name in ["file", "folder/f"] {
            let path = folder.join(name);
            std::fs::write(&path, "root's\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        }
        let before = Self::look(folder);
        assert_eq!(before.len(), 4);
        Self { folder: folder.to_owned(), before }
    }

    fn look(folder: &Path) -> Vec<Seen> {
        let seen = |entry: walkdir::DirEntry| {
            let metadata = entry.path().symlink_metadata().unwrap();
            let content = metadata.is_file().then(|| std::fs::read(entry.path()).unwrap());
            Seen { path: entry.into_path(), owner: (metadata.uid(), metadata.gid()), mode: metadata.mode(), content }
        };
        walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(|entry| seen(entry.unwrap())).collect()
    }

    fn expect_untouched(&self) {
        assert_eq!(Self::look(&self.folder), self.before);
    }
}

#[test]
fn a_user_runs_it_through_sudo() {
    let _host = Host::take();
    let user = TestUser::make("NOPASSWD: ALL");
    let home = Path::new("/home").join(&user.name);
    // A checkout of the user's own, with the programs built already: the user has no Cargo here.
    let checkout = home.join("checkout");
    for folder in ["checkout/engine", "checkout/project/scenarios/smoke", "checkout/containers"] {
        std::fs::create_dir_all(home.join(folder)).unwrap();
    }
    let copy = |from: &Path, to: &Path| Command::new("cp").arg("-r").arg(from).arg(to).run().unwrap();
    copy(Path::new(env!("CARGO_BIN_EXE_xtask")), &checkout.join("engine/xtask"));
    for name in ["who_am_i", "pictures"] {
        copy(&binaries().join(name), &checkout.join("engine").join(name));
        let scenario = Path::new("scenarios/smoke").join(name);
        copy(&selftest().join(&scenario), &checkout.join("project").join(&scenario));
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/mini"), &checkout.join("containers/mini"));
    let manifest = "name = \"e2e-selftest\"\n[paths]\ncontainers = \"../containers\"\n";
    std::fs::write(checkout.join("project/e2e.toml"), manifest).unwrap();
    Command::new("chown").args(["-R", &user.name]).arg(&home).run().unwrap();

    let prey = Prey::make(&checkout.join("roots"));

    let engine = checkout.join("engine");
    let line = format!(
        "cd {0}/project && E2E_MAX_FAIL=7 {1}/xtask --root {0}/project e2e who_am_i pictures:kept --slot {2} --binaries {1}",
        checkout.display(),
        engine.display(),
        slot()
    );
    let output =
        Command::new("su").args(["-", &user.name, "-c", &line]).deadline(std::time::Duration::from_secs(120)).output();
    let output = output.unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));

    let uid = user.uid();
    let run = checkout.join("project/target/e2e/latest");
    let who = std::fs::read_to_string(run.join("smoke/who_am_i/artifacts/who_am_i.txt")).unwrap();
    assert!(who.starts_with(&format!("uid [{uid}, {uid}, {uid}, {uid}]")), "{who}");
    assert!(run.join("smoke/who_am_i/artifacts/attacks.txt").exists(), "the scenario made no attack");
    assert!(run.join("smoke/pictures/kept/screenshots/blank.png").is_file());
    prey.expect_untouched();
    let run_record = record(&checkout.join("project"));
    assert_eq!(run_record["user"], user.name);
    // What the user's environment has set went through sudo, and stands where the run can be repeated from.
    let words = run_record["command"].as_array().unwrap();
    assert!(words.iter().any(|word| word == "--max-fail=7"), "{words:?}");
    let mut files = 0;
    for entry in walkdir::WalkDir::new(checkout.join("project")) {
        let entry = entry.unwrap();
        let owner = std::fs::symlink_metadata(entry.path()).unwrap().uid();
        assert_eq!(owner, uid, "{} belongs to {owner}", entry.path().display());
        files += 1;
    }
    assert!(files > 15, "only {files} files were looked at");

    // Without programs that were built before, Cargo builds them: a scenario's package has programs that it starts meanwhile.
    let cargo = home.join("cargo");
    std::fs::write(&cargo, format!("#!/bin/sh\necho $(id -u) $HOME $USER > {}/said; exit 1\n", home.display()))
        .unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!(
        "sudo CARGO={} {}/xtask --root {}/project e2e who_am_i --slot {}",
        cargo.display(),
        engine.display(),
        checkout.display(),
        slot()
    );
    let su = Command::new("su").args(["-", &user.name, "-c", &line]);
    let output = su.deadline(std::time::Duration::from_secs(60)).output().unwrap();
    assert_eq!(output.status, 2, "{}", said(&output));
    let who = std::fs::read_to_string(home.join("said")).unwrap();
    assert_eq!(who.trim(), format!("{uid} {} {}", home.display(), user.name));
}

/// Whatever a template can name: what only root may read is no part of a layer, and what is no file is told at once.
#[test]
fn sources_of_a_layer_are_read_with_the_users_rights() {
    let _host = Host::take();
    let user = TestUser::make("NOPASSWD: ALL");
    let home = Path::new("/home").join(&user.name);
    let (project, store) = (home.join("project"), tempfile::tempdir().unwrap());
    std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let template = project.join("containers/t");
    std::fs::create_dir_all(template.join("tree/folder")).unwrap();
    std::fs::create_dir_all(project.join("scenarios")).unwrap();
    std::fs::write(project.join("e2e.toml"), "name = \"e2e-selftest\"\n").unwrap();
    std::fs::write(template.join("own"), "mine").unwrap();
    std::fs::write(template.join("requirements.txt"), "x==1 --hash=sha256:00\n").unwrap();
    nix::unistd::mkfifo(&template.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::set_permissions(template.join("own"), std::fs::Permissions::from_mode(0o600)).unwrap();
    Command::new("cp").arg(env!("CARGO_BIN_EXE_xtask")).arg(home.join("xtask")).run().unwrap();
    Command::new("chown").args(["-R", &user.name]).arg(&home).run().unwrap();
    let prey = Prey::make(&home.join("roots"));
    let secret = home.join("roots/file").display().to_string();
    std::os::unix::fs::symlink(&secret, template.join("link")).unwrap();
    std::fs::copy(&secret, template.join("tree/folder/closed")).unwrap();
    std::fs::copy(&secret, home.join("roots/x.whl")).unwrap();
    let build = |text: &str, args: &str| {
        std::fs::write(template.join("template.toml"), text).unwrap();
        let line = format!(
            "sudo env E2E_STATE_DIR={} {}/xtask --root {} image build t {args}",
            store.path().display(),
            home.display(),
            project.display()
        );
        let su = Command::new("su").args(["-", &user.name, "-c", &line]);
        su.deadline(std::time::Duration::from_secs(60)).output().unwrap()
    };
    let from_scratch = |source: &str| {
        format!("from = 'scratch'\ninit = ['/i']\nfiles = [\n  {{ source = '{source}', target = '/x' }},\n]\n")
    };
    let closed = format!("with the rights of {}, who called sudo", user.name);
    let (denied, closed) = ("Permission denied", closed.as_str());
    let of_files = [
        (secret.as_str(), vec!["template.toml:4:14: ", denied, closed]),
        ("link", vec!["template.toml:4:14: ", denied, closed]),
        ("tree", vec!["template.toml:4:14: ", "tree/folder/closed", denied, closed]),
        ("/proc/self/environ", vec!["template.toml:4:14: ", denied, closed]),
        ("/proc/self/fd", vec!["template.toml:4:14: ", "it lies in /proc"]),
        ("/proc/self/status", vec!["template.toml:4:14: ", "it lies in /proc"]),
        ("/dev/zero", vec!["template.toml:4:14: ", "neither a file nor a folder"]),
        ("pipe", vec!["template.toml:4:14: ", "neither a file nor a folder"]),
    ];
    let pip = "from = 'scratch'\ninit = ['/i']\npip = { requirements = 'LIST', target = '/opt', python = '3.11' }\n";
    let wheel = format!("--set t.x={}", home.join("roots/x.whl").display());
    let tar = "from = { tar = 'link' }\ninit = ['/i']\n".to_owned();
    let refused = of_files.into_iter().map(|(source, expected)| (from_scratch(source), "", expected)).chain([
        (tar, "", vec!["template.toml:1:8: ", denied, closed]),
        (pip.replace("LIST", "link"), "", vec!["template.toml:3:24: ", denied, closed]),
        (pip.replace("LIST", "requirements.txt"), wheel.as_str(), vec!["x.whl", denied]),
    ]);
    for (text, args, expected) in refused {
        let output = build(&text, args);
        assert_ne!(output.status, 0, "{text}");
        for part in expected {
            assert!(said(&output).contains(part), "{text}{part:?} is missing in: {}", said(&output));
        }
        assert!(!said(&output).contains("root's"), "{}", said(&output));
    }
    assert!(!store.path().join("layers").exists(), "something was built");
    let output = build(&from_scratch("own"), "");
    assert_eq!(output.status, 0, "{}", said(&output));
    let layer = std::fs::read_dir(store.path().join("layers")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(layer.path().join("root/x")).unwrap(), "mine", "the user's own file");
    let lock = std::fs::metadata(project.join("containers/lock.json")).unwrap();
    assert_eq!(lock.uid(), user.uid());
    std::fs::remove_file(home.join("roots/x.whl")).unwrap();
    prey.expect_untouched();
}

#[test]
fn a_refusal_of_sudo_is_no_failed_scenario() {
    let _host = Host::take();
    let user = TestUser::make("");
    let home = Path::new("/home").join(&user.name);
    let project = home.join("project");
    std::fs::create_dir_all(&project).unwrap();
    std::fs::write(project.join("e2e.toml"), "name = \"e2e-selftest\"\n").unwrap();
    Command::new("cp").arg(env!("CARGO_BIN_EXE_xtask")).arg(home.join("xtask")).run().unwrap();
    Command::new("chown").args(["-R", &user.name]).arg(&home).run().unwrap();
    let run = |words: &str| {
        let line = format!("cd {} && {}/xtask {words}", project.display(), home.display());
        let su = Command::new("su").args(["-", &user.name, "-c", &line]);
        su.deadline(std::time::Duration::from_secs(60)).output().unwrap()
    };
    let doctor = || {
        let output = run("--format json doctor");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let root = told["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "root");
        root.unwrap().clone()
    };
    let refused = |words: &str| {
        let output = run(words);
        assert_eq!(output.status, 3, "{words}: {}", said(&output));
        let text = said(&output);
        assert!(
            text.contains(&format!("sudo did not start it for {}", user.name)) && text.contains("`sudo -v`"),
            "{text}"
        );
    };
    for words in ["ps", "down", "fault list --live", "clean", "exec app -- true"] {
        refused(words);
    }
    assert_eq!(doctor()["status"], "warning", "{:#}", doctor());
    let listed = run("fault list");
    assert!(listed.status == 0 && said(&listed).contains("net.isolate"), "{}", said(&listed));
    assert!(!said(&listed).contains("not on this host"), "nobody but root sees that: {}", said(&listed));

    user.allow("NOPASSWD: /bin/true");
    refused("ps");
    assert_eq!(doctor()["status"], "failure", "{:#}", doctor());

    user.allow("NOPASSWD: ALL");
    assert_eq!(run("ps").status, 0, "{}", said(&run("ps")));
    assert_eq!(run("exec nobody -- true").status, 2, "the status of the program that sudo starts");
    assert_eq!(doctor()["status"], "ok", "{:#}", doctor());
}
