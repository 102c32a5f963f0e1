//! Events of a fictitious run for tests, with fixed times.

use e2e_contract::{Check, Defect, DefectOutcome, Fault, Level};

use crate::record::{
    Attempt, CaseId, CaseResult, Cause, Counts, Event, FORMAT_VERSION, FaultCounts, FaultObserved, Outcome, RunRecord,
    Stamped, Verdict,
};

pub fn case(name: &str) -> CaseId {
    CaseId(name.to_owned())
}

pub fn at(seconds: f64, event: Event) -> Stamped {
    Stamped { at_ms: seconds * 1e3, event }
}

pub fn run_started(cases: u32) -> Event {
    Event::RunStarted {
        format_version: FORMAT_VERSION,
        run_id: "20260101-000000-1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        cases,
        shuffle_seed: None,
        user: "user".into(),
        patience: None,
        setup: Box::default(),
    }
}

pub fn fault(name: &str, number: u64, container: &str, description: Fault) -> FaultObserved {
    FaultObserved {
        case: case(name),
        fault: number,
        scheduled: None,
        container: container.into(),
        description,
        before: None,
        evidence: "a packet was lost".into(),
        lasted: None,
        planned_ms: None,
        late_ms: None,
        duration_ms: 5.0,
    }
}

pub fn check(name: &str) -> Event {
    let check = Check {
        passed: false,
        condition: "done == accepted".into(),
        values: "done = 119\naccepted = 120".into(),
        message: Some("no accepted job is lost".into()),
        file: "scenarios/error_handling/chaos_gauntlet/main.rs".into(),
        line: 88,
    };
    Event::Check { case: case(name), check }
}

pub fn ended(name: &str, outcome: Outcome, seconds: f64) -> Event {
    Event::CaseEnded {
        case: case(name),
        attempt: 1,
        outcome,
        duration_ms: seconds * 1e3,
        last_words: vec!["containers/db/console.log:".into(), "  out of memory".into()],
        folder: name.replace(':', "/"),
        faults: None,
    }
}

pub const GAUNTLET: &str = "error_handling/chaos_gauntlet:planted";
pub const INGESTION: &str = "data_pipeline/data_ingestion:small";

/// Returns the events up to a moment at which a case is under faults: two of its machines are ready, one is frozen.
pub fn amid_faults() -> Vec<Stamped> {
    let container = |name: &str| (case(GAUNTLET), name.to_owned());
    let started = |name: &str| {
        let (case, container) = container(name);
        Event::ContainerStarted { case, container }
    };
    let ready = |name: &str| {
        let (case, container) = container(name);
        Event::ContainerReady { case, container, after_ms: 300.0 }
    };
    vec![
        at(0.0, run_started(3)),
        at(0.1, Event::CaseStarted { case: case(INGESTION), attempt: 1, folder: None }),
        at(2.1, ended(INGESTION, Outcome::Passed, 2.0)),
        at(2.1, Event::CaseJudged { case: case(INGESTION), verdict: Verdict::Passed }),
        at(2.2, Event::CaseStarted { case: case(GAUNTLET), attempt: 1, folder: None }),
        at(2.3, started("app")),
        at(2.3, started("db")),
        at(2.3, started("worker")),
        at(2.6, ready("app")),
        at(2.7, ready("db")),
        at(3.0, ready("worker")),
        at(3.0, Event::LabReady { case: case(GAUNTLET), after_ms: 800.0 }),
        at(3.1, Event::ScenarioStarted { case: case(GAUNTLET), pid: 1, user: "user".into() }),
        at(3.2, Event::StepStarted { case: case(GAUNTLET), name: "jobs go through".into(), depth: 0 }),
        at(
            4.0,
            Event::ChaosBegan {
                case: case(GAUNTLET),
                profile: "default".into(),
                seed: Some(7),
                faults: 8,
                length_ms: 10_000,
            },
        ),
        at(5.0, Event::FaultInjected(fault(GAUNTLET, 1, "db", Fault::NodeFreeze))),
        at(
            6.0,
            Event::FaultInjected(fault(
                GAUNTLET,
                2,
                "worker",
                Fault::NetDelay { delay_ms: 50, jitter_ms: 0, reorder_percent: 0 },
            )),
        ),
        at(8.0, check(GAUNTLET)),
    ]
}

/// Returns the events after [`amid_faults`], up to the run's end.
pub fn ending() -> Vec<Stamped> {
    let defect = Defect {
        defect: "mancer-0.1.4/df-table".into(),
        failing_with: "None".into(),
        outcome: DefectOutcome::Known,
        failure: Some("df: None".into()),
        observed: None,
        file: "main.rs".into(),
        line: 3,
    };
    let finding = Event::Finding {
        case: case(GAUNTLET),
        kind: "unit_restarted".into(),
        container: Some("worker".into()),
        about: "worker.service".into(),
        detail: "3 times".into(),
        happened_at_ms: None,
        expected: false,
    };
    vec![
        at(
            8.5,
            Event::Log {
                case: case(GAUNTLET),
                level: Level::Error,
                message: "accepted job 2:1 is not in the table".into(),
            },
        ),
        at(9.0, Event::Defect { case: case(GAUNTLET), defect }),
        at(12.0, finding),
        at(13.0, ended(GAUNTLET, Outcome::Failed { cause: cause() }, 10.8)),
        at(13.0, Event::CaseJudged { case: case(GAUNTLET), verdict: Verdict::Failed }),
    ]
}

fn cause() -> Cause {
    Cause::Check { message: "done == accepted [done = 119]".into() }
}

/// Returns the record of the fictitious run.
pub fn record() -> RunRecord {
    let attempt = |outcome: Outcome, seconds: f64, name: &str, faults: Option<FaultCounts>| Attempt {
        outcome,
        duration_ms: seconds * 1e3,
        folder: name.replace(':', "/"),
        faults,
    };
    let faults = FaultCounts { planned: 8, bit: 2, refused: 1, lateness: None };
    let cases = vec![
        CaseResult {
            case: case(INGESTION),
            verdict: Verdict::Passed,
            attempts: vec![attempt(Outcome::Passed, 2.0, INGESTION, None)],
        },
        CaseResult {
            case: case(GAUNTLET),
            verdict: Verdict::Failed,
            attempts: vec![attempt(Outcome::Failed { cause: cause() }, 10.8, GAUNTLET, Some(faults))],
        },
    ];
    RunRecord {
        format_version: FORMAT_VERSION,
        run_id: "20260101-000000-1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        duration_ms: 13_000.0,
        engine_version: "0.1.0".into(),
        user: "user".into(),
        shuffle_seed: None,
        chaos_seed: Some(7),
        layers: std::collections::BTreeMap::new(),
        privileged: Vec::new(),
        allowed: [].into(),
        counts: Counts::of(&cases),
        cases,
        compared_with: None,
        comparisons: Vec::new(),
        cleanup_failures: Vec::new(),
        exit_code: 1,
        command: ["e2e", "--chaos", "--slot", "3"].map(str::to_owned).to_vec(),
        machine: None,
        patience: None,
        packages: std::collections::BTreeMap::new(),
        part: None,
        ..RunRecord::default()
    }
}
