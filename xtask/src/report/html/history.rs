//! Operations of a case's clients on the system under test, read from `history.jsonl` and drawn as bars.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Seek as _};
use std::path::Path;

use e2e_contract::Phase;
use serde::Deserialize;
use serde_json::Value;

use super::words::{self, plain, thousands};
use crate::input;

/// Maximum lines read of a history. Of a longer history, half of the read lines are its first and half its last lines.
const LINES_MAX: usize = 200_000;

/// Clients of an attempt with their operations, and notes on operations that are not shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clients {
    pub clients: Vec<Client>,
    /// Sentences about lines that cannot be read, and about operations that are not shown.
    pub notes: Vec<String>,
}

/// Client of the system under test, with at most one operation at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub name: String,
    /// Operations in the order of their begins.
    pub calls: Vec<Call>,
}

/// Operation of a client on the system under test.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Start in milliseconds since the run's start.
    pub begun_ms: f64,
    /// End in milliseconds since the run's start; the attempt's end if no answer came.
    pub ended_ms: f64,
    /// CSS class with the color of the operation's bar: `call`, `refused` or `unknown`.
    pub class: &'static str,
    /// Tooltip of the bar: operation and result.
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

/// Returns the clients of an attempt, from the run's folder and the path of the attempt's folder in it; no clients if the scenario wrote no
/// history.
pub fn clients(run: &Path, attempt: &str, ended_ms: f64) -> Clients {
    read(run, attempt, ended_ms, LINES_MAX).unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => Clients::default(),
        _ => Clients { clients: Vec::new(), notes: vec![format!("history.jsonl cannot be read: {error}")] },
    })
}

fn read(run: &Path, attempt: &str, ended_ms: f64, lines_max: usize) -> std::io::Result<Clients> {
    let file = input::open_below(run, Path::new(attempt).join("history.jsonl"))?;
    if file.metadata()?.len() > input::RECORD_BYTES_MAX {
        return Err(std::io::Error::other(format!("the file is larger than {} MiB", input::RECORD_BYTES_MAX >> 20)));
    }
    let mut reader = BufReader::new(file);
    let mut count = 0;
    while reader.skip_until(b'\n')? > 0 {
        count += 1;
    }
    reader.rewind()?;
    let left_out = if count > lines_max { lines_max / 2..count - lines_max / 2 } else { 0..0 };
    let mut writer = Writer::default();
    let (mut line, mut damaged) = (Vec::new(), 0);
    for number in 0..count {
        if left_out.contains(&number) {
            reader.skip_until(b'\n')?;
            continue;
        }
        if number == left_out.end {
            // What was open then was answered in lines that are left out.
            writer.forget();
        }
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        match serde_json::from_slice::<Line>(&line) {
            Ok(entry) => writer.write(entry, ended_ms),
            // A killed engine writes its last line half.
            Err(_) if number + 1 < count || line.ends_with(b"\n") => damaged += 1,
            Err(_) => {}
        }
    }
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        notes.push(format!(
            "history.jsonl has {} lines: the first {} and the last {} are shown, and {} in between are not",
            thousands(count),
            thousands(left_out.start),
            thousands(count - left_out.end),
            thousands(left_out.len())
        ));
    }
    if damaged > 0 {
        notes.push(format!("{} of history.jsonl cannot be read", words::count(damaged, "line", "lines")));
    }
    Ok(Clients { clients: writer.end(ended_ms), notes })
}

/// Reader of a history that pairs the start of each operation with its result, line by line.
#[derive(Default)]
struct Writer {
    clients: BTreeMap<String, (Vec<Call>, Option<Line>)>,
}

impl Writer {
    fn write(&mut self, line: Line, ended_ms: f64) {
        let (calls, open) = self.clients.entry(line.process.clone()).or_default();
        if let Some(begun) = open.take() {
            calls.push(call(&begun, Some(&line), ended_ms));
        }
        *open = (line.phase == Phase::Invoke).then_some(line);
    }

    fn forget(&mut self) {
        self.clients.values_mut().for_each(|(_, open)| *open = None);
    }

    fn end(self, ended_ms: f64) -> Vec<Client> {
        let end = |(name, (mut calls, open)): (String, (Vec<Call>, Option<Line>))| {
            calls.extend(open.iter().map(|begun| call(begun, None, ended_ms)));
            Client { name, calls }
        };
        self.clients.into_iter().map(end).collect()
    }
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

    fn of_text(text: &str, lines_max: usize) -> Clients {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        std::fs::write(&path, text).unwrap();
        read(folder.path(), "", 9.0, lines_max).unwrap()
    }

    #[test]
    fn a_long_history_loses_its_middle_and_says_so() {
        let line = |at: usize, phase: &str| {
            format!("{{\"at_ms\":{at},\"process\":\"p\",\"operation\":\"o\",\"phase\":\"{phase}\"}}\n")
        };
        let text: String = (0..100).map(|at| line(at, if at % 2 == 0 { "invoke" } else { "ok" })).collect();
        let Clients { clients, notes } = of_text(&text, 10);
        let shown: Vec<(f64, f64)> = clients[0].calls.iter().map(|call| (call.begun_ms, call.ended_ms)).collect();
        assert_eq!(shown, [(0.0, 1.0), (2.0, 3.0), (96.0, 97.0), (98.0, 99.0)], "none is given another's end");
        let expected = "history.jsonl has 100 lines: the first 5 and the last 5 are shown, and 90 in between are not";
        assert_eq!(notes, [expected]);
        assert_eq!(of_text(&text, 100).notes, [""; 0]);
        let damaged = of_text(&format!("{}\0\0\n{}{{\"at_", line(1, "invoke"), line(2, "ok")), 100);
        assert_eq!(damaged.notes, ["1 line of history.jsonl cannot be read"]);
        assert_eq!(damaged.clients[0].calls.len(), 1);
    }

    #[test]
    fn what_is_no_history_costs_the_history_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(clients(folder.path(), "", 1.0), Clients::default());
        std::fs::create_dir(folder.path().join("history.jsonl")).unwrap();
        let expected = "history.jsonl cannot be read: it is a folder: a file is needed here";
        assert_eq!(clients(folder.path(), "", 1.0).notes, [expected]);
    }

    #[test]
    fn calls_end_with_their_answer_or_with_the_attempt() {
        let text = r#"{"at_ms":1,"process":"p","operation":"put","phase":"invoke","value":[1,2]}
{"at_ms":2,"process":"q","operation":"put","phase":"invoke"}
{"at_ms":3,"process":"p","operation":"put","phase":"ok","value":7}
{"at_ms":4,"process":"q","operation":"put","phase":"fail","value":"503"}
{"at_ms":5,"process":"p","operation":"put","phase":"invoke"}
{"at_ms":6,"proc"#;
        let Clients { clients, notes } = of_text(text, LINES_MAX);
        assert_eq!(notes, [""; 0]);
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
