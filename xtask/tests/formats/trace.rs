//! Reads a trace.json as a viewer does, and says what it would show wrong or not at all.

use std::collections::BTreeMap;

use serde_json::Value;

/// Content of a trace, for assertions.
#[derive(Debug, Default)]
pub struct Trace {
    /// Names of processes, by number.
    pub processes: BTreeMap<u64, String>,
    /// Names of lines, by process and number.
    pub lines: BTreeMap<(u64, u64), String>,
    /// Line, name, begin and length of each stretch, in microseconds.
    pub slices: Vec<((u64, u64), String, u64, u64)>,
    /// Line and name of each mark.
    pub marks: Vec<((u64, u64), String)>,
    /// Number of points of each curve, by process and name.
    pub curves: BTreeMap<(u64, String), usize>,
}

/// Reads a trace: each event has the fields of its kind, of their types; lines and processes have names; stretches of one line
/// lie apart or in each other; points of a curve come in the order of time, with the same parts each.
pub fn check(text: &str) -> Result<Trace, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let events = document["traceEvents"].as_array().ok_or("no list of traceEvents")?;
    let mut trace = Trace::default();
    let mut last_point: BTreeMap<(u64, String), (u64, Vec<String>)> = BTreeMap::new();
    for event in events {
        let wrong = |what: &str| format!("{what}: {event}");
        let whole = |field: &str| event[field].as_u64().ok_or_else(|| wrong(&format!("{field} is no whole number")));
        let name = event["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| wrong("no name"))?.to_owned();
        let pid = whole("pid")?;
        match event["ph"].as_str().ok_or_else(|| wrong("no kind"))? {
            "M" => match (name.as_str(), event["args"]["name"].as_str(), event["args"]["sort_index"].as_u64()) {
                ("process_name", Some(name), _) => drop(trace.processes.insert(pid, name.to_owned())),
                ("thread_name", Some(name), _) => drop(trace.lines.insert((pid, whole("tid")?), name.to_owned())),
                ("process_sort_index" | "thread_sort_index", _, Some(_)) => {}
                _ => return Err(wrong("nobody knows this name of a thing")),
            },
            "X" => trace.slices.push(((pid, whole("tid")?), name, whole("ts")?, whole("dur")?)),
            "i" => {
                whole("ts")?;
                if event["s"] != "t" {
                    return Err(wrong("a mark of no line"));
                }
                trace.marks.push(((pid, whole("tid")?), name));
            }
            "C" => {
                let values =
                    event["args"].as_object().filter(|values| !values.is_empty()).ok_or_else(|| wrong("no values"))?;
                if !values.values().all(Value::is_number) {
                    return Err(wrong("a value is no number"));
                }
                let parts: Vec<String> = values.keys().cloned().collect();
                let at = whole("ts")?;
                let curve = (pid, name);
                if let Some((before, known)) = last_point.insert(curve.clone(), (at, parts.clone()))
                    && (before > at || known != parts)
                {
                    return Err(wrong("a curve goes back, or has other parts"));
                }
                *trace.curves.entry(curve).or_default() += 1;
            }
            _ => return Err(wrong("nobody knows this kind")),
        }
    }
    let lines = trace.slices.iter().map(|(line, ..)| line).chain(trace.marks.iter().map(|(line, _)| line));
    for line in lines {
        if !trace.lines.contains_key(line) || !trace.processes.contains_key(&line.0) {
            return Err(format!("line {line:?} has no name"));
        }
    }
    let mut by_line: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for (line, _, begin, length) in &trace.slices {
        by_line.entry(*line).or_default().push((*begin, begin + length));
    }
    for (line, mut stretches) in by_line {
        stretches.sort_by_key(|(begin, end)| (*begin, std::cmp::Reverse(*end)));
        let mut open: Vec<u64> = Vec::new();
        for (begin, end) in stretches {
            open.retain(|other| *other > begin);
            if open.last().is_some_and(|other| end > *other) {
                return Err(format!("line {line:?}: a stretch begins in another one at {begin} and ends after it"));
            }
            open.push(end);
        }
    }
    Ok(trace)
}
