//! Requests that are being carried out, and the last one that was: where a scenario stands that does not end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::shorten::shorten;

/// Longest text of a request, in characters.
const CHARS_MAX: usize = 120;

/// Requests that are told of.
const TOLD_MAX: usize = 3;

/// Requests of one session.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    requests: BTreeMap<u64, (String, Instant)>,
    /// The last one that has ended, and when.
    last: Option<(String, Instant)>,
}

/// A request that is being carried out, until this is dropped.
#[derive(Debug)]
pub struct RequestMark<'a> {
    under_way: &'a UnderWay,
    number: u64,
}

impl UnderWay {
    /// Notes that a request begins.
    pub fn begin(&self, method: &str, params: &Value) -> RequestMark<'_> {
        let mut state = self.state();
        state.begun += 1;
        let number = state.begun;
        state.requests.insert(number, (described(method, params), Instant::now()));
        RequestMark { under_way: self, number }
    }

    /// Requests under way, the longest first, or else the last one that has ended; each with its time.
    pub fn told(&self) -> Vec<String> {
        let state = self.state();
        let time = |since: &Instant| since.elapsed().as_secs_f64();
        let mut told: Vec<String> = state
            .requests
            .values()
            .take(TOLD_MAX)
            .map(|(request, since)| format!("under way for {:.1} s: {request}", time(since)))
            .collect();
        if state.requests.len() > TOLD_MAX {
            told.push(format!("and {} more requests", state.requests.len() - TOLD_MAX));
        }
        if let (true, Some((request, since))) = (told.is_empty(), &state.last) {
            told.push(format!("its last request ended {:.1} s before: {request}", time(since)));
        }
        told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestMark<'_> {
    fn drop(&mut self) {
        let mut state = self.under_way.state();
        if let Some((request, _)) = state.requests.remove(&self.number) {
            state.last = Some((request, Instant::now()));
        }
    }
}

/// A request in words: method, container, and what it is about.
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
    fn what_is_under_way_is_told_and_else_what_was_last() {
        let under_way = UnderWay::default();
        assert!(under_way.told().is_empty());
        let first = under_way.begin("exec", &json!({ "container": "db", "argv": ["sleep", "60"] }));
        let second = under_way.begin("wait", &json!({ "container": "db", "condition": { "tcp": 5432 } }));
        let told = under_way.told();
        assert!(told[0].ends_with(": exec in db: sleep 60"), "{told:?}");
        assert!(told[1].ends_with(r#": wait in db: {"tcp":5432}"#), "{told:?}");
        drop(first);
        drop(second);
        let told = under_way.told();
        assert!(told.len() == 1 && told[0].starts_with("its last request ended 0.0 s before: wait in db"), "{told:?}");
    }

    #[test]
    fn a_request_is_described_in_one_short_line() {
        assert_eq!(described("settle", &json!({})), "settle");
        assert_eq!(described("step", &json!({ "name": "load\nmore" })), "step: load");
        let long = described("exec", &json!({ "container": "a", "argv": ["x".repeat(500)] }));
        assert!(long.chars().count() <= CHARS_MAX + 6 && long.ends_with(" [...]"), "{long}");
    }
}
