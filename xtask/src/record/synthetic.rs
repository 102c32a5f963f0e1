//! Record of any number of cases for tests, in a folder: events, `run.json` and the files of each attempt. Each case has the events of a
//! usual case; one in five fails.

use std::path::Path;

use e2e_contract::{Check, Fault, Level};

use super::{
    CaseId, Cause, Counts, Event, FORMAT_VERSION, FaultCounts, FaultObserved, Fold, Machine, Outcome, PastRun,
    Performance, RECORD_FILE, RunSetup, Sample, Sampling, Stamped, Verdict,
};

/// Writes a record of this many cases to a folder, and reads it.
pub fn write(folder: &Path, cases: u32) -> PastRun {
    std::fs::create_dir_all(folder).unwrap();
    let (mut fold, mut lines) = (Fold::default(), String::new());
    for stamped in events(cases) {
        fold.apply(&stamped);
        lines.push_str(&(serde_json::to_string(&stamped).unwrap() + "\n"));
    }
    std::fs::write(folder.join("events.jsonl"), lines).unwrap();
    std::fs::write(folder.join(RECORD_FILE), serde_json::to_vec_pretty(&fold.record(false)).unwrap()).unwrap();
    for number in 0..cases {
        files(&folder.join(attempt_folder(number)), f64::from(number) * 1000.0);
    }
    PastRun::read(folder.to_owned()).unwrap()
}

fn case(number: u32) -> CaseId {
    CaseId(format!("many/case:n{number}"))
}

/// Returns the folder of a case's attempt below the run's.
pub fn attempt_folder(number: u32) -> String {
    format!("many/case/n{number}")
}

fn machine() -> Machine {
    Machine {
        cpu_model: "x".into(),
        cores: 2,
        memory_bytes: 1 << 30,
        kernel: "6.1".into(),
        lxc: "5.0".into(),
        storage: "ext4".into(),
        cgroup: "v2".into(),
    }
}

/// Makes all events of a run of this many cases.
pub fn events(cases: u32) -> Vec<Stamped> {
    let setup = RunSetup {
        engine_version: Some("0.1.0".into()),
        command: vec!["e2e".into()],
        chaos_seed: Some(7),
        plan: (0..cases).map(|number| case(number).0).collect(),
        ..RunSetup::default()
    };
    let mut events = vec![
        Stamped {
            at_ms: 0.0,
            event: Event::RunStarted {
                format_version: FORMAT_VERSION,
                run_id: "20260101-000000-1".into(),
                started_at: "2026-01-01T00:00:00.000Z".into(),
                cases,
                shuffle_seed: None,
                user: "user".into(),
                patience: None,
                setup: Box::new(setup),
            },
        },
        Stamped {
            at_ms: 1.0,
            event: Event::RunPrepared {
                layers: [("base".to_owned(), "0123".to_owned())].into(),
                packages: [("base".to_owned(), vec!["zlib=1".to_owned()])].into(),
                privileged: Vec::new(),
                allowed: [].into(),
                machine: Some(machine()),
                ids: None,
            },
        },
    ];
    let mut counts = Counts::default();
    for number in 0..cases {
        let failed = number % 5 == 4;
        *(if failed { &mut counts.failed } else { &mut counts.passed }) += 1;
        events.extend(of_case(number, failed));
    }
    let at_ms = f64::from(cases) * 1000.0;
    let event = Event::RunEnded {
        counts,
        duration_ms: at_ms,
        exit_code: counts.exit_code(),
        cleanup_failures: Vec::new(),
        error: None,
    };
    events.push(Stamped { at_ms, event });
    events
}

fn of_case(number: u32, failed: bool) -> Vec<Stamped> {
    let begun_ms = f64::from(number) * 1000.0;
    let (case, container, folder) = (case(number), || "app".to_owned(), attempt_folder(number));
    let named = || case.clone();
    let observed = FaultObserved {
        case: named(),
        fault: 1,
        scheduled: None,
        container: container(),
        description: Fault::NodeFreeze,
        before: None,
        evidence: "it stood still".into(),
        lasted: None,
        planned_ms: None,
        late_ms: None,
        duration_ms: 10.0,
    };
    let check = Check {
        passed: !failed,
        condition: "rows == 3".into(),
        values: "rows = 2".into(),
        message: None,
        file: "main.rs".into(),
        line: 7,
    };
    let cause = Cause::Check { message: "rows == 3 at main.rs:7".into() };
    let outcome = if failed { Outcome::Failed { cause } } else { Outcome::Passed };
    let verdict = if failed { Verdict::Failed } else { Verdict::Passed };
    let mut events = vec![
        Event::CaseStarted { case: named(), attempt: 1, folder: Some(folder.clone()) },
        Event::ContainerStarted { case: named(), container: container() },
        Event::ContainerReady { case: named(), container: container(), after_ms: 50.0 },
        Event::LabReady { case: named(), after_ms: 50.0 },
        Event::ScenarioStarted { case: named(), pid: 7, user: "user".into() },
        Event::StepStarted { case: named(), name: "rows".into(), depth: 0 },
    ];
    for status in 0..10 {
        let (container, command) = (container(), "psql".into());
        let location = Some("scenarios/shop/orders/main.py:12".to_owned());
        let (case, duration_ms) = (named(), 2.0);
        let (timed_out, not_kept_bytes) = (false, 0);
        events.push(Event::Exec { case, container, command, status, duration_ms, timed_out, location, not_kept_bytes });
    }
    events.extend([
        Event::FaultInjected(observed.clone()),
        Event::Check { case: named(), check },
        Event::FaultHealed(observed),
        Event::Log { case: named(), level: Level::Info, message: "done".into() },
        Event::StepEnded { case: named(), name: "rows".into(), depth: 0, passed: true, duration_ms: 100.0 },
        Event::LabDown { case: named(), duration_ms: 20.0 },
        Event::CaseEnded {
            case: named(),
            attempt: 1,
            outcome,
            duration_ms: 900.0,
            last_words: Vec::new(),
            folder,
            faults: Some(FaultCounts { planned: 1, bit: 1, refused: 0, lateness: None }),
        },
        Event::CaseJudged { case, verdict },
    ]);
    let at = |place: usize| begun_ms + 10.0 + 30.0 * place as f64;
    events.into_iter().enumerate().map(|(place, event)| Stamped { at_ms: at(place), event }).collect()
}

fn files(folder: &Path, begun_ms: f64) {
    std::fs::create_dir_all(folder.join("containers/app")).unwrap();
    let second = begun_ms / 1000.0 + 0.5;
    let at = humantime::format_rfc3339_micros(
        std::time::UNIX_EPOCH + std::time::Duration::from_secs_f64(1_767_225_600.0 + second),
    );
    let journal = format!("{at} app x[1]: error: one\n{at} app x[1]: fine\n").replace('Z', "+0000");
    std::fs::write(folder.join("containers/app/journal.log"), journal).unwrap();
    std::fs::write(folder.join("scenario.log"), "hello\n").unwrap();
    std::fs::write(folder.join("scenario.log.times"), format!("0 {}\n", begun_ms + 300.0)).unwrap();
    let invoke = |phase: &str, at_ms: f64| {
        format!("{{\"at_ms\":{at_ms},\"process\":\"p\",\"operation\":\"put\",\"phase\":\"{phase}\",\"value\":1}}\n")
    };
    let history = invoke("invoke", begun_ms + 200.0) + &invoke("ok", begun_ms + 210.0);
    std::fs::write(folder.join("history.jsonl"), history).unwrap();
    let mut performance = Performance::new("many/case".into(), machine(), "class".into());
    let sample = Sample {
        repetition: 0,
        begun_ms: begun_ms + 100.0,
        wall_ms: 5.0,
        cpu_ms: 2.0,
        wait_ms: None,
        calibration: None,
        containers: std::collections::BTreeMap::new(),
        incomplete: Vec::new(),
    };
    performance.add("query", 1, None, Some(sample));
    let column = || vec![Some(0.0), Some(1e6)];
    performance.sampling = Some(Sampling {
        rate_hz: 2,
        thinned: 1,
        ticks: 2,
        own_cpu_ms: 0.1,
        duration_ms: 500.0,
        at_ms: vec![begun_ms + 100.0, begun_ms + 600.0],
        series: [("app".to_owned(), [("memory_bytes".to_owned(), column())].into())].into(),
        host: [("cpu_percent".to_owned(), column())].into(),
    });
    std::fs::write(folder.join("performance.json"), serde_json::to_vec(&performance).unwrap()).unwrap();
}
