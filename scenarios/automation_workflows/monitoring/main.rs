//! Scenario of a monitor: a program on app, written with Mancer (`fixtures/monitor.py`), watches three machines. Then a service stops, a
//! volume fills and a load rises, all at once: each must raise its own alert in time, and no other alert may be raised.
//!
//! This program starts the monitor, injects the faults, and looks from outside: at the monitor's tables with psql on db, at its status
//! page by HTTP from worker, and at the machines themselves. With `--chaos`, the monitor goes on during faults afterwards: only the
//! faults may raise alerts, and all alerts are cleared when the faults are over.

mod defects;
mod observe;
mod watched;

use std::time::{Duration, SystemTime};

use common::mancer;
use common::measured::Operations;
use common::threads::together;
use defects::DEFECTS;
use e2e::{Access, Container, Fault, File, InjectedFault, Lab, Picture, check};
use observe::{Alert, Page, alerts, page, status};

const NONE: &[&str] = &[];
/// Number of the monitor's rounds that the scenario waits for while nothing is wrong. A round takes 0.4 s on an idle host.
const QUIET_ROUNDS: u64 = 5;
/// Deadline from a fault until its alert is in the database, and from the fault's end until the alert is cleared. Load takes longest,
/// because it must last five rounds: 2 s on an idle host.
const DEADLINE: Duration = Duration::from_secs(15);
/// Deadline of the start: Python, Mancer and three SSH connections take 1.5 s on an idle host; then come the quiet rounds.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of the stretch with faults, longer than the stretch.
const CHAOS_DEADLINE: Duration = Duration::from_secs(60);

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
    lab.step("set the monitor up", || set_up(lab, &app))?;

    // What the probes have to compute is over before the monitor's fifth round, so it is no load to it.
    together(
        || probes(lab),
        || {
            start(lab, &app)?;
            lab.step("a quiet stretch", || quiet(lab, &app))
        },
    )?;

    let (faults, standing) = lab.step("three things go wrong", || go_wrong(lab, &app))?;
    lab.step("the page shows them", || {
        lab.artifact("status-alarm.html", shown(&worker, &standing)?.html)?;
        picture(lab, "status-alarm")
    })?;

    lab.step("they are mended", || mended(lab, &app, &db, faults))?;
    lab.step("the page shows that", || shown(&worker, &[]).map(drop))?;
    lab.step("the record is whole", || {
        check!(observe::gaps(&db)? == NONE, "every round has samples of all three machines");
        check!(alerts(&db)?.len() == standing.len(), "in the whole time no other alert was raised");
        Ok(())
    })?;
    lab.step("tolerate faults", || tolerate_faults(lab, &app, &db))?;
    app.exec(["systemctl", "stop", "monitor.service"])?.success()?;

    measure(lab, &Operations::start(lab, &app, "/srv/monitor", &["/srv/monitor/watch.json"])?)
}

/// Measures how Mancer looks at db and worker over SSH, and reads the record of the first rounds, which stays as it is.
fn measure(lab: &Lab, operations: &Operations<'_>) -> e2e::Result {
    let well = watched::well(lab, &["db", "worker"])?;
    lab.measure_n("look_at_machines", 3, || {
        check!(operations.perform::<Vec<String>>("look")? == well, "every service and volume of db and worker is well");
        Ok(())
    })?;
    let expected = watched::quiet_record(lab, QUIET_ROUNDS)?;
    lab.measure_n("read_record", 3, || {
        let record = observe::record(operations, QUIET_ROUNDS)?;
        check!(record == expected, "all that was watched, in each round, and as it was");
        Ok(())
    })
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/monitor/probes.py", DEFECTS)
}

/// Checks the monitor's page and alerts while `--chaos` injects faults.
fn tolerate_faults(lab: &Lab, app: &Container, db: &Container) -> e2e::Result {
    let began = SystemTime::now();
    let raised = || Ok::<_, e2e::Error>(alerts(db)?.into_iter().filter(|alert| alert.raised_at >= began).collect());
    let unexplained = || {
        let raised: Vec<Alert> = raised()?;
        Ok::<Vec<_>, e2e::Error>(raised.iter().filter(|alert| !alert.is_of_a_fault()).map(Alert::line).collect())
    };
    let played = lab.chaos(|chaos| {
        let mut last = 0;
        chaos.always("the page goes on from round to round", move || {
            let before = std::mem::replace(&mut last, status(app)?.round);
            Ok(before <= last)
        });
        chaos.always("no alert is raised for what no fault touches", || Ok(unexplained()?.is_empty()));
        if chaos.is_playing() {
            lab.eventually("all faults were played", CHAOS_DEADLINE, || Ok(!chaos.lasts()))?;
        }
        Ok(chaos.is_playing())
    })?;
    if played {
        let settled = status(app)?.round;
        lab.eventually("the monitor watches on, and every alert is cleared", DEADLINE, || {
            let status = status(app)?;
            Ok(status.round > settled && status.alarms().is_empty())
        })?;
        let raised: Vec<Alert> = raised()?;
        lab.log(format!("alerts amid faults: {:?}", raised.iter().map(Alert::line).collect::<Vec<_>>()));
        check!(unexplained()? == NONE, "no alert was raised for what no fault touched");
    }
    Ok(())
}

/// Installs the monitor's files on app, its page in nginx, and its tables.
fn set_up(lab: &Lab, app: &Container) -> e2e::Result {
    app.exec(["install", "-d", "-o", "mancer", "-g", "mancer", "/srv/monitor/page"])?.success()?;
    for name in ["monitor.py", "page.py", "watch.json", "schema.sql"] {
        app.put(lab.fixture(name), format!("/srv/monitor/{name}"))?;
    }
    app.put(lab.fixture("nginx.conf"), "/etc/nginx/sites-available/default")?;
    app.exec(["systemctl", "reload", "nginx.service"])?.success()?;
    let tables = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", "db", "-f", "/srv/monitor/schema.sql"];
    app.command(tables).user("mancer").run()?.success()?;
    Ok(())
}

/// Starts the monitor and waits for its first page.
fn start(lab: &Lab, app: &Container) -> e2e::Result {
    lab.measure("monitor_start", || {
        let arguments = ["/srv/monitor/monitor.py", "/srv/monitor/watch.json", "/srv/monitor/page"];
        mancer::start(app, "monitor", &arguments)?;
        app.wait_for_within(File("/srv/monitor/page/status.json"), START_DEADLINE)?;
        Ok(())
    })
}

/// Waits for some rounds without a problem, in which all subjects are sampled correctly and no alert is raised.
fn quiet(lab: &Lab, app: &Container) -> e2e::Result {
    let (db, worker) = (&lab.container("db")?, &lab.container("worker")?);
    let rounds =
        || lab.eventually("the quiet rounds are over", START_DEADLINE, || Ok(status(app)?.round >= QUIET_ROUNDS));
    together(|| picture(lab, "status-calm"), rounds)?;
    let raised: Vec<_> = alerts(db)?.iter().map(Alert::line).collect();
    check!(raised == NONE, "there is no alert while nothing is wrong");
    check!(watched::differences(lab, db)? == NONE, "the samples say what the machines themselves say");
    shown(worker, &[]).map(drop)
}

/// Stops a service, fills a volume and starts a busy process; each must raise its alert in time. Returns the faults and the alerts.
fn go_wrong(lab: &Lab, app: &Container) -> e2e::Result<([InjectedFault; 2], Vec<Alert>)> {
    let (db, worker) = (&lab.container("db")?, &lab.container("worker")?);
    let began = SystemTime::now();
    let raised = |alert: &'static str| {
        lab.eventually(&format!("an alert is raised: {alert}..."), DEADLINE, || {
            Ok(status(app)?.alarms().iter().any(|line| line.starts_with(alert)))
        })
    };
    let break_worker = |operation, fault, alert| {
        lab.measure(operation, || {
            let fault = worker.inject(fault)?;
            raised(alert)?;
            Ok(fault)
        })
    };
    let stop = Fault::ServiceStop { unit: "cron.service".into() };
    let fill = Fault::DiskFull { path: "/srv/data".into(), free_bytes: 0 };
    let stop = || break_worker("detect_stopped_service", stop, "worker cron.service ");
    let fill = || break_worker("detect_full_volume", fill, "worker /srv/data ");
    let load = || {
        lab.measure("detect_load", || {
            db.write_with("/srv/crunch", "#!/bin/sh\nwhile :; do :; done\n", Access::mode(0o755))?;
            db.exec(["systemd-run", "--quiet", "--unit=crunch", "/srv/crunch"])?.success()?;
            raised("db crunch ")
        })
    };
    let ((stopped, filled), _) = together(|| together(stop, fill), load)?;

    let process = db.exec(["systemctl", "show", "-P", "MainPID", "crunch.service"])?.success()?;
    let busy = format!("db crunch is busy as process {}", process.stdout_text()?.trim());
    let standing = alerts(db)?;
    let lines: Vec<_> = standing.iter().map(Alert::line).collect();
    let expected = [&busy, "worker cron.service is not running", "worker /srv/data is at least 90 % full"];
    check!(lines == expected, "one alert for each, with its machine and its cause, and no other");
    for alert in &standing {
        check!(
            alert.raised_at >= began && alert.cleared_at.is_none(),
            "raised after it began, and standing: {alert:?}"
        );
    }
    Ok(([stopped, filled], standing))
}

/// Checks that both forms of the page show exactly these alerts; returns the page.
fn shown(worker: &Container, standing: &[Alert]) -> e2e::Result<Page> {
    let expected: Vec<_> = standing.iter().map(Alert::line).collect();
    let state = if standing.is_empty() { "ok" } else { "alarm" };
    let page = page(worker)?;
    let Page { status, html_state, html_alarms, .. } = &page;
    check!(status.alarms() == expected && status.state == state, "the page for programs: {status:?}");
    check!(*html_alarms == expected && html_state == state, "the page for people: {html_state}: {html_alarms:?}");
    Ok(page)
}

/// Ends all three problems; each alert must be cleared in time.
fn mended(lab: &Lab, app: &Container, db: &Container, faults: [InjectedFault; 2]) -> e2e::Result {
    lab.measure("all_clear", || {
        for fault in faults {
            fault.heal()?;
        }
        db.exec(["systemctl", "stop", "crunch.service"])?.success()?;
        lab.eventually("every alert is cleared", DEADLINE, || Ok(status(app)?.alarms().is_empty()))
    })?;
    let standing: Vec<_> = alerts(db)?.into_iter().filter(|alert| alert.cleared_at.is_none()).collect();
    check!(standing.is_empty(), "every alert is cleared in the database: {standing:?}");
    Ok(())
}

/// Takes a screenshot of the status page. Where the host has no browser, the record says so.
fn picture(lab: &Lab, name: &str) -> e2e::Result {
    if let Picture::Taken { size_bytes, .. } = lab.screenshot(name, "http://app/status")? {
        check!(size_bytes > 5_000, "the picture shows something: a blank one is smaller");
    }
    Ok(())
}
