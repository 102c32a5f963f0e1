//! Timeline of an attempt on one axis: the lab's phases, steps, operations, faults, checks, logged errors and warnings, and the
//! machines' resource usage.

use std::collections::{BTreeMap, BTreeSet};

use e2e_contract::{DefectOutcome, InvariantKind};
use serde::Serialize;

use super::curves::Curves;
use super::history::{Client, Clients};
use super::plot::{Axis, Tick};
use super::story::{Span, Story};
use super::words::{duration, moment, plain, thousands};

/// Maximum bars or marks of a lane; if there are more, neighbors are merged.
const ITEMS_MAX: usize = 400;

/// Maximum lanes for each of steps, operations and clients.
const LANES_MAX: usize = 12;

/// View of the timeline: the data with which the page's template is filled.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    pub axis: Axis,
    pub ticks: Vec<Tick>,
    /// Intervals in which a fault was active, shaded behind all lanes.
    pub bands: Vec<Item>,
    /// Lanes from the top to the bottom.
    pub lanes: Vec<Lane>,
    /// Times of the resource samples for the page's script: milliseconds since the run's start, separated by commas.
    pub looks: String,
    /// True if a lane has operations of clients.
    pub has_calls: bool,
    /// Resource usage, drawn below the lanes.
    pub curves: Vec<Curves>,
    /// Mark at the moment of the attempt's failure.
    pub failed: Option<Item>,
    /// Sentences about parts of the attempt that are not drawn, with the reasons.
    pub notes: Vec<String>,
}

/// Row of the timeline, such as the steps or the faults of a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lane {
    pub name: String,
    /// Shape of the items: `bars` or `marks`.
    pub shape: &'static str,
    pub items: Vec<Item>,
}

/// Bar, band or mark of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Start in milliseconds since the run's start.
    pub at_ms: f64,
    /// Left edge of the item, in percent of the axis.
    pub left: f64,
    /// Width in percent of the axis; 0 for a mark.
    pub width: f64,
    /// CSS class with the color of the item.
    pub class: String,
    /// Text on a bar; empty for a mark, and for a bar without room for it.
    pub text: String,
    pub title: String,
}

/// Width in percent of the axis above which a bar has a label; bars of the lab, steps and faults always have a label.
const LABELED: f64 = 3.0;

/// Logged warnings and errors by machine.
pub type Alarms = BTreeMap<String, MachineAlarms>;

/// Logged warnings and errors of one machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineAlarms {
    /// Time in milliseconds since the run's start, CSS class with the color, and text of each warning or error.
    pub marks: Vec<(f64, &'static str, String)>,
    /// Number of warnings and errors that have no mark.
    pub left_out: usize,
}

pub fn timeline(
    story: &Story,
    Clients { clients, notes }: &Clients,
    alarms: &Alarms,
    failed_ms: Option<f64>,
    (looks, curves): (String, Vec<Curves>),
) -> Timeline {
    let axis = Axis::new(story.begun_ms, story.ended_ms);
    let bar = |span: &Span, class: &str| item(axis, (span.begun_ms, span.ended_ms), class, &span.name);
    let outcome = |span: &Span, class: &str| bar(span, if span.passed { class } else { "failed" });
    let mut notes = notes.clone();
    let mut lane = |name: &str, shape, items| lane(name, shape, items, &mut notes);
    let mut lanes = vec![lane("Lab", "bars", story.phases.iter().map(|span| bar(span, "phase")).collect())];
    let deepest = story.steps.iter().map(|step| step.number).max().map_or(0, |depth| depth + 1);
    for depth in 0..deepest.min(LANES_MAX as u32) {
        let of_depth = story.steps.iter().filter(|step| step.number == depth);
        let name = if depth == 0 { "Steps" } else { "" };
        lanes.push(lane(name, "bars", of_depth.map(|step| outcome(step, "step")).collect()));
    }
    for (name, spans) in by_name(&story.operations) {
        lanes.push(lane(&name, "bars", spans.into_iter().map(|span| outcome(span, "operation")).collect()));
    }
    for client in clients.iter().take(LANES_MAX) {
        let bars = client.calls.iter().map(|call| item(axis, (call.begun_ms, call.ended_ms), call.class, &call.title));
        lanes.push(lane(&client.name, "bars", bars.collect()));
    }
    lanes.push(lane("Commands", "bars", commands(axis, story)));
    let faults = fault_items(axis, story);
    let containers: BTreeSet<&String> = faults.iter().map(|(container, _)| container).collect();
    for container in containers {
        let items: Vec<Item> = faults.iter().filter(|(of, _)| of == container).map(|(_, item)| item.clone()).collect();
        for (place, items) in side_by_side(items).into_iter().enumerate() {
            let name = if place == 0 { format!("Faults on {container}") } else { String::new() };
            lanes.push(lane(&name, "bars", items));
        }
    }
    lanes.push(lane("Checks", "marks", check_items(axis, story)));
    for (machine, alarms) in alarms {
        let marks = alarms.marks.iter().map(|(at, class, text)| mark(axis, *at, class, text));
        lanes.push(lane(&format!("Log of {machine}"), "marks", marks.collect()));
    }
    lanes.push(lane("Pictures", "marks", picture_items(axis, story)));
    lanes.retain(|lane| !lane.items.is_empty());
    let bands = faults.into_iter().filter(|(_, item)| item.width > 0.0).map(|(_, item)| item).collect();
    let failed = failed_ms.map(|at| mark(axis, at, "failed", "the case failed here"));
    notes.extend(lanes_left_out(story, clients, alarms));
    Timeline { axis, ticks: axis.ticks(), bands, lanes, looks, has_calls: !clients.is_empty(), curves, failed, notes }
}

/// Returns sentences about steps, operations, clients, errors and warnings that are not drawn because there are too many.
fn lanes_left_out(story: &Story, clients: &[Client], alarms: &Alarms) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |left_out: usize, what: &str, most: usize| {
        if left_out > 0 {
            notes.push(format!("{} {what}: {} are drawn", thousands(left_out), thousands(most)));
        }
    };
    let deep = story.steps.iter().filter(|step| step.number as usize >= LANES_MAX).count();
    note(deep, "steps that lie deeper in others than the drawing goes have no bar", LANES_MAX);
    let names: BTreeSet<&str> = story.operations.iter().map(|span| span.name.as_str()).collect();
    note(names.len().saturating_sub(LANES_MAX), "more operations have no lane", LANES_MAX);
    note(clients.len().saturating_sub(LANES_MAX), "more clients have no lane", LANES_MAX);
    for (machine, alarms) in alarms {
        let what = format!("more errors and warnings of {machine} have no mark");
        note(alarms.left_out, &what, alarms.marks.len());
    }
    notes
}

/// Returns a lane with items. If there are too many, neighbors are drawn as one, and a sentence about this is added to `notes`.
fn lane(name: &str, shape: &'static str, items: Vec<Item>, notes: &mut Vec<String>) -> Lane {
    let (all, name) = (items.len(), plain(name, 60));
    let (items, left_out) = thinned(items);
    if items.len() < all {
        let (all, drawn) = (thousands(all), thousands(items.len()));
        let missing =
            if left_out == 0 { String::new() } else { format!(", and {} are not drawn", thousands(left_out)) };
        let shown = if name.is_empty() { "an unnamed lane" } else { &name };
        notes.push(format!("{shown}: {all} {shape} are drawn as {drawn}, neighbors of one kind as one{missing}"));
    }
    Lane { name, shape, items }
}

fn item(axis: Axis, (begun_ms, ended_ms): (f64, f64), class: &str, text: &str) -> Item {
    let (left, right) = (axis.percent(begun_ms), axis.percent(ended_ms));
    let text = plain(text, 160);
    let title = format!(
        "{text}\n{} s to {} s, {}",
        moment(begun_ms).text,
        moment(ended_ms).text,
        duration(ended_ms - begun_ms)
    );
    let width = right - left;
    let text = if width > LABELED || matches!(class, "phase" | "step" | "fault") { text } else { String::new() };
    Item { at_ms: moment(begun_ms).at_ms, left, width, class: class.to_owned(), text, title }
}

fn mark(axis: Axis, at_ms: f64, class: &str, text: &str) -> Item {
    let title = format!("{} s: {}", moment(at_ms).text, plain(text, 300));
    let left = axis.percent(at_ms);
    Item { at_ms: moment(at_ms).at_ms, left, width: 0.0, class: class.to_owned(), text: String::new(), title }
}

/// Groups spans by name, in the order in which the names first occur.
fn by_name(spans: &[Span]) -> Vec<(String, Vec<&Span>)> {
    let mut names: Vec<(String, Vec<&Span>)> = Vec::new();
    for span in spans {
        match names.iter_mut().find(|(name, _)| *name == span.name) {
            Some((_, of_name)) => of_name.push(span),
            None => names.push((span.name.clone(), vec![span])),
        }
    }
    names.truncate(LANES_MAX);
    names
}

fn commands(axis: Axis, story: &Story) -> Vec<Item> {
    let one = |command: &super::story::Command| {
        let end =
            if command.timed_out { "killed at its deadline".into() } else { format!("status {}", command.status) };
        let text = format!("{}: {} ({end})", command.container, command.text);
        let class = if command.timed_out { "failed" } else { "command" };
        item(axis, (command.begun_ms, command.ended_ms), class, &text)
    };
    story.commands.iter().map(one).collect()
}

/// Returns a bar for each fault that took effect and a mark for each that was not applicable, with the name of its container.
fn fault_items(axis: Axis, story: &Story) -> Vec<(String, Item)> {
    let bit = story.faults.iter().map(|broken| {
        let end = broken.healed_ms.unwrap_or(story.ended_ms);
        let name = broken.description.name();
        let mut item = item(axis, (broken.asked_ms, end), "fault", name);
        item.title = format!(
            "{} on {}\n{} s to {} s\nin effect since {} s: {}",
            broken.description,
            broken.container,
            moment(broken.asked_ms).text,
            moment(end).text,
            moment(broken.bit_ms).text,
            plain(&broken.evidence, 300)
        );
        (broken.container.clone(), item)
    });
    let refused = story.refused.iter().map(|refused| {
        let text = format!("{} on {} was not applicable: {}", refused.description, refused.container, refused.reason);
        (refused.container.clone(), mark(axis, refused.at_ms, "refused", &text))
    });
    bit.chain(refused).collect()
}

fn check_items(axis: Axis, story: &Story) -> Vec<Item> {
    let class = |passed: bool| if passed { "passed" } else { "failed" };
    let checks = story.checks.iter().map(|(at, check)| {
        let text = format!("{} [{}] at {}:{}", check.condition, check.values, check.file, check.line);
        mark(axis, *at, class(check.passed), &text)
    });
    let invariants = story.invariants.iter().map(|(at, invariant)| {
        let held = invariant.held || invariant.kind == InvariantKind::Sometimes;
        let text = format!("{} [{}] at {}:{}", invariant.name, invariant.values, invariant.file, invariant.line);
        mark(axis, *at, class(held), &text)
    });
    let defects = story.defects.iter().map(|(at, defect)| {
        let text = format!("known defect {} at {}:{}", defect.defect, defect.file, defect.line);
        mark(axis, *at, if defect.outcome == DefectOutcome::Known { "known" } else { "failed" }, &text)
    });
    let findings = story.findings.iter().map(|(at, finding)| {
        let text = format!("finding {}: {}: {}", finding.kind, finding.about, finding.detail);
        mark(axis, *at, if finding.expected { "passed" } else { "warning" }, &text)
    });
    let aborted = story.aborted.iter().map(|(at, message, _)| mark(axis, *at, "failed", message));
    let mut items: Vec<Item> = checks.chain(invariants).chain(defects).chain(findings).chain(aborted).collect();
    items.sort_by(|one, two| one.at_ms.total_cmp(&two.at_ms));
    items
}

fn picture_items(axis: Axis, story: &Story) -> Vec<Item> {
    story.pictures.iter().map(|(at, shot)| mark(axis, *at, "picture", &format!("picture {}", shot.name))).collect()
}

/// Distributes items over as many rows as are needed for the items of a row not to overlap.
fn side_by_side(mut items: Vec<Item>) -> Vec<Vec<Item>> {
    items.sort_by(|one, two| one.left.total_cmp(&two.left));
    let mut rows: Vec<Vec<Item>> = Vec::new();
    for item in items {
        let is_free = |row: &&mut Vec<Item>| row.last().is_none_or(|last| last.left + last.width <= item.left);
        match rows.iter_mut().find(is_free) {
            Some(row) => row.push(item),
            None => rows.push(vec![item]),
        }
    }
    rows
}

/// Reduces items to at most [`ITEMS_MAX`] by merging neighbors of the same class. If merging does not suffice, items are left out; returns
/// the remaining items and the number of those left out.
fn thinned(mut items: Vec<Item>) -> (Vec<Item>, usize) {
    let mut gap = 0.05;
    while items.len() > ITEMS_MAX && gap < 100.0 {
        let mut fewer: Vec<Item> = Vec::new();
        for item in items {
            match fewer.last_mut() {
                Some(last) if last.class == item.class && item.left - (last.left + last.width) < gap => {
                    last.width = (item.left + item.width - last.left).max(last.width);
                    if !last.title.ends_with(MORE) {
                        last.title.push_str(MORE);
                    }
                }
                _ => fewer.push(item),
            }
        }
        items = fewer;
        gap *= 2.0;
    }
    let left_out = items.len().saturating_sub(ITEMS_MAX);
    items.truncate(ITEMS_MAX);
    (items, left_out)
}

/// End of the tooltip of an item that stands for several merged items.
const MORE: &str = "\nand others close to it";

#[cfg(test)]
mod tests {
    use super::*;

    fn axis() -> Axis {
        Axis::new(0.0, 10_000.0)
    }

    #[test]
    fn bars_stand_at_their_times() {
        let bar = item(axis(), (1000.0, 3500.0), "step", "load");
        assert_eq!((bar.left, bar.width, bar.at_ms), (10.0, 25.0, 1000.0));
        assert_eq!(bar.title, "load\n1.000 s to 3.500 s, 2.500 s");
    }

    #[test]
    fn what_overlaps_stands_in_rows() {
        let bar = |begun_ms, ended_ms| item(axis(), (begun_ms, ended_ms), "fault", "f");
        let rows = side_by_side(vec![bar(3000.0, 4000.0), bar(1000.0, 3000.0), bar(2000.0, 3500.0)]);
        assert_eq!(rows.iter().map(|row| row[0].left).collect::<Vec<_>>(), [10.0, 20.0]);
        assert_eq!(rows[0].len(), 2);
    }

    #[test]
    fn what_is_not_drawn_is_said_with_its_number() {
        let span = |name: String, number| Span { name, begun_ms: 1.0, ended_ms: 2.0, number, passed: true };
        let story = Story {
            ended_ms: 10.0,
            steps: (0..15).map(|depth| span("s".into(), depth)).collect(),
            operations: (0..14).map(|number| span(format!("o{number}"), 0)).collect(),
            commands: (0..1000)
                .map(|number| super::super::story::Command {
                    begun_ms: f64::from(number) / 100.0,
                    ended_ms: f64::from(number) / 100.0,
                    container: "a".into(),
                    text: "x".into(),
                    status: 0,
                    timed_out: number % 2 == 0,
                    location: None,
                })
                .collect(),
            ..Story::default()
        };
        let clients = Clients {
            clients: (0..13).map(|number| Client { name: number.to_string(), calls: Vec::new() }).collect(),
            notes: vec!["before".into()],
        };
        let alarms =
            Alarms::from([("db".into(), MachineAlarms { marks: vec![(1.0, "error", "x".into())], left_out: 7 })]);
        let notes = timeline(&story, &clients, &alarms, None, Default::default()).notes;
        let expected = [
            "before",
            "Commands: 1,000 bars are drawn as 400, neighbors of one kind as one, and 600 are not drawn",
            "3 steps that lie deeper in others than the drawing goes have no bar: 12 are drawn",
            "2 more operations have no lane: 12 are drawn",
            "1 more clients have no lane: 12 are drawn",
            "7 more errors and warnings of db have no mark: 1 are drawn",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn too_many_marks_become_fewer_and_a_failed_one_stays_its_own() {
        let at = |number: u32| f64::from(number) / 1.5;
        let mut marks: Vec<Item> = (0..15_000).map(|number| mark(axis(), at(number), "passed", "c")).collect();
        marks[7000] = mark(axis(), at(7000), "failed", "c");
        let (thin, left_out) = thinned(marks);
        assert_eq!(left_out, 0);
        assert!(thin.len() <= ITEMS_MAX, "{}", thin.len());
        let failed: Vec<&Item> = thin.iter().filter(|item| item.class == "failed").collect();
        assert_eq!(failed.len(), 1);
        assert!(thin[0].title.ends_with(MORE), "{:?}", thin[0]);
    }
}
