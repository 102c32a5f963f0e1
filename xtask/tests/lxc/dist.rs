//! `cargo xtask dist`: what it packs runs where it is unpacked, far from the checkout, and its package is installed in a Debian.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, engine, make_release, mancer, release, said, slot, unpack};

/// Deadline for a lab of a real template whose layer may have to be built.
const DEADLINE: Duration = Duration::from_secs(600);

fn file_named(release: &Value, end: &str) -> String {
    let paths = release["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap());
    paths.filter(|path| path.ends_with(end)).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_archive_runs_where_it_is_unpacked() {
    let _host = Host::take();
    let (folder, made) = release();
    Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).dir(&folder).run().unwrap();
    let (own, program) = unpack(&folder);
    let engine = |args: &[&str]| Command::new(&program).args(args).dir(own.path()).output().unwrap();
    let version = engine(&["--version"]);
    assert!(version.text().ends_with(env!("CARGO_PKG_VERSION")), "{}", said(&version));
    let doctor = engine(&["doctor"]);
    assert!([0, 3].contains(&doctor.status) && doctor.text().contains(" ok, "), "{}", said(&doctor));
    let listed = engine(&["init", "shop"]);
    assert_eq!(listed.status, 0, "{}", said(&listed));
    let listed = engine(&["--root", "shop", "e2e", "--list"]);
    assert!(listed.status == 0 && listed.text().contains("visits"), "{}", said(&listed));

    let inside = program.parent().unwrap().parent().unwrap();
    let text =
        |path: &str| std::fs::read_to_string(inside.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(text("share/man/man1/mancer-e2e-image-build.1").contains("lock.json"));
    assert!(text("LICENSE").starts_with("MIT License") && text("README.md").starts_with("# mancer-e2e"));
    assert!(!inside.join("share/man/man1/mancer-e2e-guard.1").exists(), "a hidden verb has a page");
    Command::new("bash").args(["-n", "share/bash-completion/completions/mancer-e2e"]).dir(inside).run().unwrap();
    assert!(text("share/zsh/site-functions/_mancer-e2e").starts_with("#compdef mancer-e2e\n"));
    assert!(text("share/fish/vendor_completions.d/mancer-e2e.fish").contains("complete -c mancer-e2e"));

    let again = tempfile::tempdir().unwrap();
    make_release(again.path());
    let sums = |folder: &Path| std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(again.path()), sums(&folder), "the same program is packed to the same bytes");
    assert_eq!(sums(&folder).lines().count() + 1, made["files"].as_array().unwrap().len());
}

/// A verb on this project, in the tests' slot.
fn xtask(args: &[&str]) -> Output {
    let place = args.iter().position(|word| *word == "--").unwrap_or(args.len());
    let (verb, program) = args.split_at(place);
    let command = engine().args(verb).args(["--slot", slot()]).args(program);
    command.dir(mancer()).deadline(DEADLINE).output().unwrap()
}

fn inside(script: &str) -> Output {
    xtask(&["exec", "base", "--", "/bin/sh", "-c", script])
}

#[test]
fn a_package_is_installed_in_a_debian_and_says_what_it_lacks() {
    let _host = Host::take();
    let (_folder, made) = release();
    let up = xtask(&["up", "base"]);
    assert_eq!(up.status, 0, "{}", said(&up));
    let copied = xtask(&["cp", &file_named(&made, ".deb"), "base:/var/tmp/engine.deb"]);
    assert_eq!(copied.status, 0, "{}", said(&copied));

    let info = inside("dpkg --info /var/tmp/engine.deb && dpkg --contents /var/tmp/engine.deb");
    assert_eq!(info.status, 0, "{}", said(&info));
    for part in
        [" Depends: ", "busybox-static", "./usr/bin/mancer-e2e", "root/root", "./usr/share/man/man1/mancer-e2e.1.gz"]
    {
        assert!(info.text().contains(part), "{part}: {}", said(&info));
    }
    // A lab has no network: what the package depends on cannot come, and dpkg has to say so.
    let refused = inside("dpkg --install /var/tmp/engine.deb");
    assert!(refused.status != 0 && said(&refused).contains("depends on lxc"), "{}", said(&refused));
    let forced = inside("dpkg --force-depends --install /var/tmp/engine.deb");
    assert_eq!(forced.status, 0, "{}", said(&forced));

    let there = inside("ldd --version | head -1").text();
    let there = there.rsplit(' ').next().unwrap_or_default().to_owned();
    let version = inside("mancer-e2e --version");
    match made["glibc"].as_str() {
        // A builder newer than this Debian: the package must have said so, and does not run here.
        Some(needed) if numbers(needed) > numbers(&there) => {
            assert!(said(&refused).contains(&format!("libc6 (>= {needed})")), "{}", said(&refused));
            assert!(version.status != 0 && said(&version).contains("GLIBC_"), "{}", said(&version));
        }
        _ => {
            assert!(version.text().ends_with(env!("CARGO_PKG_VERSION")), "{}", said(&version));
            let doctor = inside("cd / && mancer-e2e doctor");
            assert_eq!(doctor.status, 3, "{}", said(&doctor));
            assert!(doctor.text().contains("lxc-start") && doctor.text().contains("help: "), "{}", said(&doctor));
        }
    }
    let removed = inside("dpkg --remove mancer-e2e && test ! -e /usr/bin/mancer-e2e");
    assert_eq!(removed.status, 0, "{}", said(&removed));
    let down = xtask(&["down"]);
    assert_eq!(down.status, 0, "{}", said(&down));
}

/// A version as what it compares by.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().unwrap_or_else(|_| panic!("{version:?} is no version"))).collect()
}
