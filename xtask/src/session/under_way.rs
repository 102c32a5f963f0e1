//! Requests under way, and the last ended one: they show where a scenario hangs at its deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use e2e_contract::{Exec, FaultHeal, FaultInject, Method as _, Put, Settle};
use serde_json::Value;

use super::bounds::shorten;

/// Maximum length of a request's description in characters.
const CHARS_MAX: usize = 120;

/// Maximum length of a place in a scenario in characters.
const LOCATION_CHARS_MAX: usize = 300;

/// Maximum number of requests in a description.
const TOLD_MAX: usize = 3;

/// Methods that may change a machine, and so make the condition of a wait come true.
const CHANGING: [&str; 5] = [Exec::NAME, Put::NAME, FaultInject::NAME, FaultHeal::NAME, Settle::NAME];

/// Requests of one session: those under way, and the last ended one.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// Number of requests begun so far that may change a machine.
    changes: u64,
    requests: BTreeMap<u64, RequestUnderWay>,
    /// Last request that has ended, and the time of its end.
    last: Option<(RequestUnderWay, Instant)>,
}

/// Request that is being executed, described for messages.
#[derive(Debug)]
struct RequestUnderWay {
    text: String,
    location: Option<String>,
    since: Instant,
    changes: bool,
    /// Thread that executes the request.
    thread: ThreadId,
}

impl fmt::Display for RequestUnderWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)?;
        self.location.as_ref().map_or(Ok(()), |location| write!(formatter, " at {location}"))
    }
}

/// Mark of a request that is being executed; dropping it ends the request.
#[derive(Debug)]
pub struct RequestMark<'a> {
    under_way: &'a UnderWay,
    number: u64,
}

impl UnderWay {
    /// Records that this thread begins to execute a request, made at this place in the scenario.
    pub fn begin(&self, method: &str, params: &Value, location: Option<&str>) -> RequestMark<'_> {
        let changes = CHANGING.contains(&method);
        let line = |text: &str| shorten(text.lines().next().unwrap_or_default(), LOCATION_CHARS_MAX);
        let request = RequestUnderWay {
            text: described(method, params),
            location: location.map(line).filter(|location| !location.is_empty()),
            since: Instant::now(),
            changes,
            thread: std::thread::current().id(),
        };
        let mut state = self.state();
        state.begun += 1;
        state.changes += u64::from(changes);
        let number = state.begun;
        state.requests.insert(number, request);
        RequestMark { under_way: self, number }
    }

    /// Describes the requests under way, the longest first, or else the last one that has ended; each with its time and place.
    pub fn told(&self) -> Vec<String> {
        let state = self.state();
        let time = |since: &Instant| since.elapsed().as_secs_f64();
        let mut told: Vec<String> = state
            .requests
            .values()
            .take(TOLD_MAX)
            .map(|request| format!("under way for {:.1} s: {request}", time(&request.since)))
            .collect();
        if state.requests.len() > TOLD_MAX {
            told.push(format!("and {} more requests", state.requests.len() - TOLD_MAX));
        }
        if let (true, Some((request, ended))) = (told.is_empty(), &state.last) {
            told.push(format!("its last request ended {:.1} s before: {request}", time(ended)));
        }
        told
    }

    /// Returns the place in the scenario of the request that this thread executes.
    pub fn location(&self) -> Option<String> {
        let (state, thread) = (self.state(), std::thread::current().id());
        state.requests.values().find(|request| request.thread == thread)?.location.clone()
    }

    /// Returns the number of requests begun so far that may change a machine; `None` while such a request is under way.
    pub fn changes(&self) -> Option<u64> {
        let state = self.state();
        (!state.requests.values().any(|request| request.changes)).then_some(state.changes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestMark<'_> {
    fn drop(&mut self) {
        let mut state = self.under_way.state();
        if let Some(request) = state.requests.remove(&self.number) {
            state.last = Some((request, Instant::now()));
        }
    }
}

fn described(method: &str, params: &Value) -> String {
    let container = params["container"].as_str().map_or_else(String::new, |container| format!(" in {container}"));
    let words = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let about = [&params["argv"], &params["condition"], &params["fault"], &params["name"], &params["path"]];
    let about = about.into_iter().find_map(|value| match value {
        Value::Null => None,
        Value::Array(list) => Some(words(list)),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    });
    let text = about.map_or_else(|| format!("{method}{container}"), |about| format!("{method}{container}: {about}"));
    shorten(text.lines().next().unwrap_or_default(), CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_under_way_is_told_with_its_place_and_else_what_was_last() {
        let under_way = UnderWay::default();
        assert!(under_way.told().is_empty());
        let first =
            under_way.begin("exec", &json!({ "container": "db", "argv": ["sleep", "60"] }), Some("x/main.py:14"));
        assert_eq!(under_way.location().as_deref(), Some("x/main.py:14"));
        let second = under_way.begin("wait", &json!({ "container": "db", "condition": { "tcp": 5432 } }), None);
        let told = under_way.told();
        assert!(told[0].ends_with(": exec in db: sleep 60 at x/main.py:14"), "{told:?}");
        assert!(told[1].ends_with(r#": wait in db: {"tcp":5432}"#), "{told:?}");
        drop(second);
        drop(first);
        let told = under_way.told();
        let expected = "its last request ended 0.0 s before: exec in db: sleep 60 at x/main.py:14";
        assert_eq!(told, [expected]);
        assert_eq!(under_way.location(), None);
    }

    #[test]
    fn a_request_that_may_change_a_machine_is_counted_and_seen_while_it_is_under_way() {
        let under_way = UnderWay::default();
        assert_eq!(under_way.changes(), Some(0));
        let wait = under_way.begin("wait", &json!({}), None);
        assert_eq!(under_way.changes(), Some(0));
        let exec = under_way.begin("exec", &json!({}), None);
        assert_eq!(under_way.changes(), None);
        drop(exec);
        assert_eq!(under_way.changes(), Some(1));
        drop(wait);
    }

    #[test]
    fn a_request_is_described_in_one_short_line() {
        assert_eq!(described("settle", &json!({})), "settle");
        assert_eq!(described("step", &json!({ "name": "load\nmore" })), "step: load");
        let long = described("exec", &json!({ "container": "a", "argv": ["x".repeat(500)] }));
        assert!(long.chars().count() <= CHARS_MAX + 6 && long.ends_with(" [...]"), "{long}");
        let under_way = UnderWay::default();
        let _mark = under_way.begin("settle", &json!({}), Some("\u{1b}[1m\nx"));
        assert_eq!(under_way.location().as_deref(), Some("\u{1b}[1m"), "the terminal is safe by what shows it");
    }
}
