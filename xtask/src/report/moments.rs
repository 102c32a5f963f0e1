//! Tests that all reports can be made of incomplete and damaged records, and that making them takes bounded time and memory.

use std::path::Path;

use super::annotations::{self, Checkout};
use super::{html, junit, summary, trace};
use crate::record::{PastRun, Verdict, synthetic, work};

/// Returns the name and text of every report of the run that is recorded in a folder.
fn reports(folder: &Path) -> Vec<(&'static str, String)> {
    let run = PastRun::read(folder.to_owned()).unwrap();
    let events = run.events().unwrap();
    let here = || folder.to_owned();
    let checkout = Checkout { root: here(), project: here(), scenarios: here() };
    vec![
        ("page", html::page(&run, &events).unwrap()),
        ("junit", junit::make(&run, &events).unwrap()),
        ("summary", summary::make(&run, &events).unwrap()),
        ("trace", trace::make(&run, &events).unwrap()),
        ("annotations", annotations::make(&run, &events, &checkout).join("\n")),
    ]
}

#[test]
fn a_record_is_valid_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("20260101-000000-1");
    synthetic::write(&top, 3);
    std::fs::remove_file(top.join("run.json")).unwrap();
    let whole = std::fs::read(top.join("events.jsonl")).unwrap();
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    // After each line, and somewhere inside of some.
    let cuts: Vec<usize> = std::iter::once(0).chain(ends).chain((1..whole.len()).step_by(1511)).collect();
    for cut in cuts {
        std::fs::write(top.join("events.jsonl"), &whole[..cut]).unwrap();
        let record = PastRun::read(top.clone()).unwrap().record;
        assert_eq!(record.unfinished.is_none(), cut == whole.len(), "{cut}");
        let begun = record.cases.iter().filter(|case| case.verdict != Verdict::Skipped).count();
        if let Some(end) = &record.unfinished {
            assert_eq!(end.not_begun as usize, record.cases.len() - begun, "{cut}");
        }
        for (name, text) in reports(&top) {
            let is_said = match name {
                "page" => text.contains("The run was killed") && text.contains("it was killed: its events end at"),
                "summary" => text.contains("Incomplete: `it was killed"),
                "trace" => text.contains("\"incomplete\""),
                _ => true,
            };
            assert!(is_said || record.unfinished.is_none(), "{name} {cut}: {text}");
        }
    }
}

#[test]
fn a_damaged_file_costs_its_own_part_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("20260101-000000-1");
    let damage: [(&str, &[u8], &[&str]); 8] = [
        ("many/case/n0/performance.json", b"{\0", &["the curves of the machines are not here: ", "performance.json"]),
        ("many/case/n0/chaos.json", b"{}", &["What was planned is not here: chaos.json is damaged"]),
        ("many/case/n0/history.jsonl", b"\0\0\n", &["1 line of history.jsonl cannot be read"]),
        ("many/case/n0/scenario.log", b"\xff\xff\0", &["many/case:n0"]),
        ("many/case/n0/containers/app/screen.txt", b"\x1b[2J\xff", &["many/case:n0"]),
        ("events.jsonl", b"", &["events.jsonl is empty", "There are no events of this attempt"]),
        ("events.jsonl", b"\xff\n{\"at_ms\":\n", &["2 lines of events.jsonl cannot be read"]),
        (
            "run.json",
            b"{\"format_version\": 1, \"run_id\"",
            &["run.json is damaged, and this record was made from the events instead"],
        ),
    ];
    for (file, content, expected) in damage {
        synthetic::write(&top, 2);
        std::fs::write(top.join(file), content).unwrap();
        let page = &reports(&top)[0].1;
        assert!(page.contains("2 of 2 cases passed") || page.contains("The run"), "{file}");
        assert!(page.contains("many/case:n1") || page.contains("many&#x2f;case:n1"), "{file}: the other case is there");
        for part in expected {
            let part = part.replace('/', "&#x2f;");
            assert!(page.contains(&part), "{file}: {part}");
        }
    }
    // A folder where a file belongs, and a link.
    synthetic::write(&top, 2);
    for (file, told) in [("performance.json", "it is a folder"), ("history.jsonl", "it is a folder")] {
        let path = top.join("many/case/n0").join(file);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(reports(&top)[0].1.contains(told), "{file}");
    }
}

#[test]
fn twice_the_cases_are_twice_the_work() {
    let work_of = |cases: u32| {
        let folder = tempfile::tempdir().unwrap();
        let run = synthetic::write(folder.path(), cases);
        let pages = work::of(|| drop(reports(folder.path())));
        let logs = work::of(|| {
            run.each_attempt(|told| {
                let folder = told.folder.clone().unwrap();
                assert_eq!(run.log_lines(&folder, told.events()).len(), 4);
                Ok(())
            })
            .map(drop)
            .unwrap();
        });
        let folds = work::of(|| drop(PastRun::folded(folder.path()).unwrap()));
        [pages, logs, folds]
    };
    let (one, two, four) = (work_of(10), work_of(20), work_of(40));
    for place in 0..3 {
        let (first, second) = (two[place] - one[place], four[place] - two[place]);
        assert!(first > 0 && second <= 2 * first, "{one:?} {two:?} {four:?}");
    }
}
