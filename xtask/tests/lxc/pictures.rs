//! Pictures of pages by the host's browser: they are real, it is stopped, and without it nothing is made up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::guard::Slot;
use xtask::host::exec::shell::{Command, which};
use xtask::host::tools::chromium::Browser;
use xtask::host::tools::packages::Item;

use super::common::{Host, clean_slot, e2e, e2e_args, e2e_in_background, events, guard_pid, said, selftest, slot};

/// Fails, and does not pass, where there is nothing to test with.
fn require_browser() {
    if let Err(reason) = Browser::find() {
        panic!("{reason}");
    }
}

fn picture_dir() -> PathBuf {
    Path::new("/run/mancer-e2e").join(slot()).join("picture")
}

/// The processes of the tests' browser.
fn browsers(host: &Host) -> Vec<String> {
    let folder = picture_dir().display().to_string();
    host.leftovers().into_iter().filter(|it| it.starts_with("process") && it.contains(&folder)).collect()
}

/// Processes and locks of others give no sign when they end.
fn wait_until(otherwise: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lists what browsers like to leave in folders for temporary files.
fn traces() -> Vec<PathBuf> {
    let folders = ["/tmp", "/dev/shm", "/var/tmp"].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = folders.map(|entry| entry.unwrap().path());
    paths.filter(|path| ["chrom", "Chrom"].iter().any(|name| path.display().to_string().contains(name))).collect()
}

#[test]
fn pictures_show_pages_and_nothing_else_is_a_picture() {
    require_browser();
    let host = Host::take();
    let project = selftest();
    let before = traces();
    let output = e2e(&project, &["pictures:taken"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    host.expect_clean_within(Duration::ZERO);
    assert_eq!(traces(), before);
    let pictures: Vec<_> = events(&project).into_iter().filter(|event| event["event"] == "screenshot").collect();
    assert_eq!(pictures.len(), 5, "{pictures:?}");
    for event in &pictures {
        let file = project.join("target/e2e/latest").join(event["picture"]["taken"]["path"].as_str().unwrap());
        let size_bytes = event["picture"]["taken"]["size_bytes"].as_u64().unwrap();
        assert_eq!(file.metadata().unwrap().len(), size_bytes, "{}", file.display());
    }
    assert!(said(&output).contains("picture status of http://app/status.html: smoke/pictures"), "{}", said(&output));
}

#[test]
fn a_page_that_looks_otherwise_fails_and_is_pictured_by_itself() {
    require_browser();
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["pictures:looks"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("looks like before.png [pixels_off = "), "{}", said(&output));
    let events = events(&project);
    let failed = events.iter().position(|event| event["event"] == "check" && event["passed"] == false).unwrap();
    assert!(events[failed]["file"].as_str().unwrap().ends_with("smoke/pictures/main.rs"), "{}", events[failed]);
    let compared = events[failed - 1]["likeness"]["compared"].as_object().expect("it was compared just before");
    let next = &events[failed + 1];
    assert_eq!((&next["event"], &next["name"]), (&"screenshot".into(), &"failed-1-status".into()), "{next}");
    let unasked = events.iter().filter(|event| event["name"] == "failed-2-status").count();
    assert_eq!(unasked, 0, "giving up because of a check is not one more failure");
    let read = |path: &serde_json::Value| {
        std::fs::read(project.join("target/e2e/latest").join(path.as_str().unwrap())).unwrap()
    };
    let (other, difference) = (read(&compared["path"]), read(&compared["difference"]));
    assert_eq!(read(&next["picture"]["taken"]["path"]), other, "the page as it was when the check failed");
    assert!(difference.starts_with(b"\x89PNG") && difference != other);
}

#[test]
fn without_a_browser_the_run_says_that_a_picture_is_missing() {
    let _host = Host::take();
    let project = selftest();
    // In a mount namespace of its own, each program of this kind is hidden by a device.
    let programs: Vec<PathBuf> = Item::named("chromium").programs.iter().filter_map(|name| which(name)).collect();
    let hide = "while [ \"$1\" != -- ]; do mount --bind /dev/null \"$1\" || exit 99; shift; done; shift; exec \"$@\"";
    let hidden = Command::new("unshare").args(["--mount", "sh", "-c", hide, "sh"]).args(programs).arg("--");
    let engine = hidden.arg(env!("CARGO_BIN_EXE_xtask")).args(e2e_args(&project, &["pictures:skipped"]));
    let output = engine.dir(&project).deadline(Duration::from_secs(120)).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    assert!(said(&output).contains("picture status SKIPPED: this host has no browser"), "{}", said(&output));
    let skipped = events(&project).into_iter().find(|event| event["event"] == "screenshot").unwrap();
    assert!(skipped["picture"]["skipped"]["reason"].as_str().unwrap().contains("cargo xtask setup --optional"));
}

#[test]
fn a_scenario_that_ends_takes_its_browser_with_it() {
    require_browser();
    let host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["pictures:hangs", "--timeout", "8s", "--keep-containers=always"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("did not end within 8s"), "{}", said(&output));
    assert_eq!(browsers(&host), [""; 0], "a browser runs in the kept lab");
    assert!(!picture_dir().exists(), "its folder is there");
    clean_slot();
}

#[test]
fn killed_in_the_middle_of_a_picture_nothing_is_left() {
    require_browser();
    let host = Host::take();
    let before = traces();
    for guard_too in [false, true] {
        let mut engine = e2e_in_background(&selftest(), &["pictures:hangs"]);
        wait_until("no browser was started", || !browsers(&host).is_empty());
        if guard_too {
            kill(Pid::from_raw(guard_pid().expect("there is a lab")), Signal::SIGKILL).unwrap();
        }
        engine.kill().unwrap();
        engine.wait().unwrap();
        if guard_too {
            // By itself: nobody has cleaned up yet.
            wait_until("the browser has outlived the guard", || browsers(&host).is_empty());
            // A lock goes with the last of its process, and that is not this test's child.
            wait_until("the guard does not end", || !Slot::named(slot()).is_held().unwrap());
            clean_slot();
        }
        host.expect_clean_within(Duration::from_secs(if guard_too { 0 } else { 10 }));
        assert_eq!(traces(), before);
    }
}
