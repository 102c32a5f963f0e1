//! `docs/hosts.md`: the records below `docs/hosts/` as tables, and a test that the committed page equals the generated one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::record::{Case, Fault, FaultResult, HostRecord};

/// Command that writes `docs/hosts.md` anew from the records.
const COMMAND: &str = "E2E_WRITE_REFERENCE=1 cargo test -p xtask --lib selftest::guest::page";

/// Returns the text of `docs/hosts.md`.
fn document(records: &[HostRecord]) -> String {
    let mut text = format!(
        "# Hosts\n\n\
         Results of the engine's own tests on several hosts. `cargo xtask test host` makes a record, \
         `target/e2e/hosts/NAME.json`; the\n\
         records in `docs/hosts/` are committed, and this page is made from them: `{COMMAND}`.\n\n\
         ```sh\n\
         cargo xtask test host                  # User-Mode Linux: cgroup v2 and another kernel, as an ordinary process\n\
         cargo xtask test host --kind qemu      # a Debian kernel with AppArmor and systemd, on an emulated processor\n\
         cargo xtask test host --kind incus     # a privileged and an unprivileged Incus instance on this machine\n\
         cargo xtask test host --kind here      # this machine itself\n\
         ```\n\n\
         A host that has no row here was not tried.\n\n## Hosts\n\n"
    );
    let rows = records.iter().map(|record| {
        let host = &record.host;
        vec![
            format!("`{}`", record.name),
            host.machine.clone(),
            host.distribution.clone(),
            host.kernel.clone(),
            host.cgroup.clone(),
            host.lxc.clone(),
            host.apparmor.clone(),
            host.init.clone(),
            record.date.clone(),
        ]
    });
    table(
        &mut text,
        &["record", "machine", "distribution", "kernel", "cgroup", "LXC", "AppArmor", "init", "tested"],
        rows,
    );
    text.push_str(
        "\n## Results\n\n\
         Doctor: checks that passed, warned and failed. Labs and systemd: cases that passed, on machines of busybox and of \
         systemd. Kills:\nmoments at which engine, guard or both were killed, and how many of them left something on the \
         host. Faults: those whose effect and\nrecovery were verified, those that the host cannot do, those that failed, and \
         those not tried.\n\n",
    );
    let rows = records.iter().map(|record| {
        let [works, not_applicable, failed, not_tried] = record.fault_counts();
        vec![
            format!("`{}`", record.name),
            record.doctor.as_ref().map_or_else(not_tried_word, |doctor| {
                format!("{} / {} / {}", doctor.ok, doctor.warnings.len(), doctor.failures.len())
            }),
            cases(&record.cases, false),
            cases(&record.cases, true),
            record.kills.as_ref().map_or_else(not_tried_word, |kills| {
                let bad = kills.rounds.iter().filter(|kill| !kill.left.is_empty()).count();
                format!("{}, {bad} left something", kills.rounds.len())
            }),
            format!("{works} / {not_applicable} / {failed} / {not_tried}"),
        ]
    });
    table(&mut text, &["record", "doctor", "labs", "systemd", "kills", "faults"], rows);
    problems(&mut text, records);
    faults(&mut text, records);
    text
}

fn not_tried_word() -> String {
    "not tried".to_owned()
}

fn cases(cases: &[Case], is_systemd: bool) -> String {
    let of_kind: Vec<&Case> = cases.iter().filter(|case| case.is_systemd == is_systemd).collect();
    if of_kind.is_empty() {
        return not_tried_word();
    }
    format!("{} of {}", of_kind.iter().filter(|case| case.passed).count(), of_kind.len())
}

/// Adds the problems of all records except problems of faults, which have a table of their own.
fn problems(text: &mut String, records: &[HostRecord]) {
    text.push_str("\n## Doctor's warnings, and cases that failed\n\n");
    let mut is_empty = true;
    for record in records {
        let doctor = record.doctor.iter();
        let mut lines: Vec<String> = Vec::new();
        for doctor in doctor {
            let all = doctor
                .failures
                .iter()
                .map(|it| ("failure", it))
                .chain(doctor.warnings.iter().map(|it| ("warning", it)));
            lines.extend(all.map(|(word, it)| format!("{word} of `{}`: {}", it.check, inline(&it.seen))));
        }
        let failed = record.cases.iter().filter(|case| !case.passed);
        lines.extend(
            failed.map(|case| format!("case `{}`: {}", case.case, inline(&case.reason.clone().unwrap_or_default()))),
        );
        for line in lines {
            is_empty = false;
            let _ = writeln!(text, "- `{}`: {}", record.name, line);
        }
    }
    if is_empty {
        text.push_str("None.\n");
    }
}

/// Adds the table of faults by hosts; the numbers in it refer to reasons below the table.
fn faults(text: &mut String, records: &[HostRecord]) {
    let mut names: Vec<&str> = Vec::new();
    for fault in records.iter().flat_map(|record| &record.faults) {
        if !names.contains(&fault.fault.as_str()) {
            names.push(&fault.fault);
        }
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut cell = |fault: Option<&Fault>| {
        let Some(fault) = fault else { return not_tried_word() };
        let word = match fault.result {
            FaultResult::Works => return "yes".to_owned(),
            FaultResult::NotApplicable => "no",
            FaultResult::Failed => "**failed**",
            FaultResult::NotTried => "not tried",
        };
        let reason = without_own_name(fault);
        let number = *numbers.entry(reason.clone()).or_insert_with(|| {
            reasons.push(reason);
            reasons.len()
        });
        format!("{word} ({number})")
    };
    let rows: Vec<Vec<String>> = names
        .iter()
        .map(|name| {
            let of = |record: &HostRecord| cell(record.faults.iter().find(|fault| fault.fault == *name));
            std::iter::once(format!("`{name}`")).chain(records.iter().map(of)).collect()
        })
        .collect();
    text.push_str(
        "\n## Faults\n\n\
         `yes`: the effect and the recovery were verified. A number leads to the reason below the table.\n\n",
    );
    let columns: Vec<String> =
        std::iter::once("fault".to_owned()).chain(records.iter().map(|record| format!("`{}`", record.name))).collect();
    table(text, &columns.iter().map(String::as_str).collect::<Vec<_>>(), rows.into_iter());
    text.push('\n');
    for (index, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", index + 1, inline(reason));
    }
}

/// Returns the reason of a fault's result without the fault's own name in front, so that faults with the same reason share a number.
fn without_own_name(fault: &Fault) -> String {
    let reason = fault.reason.clone().unwrap_or_default();
    reason.strip_prefix(&format!("{}: ", fault.fault)).map_or(reason.clone(), str::to_owned)
}

/// Formats another program's text as one line of Markdown.
fn inline(text: &str) -> String {
    let text: String = text.chars().filter(|character| !character.is_control()).collect();
    text.replace('|', "\\|").replace('<', "\\<").replace('*', "\\*").replace('_', "\\_")
}

fn table(text: &mut String, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::host::Host;
    use super::super::record::{Doctor, Kill, Kills, Problem, Victim};
    use super::*;

    fn docs() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
    }

    /// Reads the committed records, in the order of their file names.
    fn committed() -> Vec<HostRecord> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(docs().join("hosts")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap();
            let record = HostRecord::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(
                path.file_stem().unwrap().to_str(),
                Some(record.name.as_str()),
                "a record bears its file's name"
            );
            assert_eq!(record.json().unwrap(), text, "{}: it is not as this engine writes it", path.display());
            record
        };
        paths.into_iter().map(read).collect()
    }

    #[test]
    fn the_page_is_what_the_committed_records_say() {
        let records = committed();
        assert!(!records.is_empty(), "docs/hosts has no record");
        let (path, expected) = (docs().join("hosts.md"), document(&records));
        if std::env::var_os("E2E_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, expected).unwrap();
            return;
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == expected, "docs/hosts.md is not what docs/hosts/*.json say: {COMMAND}");
    }

    #[test]
    fn every_result_has_its_place_and_what_was_not_tried_says_so() {
        let fault = |name: &str, result, reason: &str| Fault {
            fault: name.to_owned(),
            result,
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            inject_ms: None,
            heal_ms: None,
        };
        let case = Case {
            case: "a/b:c".to_owned(),
            is_systemd: false,
            passed: false,
            reason: Some("no | lab".to_owned()),
            duration_s: 1.0,
        };
        let warning = Problem { check: "psi".to_owned(), seen: "no <pressure>".to_owned() };
        let kill = Kill { victim: Victim::Both, after_ms: 1, left: vec!["x".to_owned()] };
        let one = HostRecord {
            doctor: Some(Doctor { ok: 3, warnings: vec![warning], failures: Vec::new() }),
            cases: vec![case],
            faults: vec![
                fault("net.loss", FaultResult::Works, ""),
                fault("dns.drop", FaultResult::NotApplicable, "dns.drop: no nft"),
                fault("dns.spoof", FaultResult::NotApplicable, "dns.spoof: no nft"),
                fault("node.kill", FaultResult::Failed, "busy"),
            ],
            kills: Some(Kills { rounds: vec![kill], next_run_passed: true }),
            ..HostRecord::new("one", Host::default())
        };
        let other = HostRecord::new("other", Host::default());
        let text = document(&[one, other]);
        for expected in [
            "| `one` | 3 / 1 / 0 | 0 of 1 | not tried | 1, 1 left something | 1 / 2 / 1 / 0 |",
            "| `other` | not tried | not tried | not tried | not tried | 0 / 0 / 0 / 0 |",
            "- `one`: warning of `psi`: no \\<pressure>",
            "- `one`: case `a/b:c`: no \\| lab",
            "| `net.loss` | yes | not tried |",
            "| `dns.drop` | no (1) | not tried |",
            "| `dns.spoof` | no (1) | not tried |",
            "| `node.kill` | **failed** (2) | not tried |",
            "1. no nft\n2. busy\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}
