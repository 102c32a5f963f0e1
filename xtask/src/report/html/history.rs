//! What the clients of a case did to the system under test: `history.jsonl`, as bars.

use std::collections::BTreeMap;
use std::path::Path;

use e2e_contract::Phase;
use serde::Deserialize;
use serde_json::Value;

use super::words::plain;

/// So many lines of a history are read.
const LINES_MAX: usize = 200_000;

/// One client, which does one thing at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// What it did, in order.
    pub calls: Vec<Call>,
}

/// One thing that a client did.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// On the run's clock.
    pub begun_ms: f64,
    /// On the run's clock; the attempt's end where no answer came.
    pub ended_ms: f64,
    /// The class that colours it: `call`, `refused` or `unknown`.
    pub class: &'static str,
    /// What it was and what came of it.
    pub title: String,
}

#[derive(Deserialize)]
struct Line {
    at_ms: f64,
    process: String,
    operation: String,
    phase: Phase,
    #[serde(default)]
    value: Value,
}

/// The clients of an attempt, by the attempt's folder. A scenario without a history has none; what is no line of one, such as
/// the last line of a killed engine, is passed over.
pub fn clients(folder: &Path, ended_ms: f64) -> Vec<Client> {
    let text = std::fs::read(folder.join("history.jsonl")).unwrap_or_default();
    of_text(&String::from_utf8_lossy(&text), ended_ms)
}

fn of_text(text: &str, ended_ms: f64) -> Vec<Client> {
    let mut clients: BTreeMap<String, (Vec<Call>, Option<Line>)> = BTreeMap::new();
    let lines = text.lines().take(LINES_MAX).filter_map(|line| serde_json::from_str::<Line>(line).ok());
    for line in lines {
        let (calls, open) = clients.entry(line.process.clone()).or_default();
        let Some(begun) = open.take() else {
            *open = (line.phase == Phase::Invoke).then_some(line);
            continue;
        };
        calls.push(call(&begun, Some(&line), ended_ms));
        *open = (line.phase == Phase::Invoke).then_some(line);
    }
    let end = |(name, (mut calls, open)): (String, (Vec<Call>, Option<Line>))| {
        calls.extend(open.iter().map(|begun| call(begun, None, ended_ms)));
        Client { name, calls }
    };
    clients.into_iter().map(end).collect()
}

fn call(begun: &Line, ended: Option<&Line>, ended_ms: f64) -> Call {
    let ended = ended.filter(|line| line.phase != Phase::Invoke);
    let (class, word) = match ended.map(|line| line.phase) {
        Some(Phase::Ok) => ("call", "took place"),
        Some(Phase::Fail) => ("refused", "did not take place"),
        _ => ("unknown", "no answer came"),
    };
    let answer = ended.map_or_else(String::new, |line| format!(" {}", line.value));
    let title = plain(&format!("{} {}: {word}{answer}", begun.operation, begun.value), 200);
    Call { begun_ms: begun.at_ms, ended_ms: ended.map_or(ended_ms, |line| line.at_ms), class, title }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_end_with_their_answer_or_with_the_attempt() {
        let text = r#"{"at_ms":1,"process":"p","operation":"put","phase":"invoke","value":[1,2]}
{"at_ms":2,"process":"q","operation":"put","phase":"invoke"}
{"at_ms":3,"process":"p","operation":"put","phase":"ok","value":7}
{"at_ms":4,"process":"q","operation":"put","phase":"fail","value":"503"}
{"at_ms":5,"process":"p","operation":"put","phase":"invoke"}
{"at_ms":6,"proc"#;
        let clients = of_text(text, 9.0);
        let shown: Vec<String> = clients
            .iter()
            .flat_map(|client| client.calls.iter().map(|call| format!("{} {call:?}", client.name)))
            .collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        let p = &clients[0].calls;
        assert_eq!((p[0].begun_ms, p[0].ended_ms, p[0].class), (1.0, 3.0, "call"));
        assert_eq!(p[0].title, "put [1,2]: took place 7");
        assert_eq!((p[1].ended_ms, p[1].class), (9.0, "unknown"));
        assert_eq!(clients[1].calls[0].title, "put null: did not take place \"503\"");
    }
}
