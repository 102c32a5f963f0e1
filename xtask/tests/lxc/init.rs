//! `init` of an installed engine: the project that it makes passes on real machines as it is, with faults too, without Cargo
//! and far from any checkout. Its layers lie in a store of the test's own, which goes with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use xtask::host::exec::shell::Command;

use super::common::{Host, events, record, release, said, slot, unpack};

/// Deadline for the first tree of a Debian and two layers on it, whose packages may have to be downloaded.
const DEADLINE: Duration = Duration::from_secs(600);

struct Fresh {
    folder: tempfile::TempDir,
    store: tempfile::TempDir,
    engine: PathBuf,
    _unpacked: tempfile::TempDir,
    /// Last, so that it looks at the host when the folders are gone.
    _host: Host,
}

impl Fresh {
    fn new() -> Self {
        let host = Host::take();
        let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (unpacked, engine) = unpack(&release().0);
        Self { folder, store, engine, _unpacked: unpacked, _host: host }
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    fn engine(&self, args: &[&str]) -> (i32, String) {
        let command = Command::new(&self.engine).args(args).dir(self.folder.path()).deadline(DEADLINE);
        let command = command.env("E2E_STATE_DIR", self.store.path()).env("CARGO", "/no/such/cargo");
        let output = command.output().unwrap();
        (output.status, said(&output))
    }

    fn e2e(&self, args: &[&str]) -> String {
        let (status, text) = self.engine(&[&["--root", "shop", "e2e", "--slot", slot()], args].concat());
        assert_eq!(status, 0, "{text}");
        text
    }
}

#[test]
fn a_fresh_project_passes_with_and_without_faults() {
    let fresh = Fresh::new();
    let (status, text) = fresh.engine(&["init", "shop", "--name", "e2e-selftest"]);
    assert_eq!(status, 0, "{text}");
    let run = format!("mancer-e2e --root {} e2e", fresh.project().display());
    for part in ["e2e-selftest in ", "containers/web/template.toml", "scenarios/service/visits/main.py", &run] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (status, text) = fresh.engine(&["--root", "shop", "image", "build"]);
    assert_eq!(status, 0, "{text}");
    let lock: Value = serde_json::from_slice(&fs::read(fresh.project().join("containers/lock.json")).unwrap()).unwrap();
    assert_eq!(lock["templates"].as_object().unwrap().keys().collect::<Vec<_>>(), ["base", "cache", "web"]);

    fresh.e2e(&[]);
    let passed = record(&fresh.project());
    assert_eq!((&passed["counts"]["passed"], &passed["counts"]["failed"]), (&1.into(), &0.into()));
    let events = events(&fresh.project());
    let unexpected = events.iter().filter(|event| event["event"] == "finding" && event["expected"] == false);
    assert_eq!(unexpected.count(), 0, "{events:#?}");
    assert!(events.iter().any(|event| event.to_string().contains("cache is cut off")), "its steps are in the record");

    fresh.e2e(&["--chaos", "--seed", "1"]);
    assert_eq!(record(&fresh.project())["counts"]["passed"], 1);

    let (status, text) = fresh.engine(&["--root", "shop", "--format", "json", "mutants", "--slot", slot()]);
    assert_eq!(status, 0, "its mutant is killed: {text}");
    assert!(text.contains(r#""verdict": "killed""#) && text.contains("[2, 4, 6]"), "{text}");

    let (status, text) = fresh.engine(&["init", "shop"]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("is not empty, and nothing is overwritten"), "{text}");
}
