//! Lab that a scenario runs in: its containers, its case, its steps and measured operations.

use std::cell::Cell;
use std::fmt::Display;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use e2e_contract::{
    Artifact, Better, Edge, Hello, Level, Log, MeasureBegin, MeasureEnd, Metric, PROTOCOL_VERSION, Step, Welcome,
};
use serde::de::DeserializeOwned;

use crate::bytes::outgoing;
use crate::connection::{Connection, shown};
use crate::patience::scaled;
use crate::{Container, Result, check};

/// Interval between two evaluations of a condition of [`Lab::eventually`].
const PAUSE: Duration = Duration::from_millis(20);

/// Lab of this case, made new for it. Any thread may use it.
///
/// ```no_run
/// # use e2e::{Lab, Result, check};
/// fn scenario(lab: &Lab) -> Result {
///     let names: Vec<String> = lab.containers().map(|machine| machine.name().to_owned()).collect();
///     lab.log(format!("{}:{} has {names:?}", lab.scenario(), lab.case()));
///     check!(names.len() == 2);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Lab {
    connection: Arc<Connection>,
    welcome: Welcome,
}

impl Lab {
    /// Joins the lab over a connected socket with `hello`; `on_lost` is called with the reason when the connection is lost.
    pub(crate) fn join(socket: UnixStream, on_lost: impl FnOnce(&str) + Send + 'static) -> Result<Self> {
        let connection =
            Arc::new(Connection::over(socket, on_lost).context("starting the thread that reads from the engine")?);
        let welcome = connection.call(&Hello { protocol: PROTOCOL_VERSION })?;
        Ok(Self { connection, welcome })
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Returns the name of this scenario, as `category/name`.
    #[must_use]
    pub fn scenario(&self) -> &str {
        &self.welcome.scenario
    }

    /// Returns the name of the case in `scenario.toml`; `default` where the scenario lists no cases.
    #[must_use]
    pub fn case(&self) -> &str {
        &self.welcome.case
    }

    /// Tells whether the engine asks for the known defects alone, in place of the scenario.
    pub(crate) fn is_for_defects_only(&self) -> bool {
        self.welcome.defects_only
    }

    #[cfg(test)]
    pub(crate) fn set_for_defects_only(&mut self, defects_only: bool) {
        self.welcome.defects_only = defects_only;
    }

    /// Returns a secret that the run was given: a variable or file of `[secrets]` in e2e.toml, or `--secret NAME`. Its value is masked in
    /// everything that is written of the run.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let token = lab.secret("API_TOKEN")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the run was not given the secret.
    pub fn secret(&self, name: &str) -> Result<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty()).with_context(|| {
            format!(
                "the secret {name} was not given to this run: set the environment variable {name}, and declare it in e2e.toml \
                 ([secrets] variables = [\"{name}\"]) or name it by --secret {name}"
            )
        })
    }

    /// Returns a parameter of the case in `scenario.toml`: `let rows: u64 = lab.param("rows")?`.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let rows: u64 = lab.param("rows")?; // rows = 20000 below the name of the case
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the case has no such parameter, or the parameter has another type.
    pub fn param<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let Welcome { scenario, case, params, .. } = &self.welcome;
        let value = params.get(name).ok_or_else(|| {
            let known = listed(params.keys());
            anyhow!(
                "case {case} of {scenario} has no parameter {name} (it has: {known}): write `{name} = ...` \
                 below its name in scenario.toml"
            )
        })?;
        T::deserialize(value).with_context(|| {
            format!("parameter {name} of case {case} of {scenario} has another type in scenario.toml: {value}")
        })
    }

    /// Returns a container by its name in `scenario.toml`.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let (app, db) = (lab.container("app")?, lab.container("db")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the scenario has no such container.
    pub fn container(&self, name: &str) -> Result<Container> {
        self.containers().find(|container| container.name() == name).ok_or_else(|| {
            let known = listed(self.welcome.containers.iter().map(|info| &info.name));
            anyhow!(
                "{} has no container {name} (it has: {known}): write `[containers.{name}]` in scenario.toml",
                self.scenario()
            )
        })
    }

    /// Returns all containers, in the order of `scenario.toml`.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// for machine in lab.containers() {
    ///     machine.sh("date")?.success()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn containers(&self) -> impl Iterator<Item = Container> {
        self.welcome.containers.iter().map(|info| Container::new(self.connection(), info.clone()))
    }

    /// Returns the path of a file in the scenario's `fixtures/` folder.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// lab.container("db")?.put(lab.fixture("rows.csv"), "/tmp/rows.csv")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fixture(&self, name: impl AsRef<Path>) -> PathBuf {
        self.welcome.fixtures.join(name)
    }

    /// Returns the folder whose files are kept with the run's record; this process may write there.
    #[must_use]
    pub fn artifacts(&self) -> &Path {
        &self.welcome.artifacts
    }

    /// Keeps bytes with the run's record, as a file of this name.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let db = lab.container("db")?;
    /// lab.artifact("postgresql.conf", db.get("/etc/postgresql/15/main/postgresql.conf")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the name has folders in it, or the file cannot be written.
    #[track_caller]
    pub fn artifact(&self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Result {
        let sent = outgoing(bytes.as_ref())?;
        self.connection.call(&Artifact { name: name.into(), content: sent.stream.clone() })?;
        Ok(())
    }

    /// Writes a line to the run's log. A lost connection ends the scenario anyway, so this returns no error.
    #[track_caller]
    pub fn log(&self, message: impl Into<String>) {
        self.log_at(Level::Info, message);
    }

    /// Writes a line to the run's log with a level, as [`Lab::log`] does with [`Level::Info`].
    ///
    /// ```no_run
    /// # use e2e::{Lab, Level, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// lab.log("20,000 rows");
    /// lab.log_at(Level::Debug, "the first attempt had no answer");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn log_at(&self, level: Level, message: impl Into<String>) {
        let _ = self.connection.call(&Log { level, message: message.into() });
    }

    /// Runs a named stretch of the case: the log and the report show when it began and how it ended. Steps may nest.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result, check};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let db = lab.container("db")?;
    /// let rows: u64 = lab.step("count what is there", || {
    ///     let counted = db.command(["psql", "-Atc", "select count(*) from orders"]).user("postgres").run()?.success()?;
    ///     Ok(counted.stdout_text()?.trim().parse()?)
    /// })?;
    /// check!(rows > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of `body`.
    #[track_caller]
    pub fn step<T>(&self, name: impl Into<String>, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let (name, place) = (name.into(), shown(Location::caller()));
        self.connection.call_from(&place, &Step { name: name.clone(), edge: Edge::Begin })?;
        let end = |succeeded| {
            let edge = if succeeded { Edge::Passed } else { Edge::Failed };
            self.connection.call_from(&place, &Step { name, edge })?;
            Ok(())
        };
        told(body, end)
    }

    /// Measures one operation that runs once; its name is unique in the scenario and in `snake_case`.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let db = lab.container("db")?;
    /// lab.measure("restore", || db.sh("pg_restore -d mancer /tmp/dump")?.success())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of `body`; the operation then counts as failed.
    #[track_caller]
    pub fn measure<T>(&self, operation: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        Ok(self.measure_one(operation, 1, body)?.0)
    }

    /// Measures an operation this many times; a run that compares the operation may need more or fewer repetitions. `body` must be
    /// repeatable on the same state, since verdicts compare its samples with each other. The first error ends the repetitions.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let app = lab.container("app")?;
    /// lab.measure_n("query", 30, || {
    ///     app.exec(["query-all"])?.success()?;
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of `body`; that repetition then counts as failed.
    #[track_caller]
    pub fn measure_n(&self, operation: &str, repetitions: u32, mut body: impl FnMut() -> Result) -> Result {
        ensure!(repetitions > 0, "operation {operation} is to be measured 0 times");
        for repetition in 1_u32.. {
            let measured = self.measure_one(operation, repetitions, &mut body);
            if !measured.with_context(|| format!("repetition {repetition} of the operation {operation}"))?.1 {
                break;
            }
        }
        Ok(())
    }

    /// Records a value that the scenario has measured itself, such as a throughput. Its name is unique in the scenario and in
    /// `snake_case`; `unit` is a text such as `records/s`. Several values of one name are its samples.
    ///
    /// ```no_run
    /// # use e2e::{Better, Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// let (rows, seconds) = (20_000.0, 1.6);
    /// lab.metric("throughput", rows / seconds, "rows/s", Better::Higher)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the name has been used with another unit or direction.
    #[track_caller]
    pub fn metric(&self, name: &str, value: f64, unit: &str, better: Better) -> Result {
        self.connection.call(&Metric { name: name.to_owned(), value, unit: unit.to_owned(), better })?;
        Ok(())
    }

    /// Calls `holds` repeatedly until it returns true, and records a check with the time that it took. `name` is the condition in words,
    /// such as "the alert is raised".
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// # use std::time::Duration;
    /// let app = lab.container("app")?;
    /// lab.eventually("the alert is raised", Duration::from_secs(10), || {
    ///     Ok(app.exec(["test", "-e", "/run/alert"])?.status == 0)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CheckFailed`](crate::CheckFailed) when `holds` has not returned true within the deadline, multiplied by the patience factor
    /// of a slow machine; at once an error of `holds`.
    #[track_caller]
    pub fn eventually(
        &self,
        name: &str,
        deadline: Duration,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<Duration> {
        let place = Location::caller();
        let deadline = scaled(deadline);
        let started = Instant::now();
        let passed = loop {
            if holds().with_context(|| format!("waiting until {name}"))? {
                break true;
            }
            if started.elapsed() >= deadline {
                break false;
            }
            std::thread::sleep(PAUSE); // between two looks at something that gives no sign of its own
        };
        let took = started.elapsed();
        let values =
            format!("within {deadline:?}: {} {:.3} s", if passed { "took" } else { "not after" }, took.as_secs_f64());
        check::record(passed, name, values, None, place.file(), place.line())?;
        Ok(took)
    }

    /// Measures one repetition; returns its value, and whether the engine asks for another repetition.
    #[track_caller]
    fn measure_one<T>(&self, operation: &str, repetitions: u32, body: impl FnOnce() -> Result<T>) -> Result<(T, bool)> {
        let begin = MeasureBegin { operation: operation.to_owned(), repetitions };
        let place = shown(Location::caller());
        let measurement = self.connection.call_from(&place, &begin)?.measurement;
        let started = Instant::now();
        let more = Cell::new(false);
        let end = |succeeded| {
            let duration_ms = started.elapsed().as_secs_f64() * 1e3;
            let end = MeasureEnd { measurement, succeeded, duration_ms };
            more.set(self.connection.call_from(&place, &end)?.more);
            Ok(())
        };
        let value = told(body, end)?;
        Ok((value, more.get()))
    }
}

/// Runs `body`, and then calls `end` with its success, even when it panics. Of two errors, that of `body` is returned.
fn told<T, E: FnOnce(bool) -> Result>(body: impl FnOnce() -> Result<T>, end: E) -> Result<T> {
    struct FailedUnlessTold<E: FnOnce(bool) -> Result>(Option<E>);

    impl<E: FnOnce(bool) -> Result> Drop for FailedUnlessTold<E> {
        fn drop(&mut self) {
            if let Some(end) = self.0.take() {
                let _ = end(false);
            }
        }
    }

    let mut unless_told = FailedUnlessTold(Some(end));
    let value = body()?;
    match unless_told.0.take() {
        Some(end) => end(true).map(|()| value),
        None => Ok(value),
    }
}

fn listed(names: impl Iterator<Item = impl Display>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Labs for tests, with an imitation of the engine that keeps all requests.
#[cfg(test)]
pub(crate) mod told {
    use std::sync::Mutex;

    use e2e_contract::RpcError;
    use serde_json::Value;

    use super::*;
    use crate::peer;

    /// Requests to an engine, in order: method and parameters.
    pub type Seen = Arc<Mutex<Vec<(String, Value)>>>;

    /// Places in the scenario that made the requests, in order.
    pub type Places = Arc<Mutex<Vec<Option<String>>>>;

    /// Makes a lab whose imitated engine keeps every request and answers with `answer`.
    pub fn lab(answer: impl Fn(&str, &Value) -> Result<Value, RpcError> + Send + 'static) -> (Lab, Seen) {
        let (lab, seen, _) = lab_with_places(answer);
        (lab, seen)
    }

    /// Makes a lab as [`lab`] does, with the places in the scenario that made the requests.
    pub fn lab_with_places(
        answer: impl Fn(&str, &Value) -> Result<Value, RpcError> + Send + 'static,
    ) -> (Lab, Seen, Places) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (seen, places) = (Seen::default(), Places::default());
        let (kept, kept_places) = (Arc::clone(&seen), Arc::clone(&places));
        std::thread::spawn(move || {
            peer::serve(theirs, |request| {
                kept.lock().unwrap().push((request.method.clone(), request.params.clone()));
                kept_places.lock().unwrap().push(request.location.clone());
                answer(&request.method, &request.params)
            });
        });
        (Lab::join(ours, |_| {}).unwrap(), seen, places)
    }
}

#[cfg(test)]
mod tests {

    use e2e_contract::{ErrorCode, RpcError, STREAM_BYTES_MAX, Stream};
    use serde_json::{Value, json};

    use super::told::{Seen, lab};
    use super::*;
    use crate::{Access, ExecFailed, Fault, Finished, Port, RequestError};

    fn plain(method: &str, _: &Value) -> Result<Value, RpcError> {
        Ok(match method {
            "measure.begin" => json!({"measurement": 7}),
            "measure.end" => json!({"more": true}),
            _ => json!({}),
        })
    }

    fn told_of(seen: &Seen) -> Vec<String> {
        let shown = |(method, params): &(String, Value)| {
            let mut params = params.clone();
            params.as_object_mut().unwrap().remove("duration_ms");
            format!("{method} {params}")
        };
        seen.lock().unwrap().iter().map(shown).collect()
    }

    #[test]
    fn steps_tell_how_they_ended_also_by_a_panic() {
        let (lab, seen) = lab(plain);
        let answer: u8 = lab.step("outer", || lab.step("inner", || Ok(42))).unwrap();
        assert_eq!(answer, 42);
        let error = lab.step::<()>("bad", || Err(anyhow!("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.step::<()>("worse", || panic!("expected by this test"))
        }));
        assert!(panicked.is_err());
        let step = |name: &str, edge: &str| format!(r#"step {{"name":"{name}","edge":"{edge}"}}"#);
        assert_eq!(
            told_of(&seen),
            [
                step("outer", "begin"),
                step("inner", "begin"),
                step("inner", "passed"),
                step("outer", "passed"),
                step("bad", "begin"),
                step("bad", "failed"),
                step("worse", "begin"),
                step("worse", "failed"),
            ]
        );
    }

    #[test]
    fn measured_operations_end_at_the_first_error() {
        let (lab, seen) = lab(plain);
        let mut left = 2;
        let error = lab
            .measure_n("query", 5, || {
                left -= 1;
                ensure!(left > 0, "empty");
                Ok(())
            })
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "repetition 2 of the operation query: empty");
        let begin = r#"measure.begin {"operation":"query","repetitions":5}"#;
        let end = |succeeded: bool| format!(r#"measure.end {{"measurement":7,"succeeded":{succeeded}}}"#);
        assert_eq!(told_of(&seen), [begin.to_owned(), end(true), begin.to_owned(), end(false)]);
        assert!(lab.measure_n("query", 0, || Ok(())).is_err());
    }

    #[test]
    fn an_operation_is_repeated_as_often_as_the_engine_wants() {
        let ends = std::sync::atomic::AtomicU32::new(0);
        let (lab, _) = lab(move |method, _| {
            Ok(match method {
                "measure.begin" => json!({"measurement": 7}),
                "measure.end" => json!({"more": ends.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 6}),
                _ => json!({}),
            })
        });
        let mut runs = 0;
        lab.measure_n("query", 3, || {
            runs += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(runs, 7);
    }

    #[test]
    fn metrics_have_unit_and_direction() {
        let (lab, seen) = lab(plain);
        lab.metric("throughput", 812.5, "records/s", Better::Higher).unwrap();
        let metric = r#"metric {"name":"throughput","value":812.5,"unit":"records/s","better":"higher"}"#;
        assert_eq!(told_of(&seen), [metric]);
    }

    #[test]
    fn a_measurement_has_the_time_of_its_body() {
        let (lab, seen) = lab(plain);
        let before = Instant::now();
        let body_ms = lab
            .measure("spin", || {
                let started = Instant::now();
                while started.elapsed() < Duration::from_millis(5) {
                    std::hint::spin_loop();
                }
                Ok(started.elapsed().as_secs_f64() * 1e3)
            })
            .unwrap();
        let all_ms = before.elapsed().as_secs_f64() * 1e3;
        let told_ms = seen.lock().unwrap()[1].1["duration_ms"].as_f64().unwrap();
        assert!((body_ms..=all_ms).contains(&told_ms), "{body_ms} {told_ms} {all_ms}");
    }

    #[test]
    fn parameters_and_containers_that_are_missing_or_of_another_type() {
        let (lab, _) = lab(plain);
        assert_eq!((lab.scenario(), lab.case()), ("smoke/peer", "large"));
        assert_eq!(lab.param::<u64>("rows").unwrap(), 20_000);
        let error = lab.param::<u64>("columns").unwrap_err().to_string();
        assert!(error.contains("case large of smoke/peer has no parameter columns (it has: rows, kind)"), "{error}");
        let error = format!("{:#}", lab.param::<u64>("kind").unwrap_err());
        assert!(error.contains("kind of case large") && error.contains("expected u64"), "{error}");

        let error = lab.secret("NO_SUCH_SECRET").unwrap_err().to_string();
        assert!(error.starts_with("the secret NO_SUCH_SECRET was not given to this run: "), "{error}");
        assert!(!lab.secret("PATH").unwrap().is_empty());

        assert_eq!(lab.container("db").unwrap().address().to_string(), "10.77.0.12");
        let error = lab.container("bd").unwrap_err().to_string();
        assert!(error.starts_with("smoke/peer has no container bd (it has: app, db)"), "{error}");
        assert_eq!(lab.fixture("rows.csv"), Path::new("/fixtures/rows.csv"));
    }

    /// Engine whose programs write their stdin to stdout and `oh` to stderr, and exit with their first argument as the status.
    fn echoing(method: &str, params: &Value) -> Result<Value, RpcError> {
        assert_eq!(method, "exec");
        let stdin = params.get("stdin").cloned().unwrap_or(json!({"text": ""}));
        let status: i32 = params["argv"][1].as_str().map_or(0, |status| status.parse().unwrap());
        let timed_out = status == 137;
        Ok(json!({
            "status": status, "stdout": stdin, "stderr": {"text": "oh\n"}, "duration_ms": 12.5, "timed_out": timed_out
        }))
    }

    #[test]
    fn streams_of_any_kind_and_size_survive() {
        let (lab, seen) = lab(echoing);
        let db = lab.container("db").unwrap();
        let large: Vec<u8> = (0..=STREAM_BYTES_MAX).map(|i| (i % 251) as u8).collect();
        for bytes in [b"text\n".to_vec(), vec![0xff, 0, 1], Vec::new(), large] {
            let finished = db.command(["cat"]).stdin(bytes.clone()).run().unwrap();
            assert!(finished.stdout() == bytes, "{} bytes", bytes.len());
        }
        let finished = db.exec(["true"]).unwrap().success().unwrap();
        assert_eq!(finished.stderr_text().unwrap(), "oh\n");
        assert_eq!(finished.duration, Duration::from_micros(12_500));
        let seen = seen.lock().unwrap();
        let stream = |index: usize| -> Stream { serde_json::from_value(seen[index].1["stdin"].clone()).unwrap() };
        assert!(matches!(stream(0), Stream::Text(_)));
        assert!(matches!(stream(1), Stream::Base64(_)));
        let Stream::File { path, .. } = stream(3) else { panic!("a large stream went inline") };
        assert!(!path.exists(), "the temporary file is left over");
    }

    #[test]
    fn each_request_has_the_place_of_the_scenario_that_made_it() {
        let (lab, seen, places) = told::lab_with_places(|method, _| {
            Ok(match method {
                "exec" => json!({
                    "status": 0, "stdout": {"text": ""}, "stderr": {"text": ""}, "duration_ms": 1.0, "timed_out": false
                }),
                "get" => json!({"text": ""}),
                "wait" => json!({"duration_ms": 1.0}),
                "measure.begin" => json!({"measurement": 7}),
                "measure.end" => json!({"more": false}),
                "fault.inject" => json!({"fault": 1, "evidence": ""}),
                "fault.heal" => json!({"evidence": ""}),
                "chaos.begin" => json!({"playing": false, "length_ms": 0}),
                "settle" => json!({"bit": 0, "refused": 0}),
                "screenshot" | "screenshot.compare" => json!({"skipped": {"reason": "no browser"}}),
                _ => json!({}),
            })
        });
        let db = lab.container("db").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let host_path = folder.path().join("rows.csv");
        std::fs::write(&host_path, "a,b").unwrap();
        let first = line!() + 1;
        db.exec(["true"]).unwrap();
        db.sh("true").unwrap();
        db.command(["true"]).user("postgres").run().unwrap();
        db.put(&host_path, "/rows.csv").unwrap();
        db.put_with(&host_path, "/rows.csv", Access::default()).unwrap();
        db.write("/x", "x").unwrap();
        db.write_with("/x", "x", Access::default()).unwrap();
        db.get("/x").unwrap();
        db.wait_for(Port(1)).unwrap();
        db.wait_for_within(Port(1), Duration::from_secs(1)).unwrap();
        lab.artifact("x", "x").unwrap();
        lab.log("x");
        lab.log_at(Level::Debug, "x");
        lab.metric("x", 1.0, "s", Better::Lower).unwrap();
        lab.screenshot("x", "http://db/").unwrap();
        lab.screenshot_within("x", "http://db/", Duration::from_secs(1)).unwrap();
        lab.sometimes("x", true).unwrap();
        lab.at_end("x", || Ok(true)).unwrap();
        lab.invoke("a", "x", 1).unwrap().ok(1).unwrap();
        drop(lab.invoke("a", "x", 1).unwrap());
        db.inject(Fault::NodeKill).unwrap().heal().unwrap();
        drop(db.inject(Fault::NodeKill).unwrap());
        lab.step("x", || Ok(())).unwrap();
        lab.measure("x", || Ok(())).unwrap();
        lab.measure_n("x", 1, || Ok(())).unwrap();
        lab.chaos(|_| Ok(())).unwrap();
        lab.known_defect("x", crate::failing_with("x"), |_| Ok(())).unwrap();
        let last = line!() - 1;
        let (seen, places) = (seen.lock().unwrap(), places.lock().unwrap());
        let mut lines = std::collections::BTreeSet::new();
        for ((method, params), place) in seen.iter().zip(places.iter()) {
            let place = place.as_deref().unwrap_or_else(|| panic!("{method} {params} has no place"));
            let (file, line) = place.rsplit_once(':').unwrap();
            assert_eq!(file, file!(), "{method} {params}");
            lines.insert(line.parse::<u32>().unwrap());
        }
        assert_eq!(lines, (first..=last).collect(), "each line makes at least one request, and no other asks");
    }

    #[test]
    fn a_failed_program_says_everything() {
        let (lab, seen) = lab(echoing);
        let db = lab.container("db").unwrap();
        let run = |status: &str| -> Finished {
            db.command(["psql", status, "it's"])
                .user("postgres")
                .env("A", "b c")
                .stdin("out")
                .deadline(Duration::from_millis(1500))
                .run()
                .unwrap()
        };
        let error = run("3").success().unwrap_err();
        assert_eq!(
            error.to_string(),
            "exec in db ended with status 3: oh\n  command: `psql 3 'it'\\''s'`\n  stdout: out\n  stderr: oh"
        );
        assert_eq!(error.downcast_ref::<ExecFailed>().unwrap().finished().status, 3);
        let error = run("137").success().unwrap_err();
        assert!(error.to_string().contains("did not end within 1.5s and was killed"), "{error}");
        let params = &seen.lock().unwrap()[0].1;
        let expected = json!({
            "container": "db", "argv": ["psql", "3", "it's"], "stdin": {"text": "out"},
            "environment": [["A", "b c"]], "user": "postgres", "deadline_ms": 1500,
        });
        assert_eq!(*params, expected);
    }

    #[test]
    fn an_engine_error_names_method_and_container() {
        let (lab, _) = lab(|_, _| Err(RpcError::new(ErrorCode::Deadline, "tcp port 5432: connection refused")));
        let error = lab.container("db").unwrap().wait_for(Port(5432)).unwrap_err();
        assert_eq!(error.to_string(), "wait in db: tcp port 5432: connection refused");
        let error: &RequestError = error.downcast_ref().unwrap();
        assert!(error.is_deadline());
        assert_eq!((error.method(), error.container()), ("wait", Some("db")));
    }

    #[test]
    fn conditions_and_files_as_the_contract_has_them() {
        let (lab, seen) = lab(|method, _| Ok(if method == "wait" { json!({"duration_ms": 1.0}) } else { json!({}) }));
        let db = lab.container("db").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let host_path = folder.path().join("rows.csv");
        std::fs::write(&host_path, "a,b").unwrap();
        db.wait_for(crate::Http("/status")).unwrap();
        db.wait_for(crate::Unit("x.service")).unwrap();
        db.wait_for(crate::File("/x")).unwrap();
        db.wait_for_within(crate::Command(["true"]), Duration::ZERO).unwrap();
        db.put(&host_path, "/tmp/rows.csv").unwrap();
        db.write_with("/key", [0xff], Access::mode(0o600).owner("postgres")).unwrap();
        lab.artifact("out.json", "{}").unwrap();
        let wait = |condition: &str, deadline: &str| {
            format!(r#"wait {{"container":"db","condition":{condition},"deadline_ms":{deadline}}}"#)
        };
        let put = |rest: &str| format!(r#"put {{"container":"db",{rest},"deadline_ms":60000}}"#);
        let host_path = host_path.display();
        assert_eq!(
            told_of(&seen),
            [
                wait(r#"{"http":"/status"}"#, "60000"),
                wait(r#"{"unit":"x.service"}"#, "60000"),
                wait(r#"{"file":"/x"}"#, "60000"),
                wait(r#"{"exec":["true"]}"#, "1"),
                put(&format!(
                    r#""path":"/tmp/rows.csv","content":{{"file":{{"path":"{host_path}","bytes":3}}}},"mode":420"#
                )),
                put(r#""path":"/key","content":{"base64":"/w=="},"mode":384,"owner":"postgres""#),
                r#"artifact {"name":"out.json","content":{"text":"{}"}}"#.to_owned(),
            ]
        );
    }
}
