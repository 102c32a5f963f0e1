//! Views of measured operations and of the verdicts on them.

use serde::Serialize;

use super::densities::{densities, interval, undrawn};
use super::words::{Word, change, count, duration};
use crate::record::{CaseResult, Comparison, Operation, PastRun, Performance, Sample, Way};
use e2e_stats::{Decision, median};

/// View of an operation that one attempt measured.
#[derive(Debug, Clone, Serialize)]
pub struct OperationView {
    pub name: String,
    /// Name of the operation that contains this operation.
    pub parent: Option<String>,
    /// Numbers of successful and of planned repetitions, in words.
    pub samples: String,
    pub failed: u32,
    /// Median of the wall time, with its unit.
    pub median: String,
    /// 90 % confidence interval of the median wall time.
    pub interval: Option<String>,
    /// Median of the processor time, with its unit.
    pub cpu: String,
    pub drawing: Option<String>,
    /// Note on samples that are not drawn.
    pub undrawn: Option<String>,
}

/// View of the comparison of one operation with a baseline.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonView {
    pub case: String,
    pub operation: String,
    /// Name of the compared metric, for people.
    pub metric: String,
    pub decision: Word,
    pub sentence: String,
    /// Reason for the decision, as a sentence.
    pub because: String,
    /// Measured change and its confidence interval, in percent.
    pub effect: Option<String>,
    /// Measured change on a scale from -25 % to +25 %.
    pub scale: Option<Scale>,
    pub drawing: Option<String>,
    /// Note on samples that are not drawn.
    pub undrawn: Option<String>,
    /// Number of samples, kind of the comparison, and p-value, in words.
    pub facts: String,
    /// Reason why samples are missing in the drawing.
    pub problem: Option<String>,
}

/// Positions of a measured change and its interval on a scale, in percent of the scale's width; no change is at 50.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scale {
    /// Left end of the interval, in percent of the scale's width.
    pub left: f64,
    /// Width of the interval, in percent of the scale's width.
    pub width: f64,
    /// Position of the measured change, in percent of the scale's width.
    pub middle: f64,
    /// Change at the ends of the scale, such as `25 %`.
    pub end: String,
}

/// Returns views of the operations that an attempt measured.
pub fn operations(performance: &Performance) -> anyhow::Result<Vec<OperationView>> {
    performance.operations.iter().map(|(name, operation)| view(name, operation)).collect()
}

fn view(name: &str, operation: &Operation) -> anyhow::Result<OperationView> {
    let wall: Vec<f64> = operation.samples.iter().map(|sample| sample.wall_ms).collect();
    let cpu: Vec<f64> = operation.samples.iter().map(|sample| sample.cpu_ms).collect();
    let shown = |samples: &[f64]| median(samples).map_or_else(|| "-".into(), duration);
    Ok(OperationView {
        name: name.to_owned(),
        parent: operation.parent.clone(),
        samples: format!("{} of {}", wall.len(), operation.planned.max(1)),
        failed: operation.failed,
        median: shown(&wall),
        interval: interval(&wall).map(|(low, high)| format!("{} to {}", duration(low), duration(high))),
        cpu: shown(&cpu),
        drawing: densities(&wall, &[])?,
        undrawn: undrawn(&wall, &[]),
    })
}

/// Returns views of all comparisons of a run, regressions first.
pub fn comparisons(run: &PastRun) -> anyhow::Result<Vec<ComparisonView>> {
    let mut order: Vec<&Comparison> = run.record.comparisons.iter().collect();
    order.sort_by_key(|one| (one.verdict.decision, !one.gates));
    order.into_iter().map(|comparison| compared(run, comparison)).collect()
}

fn compared(run: &PastRun, comparison: &Comparison) -> anyhow::Result<ComparisonView> {
    let case = run.record.cases.iter().find(|result| result.case == comparison.case);
    let (mut now, mut before) = (Vec::new(), comparison.baseline_samples.clone());
    let mut problem = None;
    if let Some(case) = case {
        let mut read = |folder: &dyn Fn(&str) -> String| {
            samples(run, case, comparison, folder).unwrap_or_else(|error| {
                problem = Some(format!("{error:#}"));
                Vec::new()
            })
        };
        now = read(&str::to_owned);
        if comparison.way != Way::Committed {
            before = read(&baseline_folder);
        }
    }
    let verdict = &comparison.verdict;
    let metric = match comparison.metric.as_str() {
        "cpu_ms" => "processor time",
        "wall_ms" => "wall time",
        "wall_minus_wait_ms" => "wall time without the wait for a processor",
        other => other,
    };
    let decision = decision(verdict.decision);
    let interval = verdict.interval.map(|(low, high)| format!(" [{}, {}]", change(low), change(high)));
    let effect = verdict.effect.map(|effect| format!("{}{}", change(effect), interval.unwrap_or_default()));
    let way = match comparison.way {
        Way::Committed => "against the committed baseline",
        Way::Duet => "side by side with the baseline, pair by pair",
        Way::Settled => "side by side with the machines of the committed baseline, pair by pair",
    };
    let p = verdict.p.map_or_else(String::new, |p| format!(", p {p:.4}"));
    let was =
        comparison.was.as_ref().map(|was| format!(". Against its samples it was {}: {}", was.decision, was.because));
    Ok(ComparisonView {
        case: comparison.case.to_string(),
        operation: comparison.operation.clone(),
        metric: metric.to_owned(),
        decision,
        sentence: sentence(comparison, metric),
        because: format!("{}{}", verdict.because, was.unwrap_or_default()),
        effect,
        scale: verdict.effect.zip(verdict.interval).map(|(effect, interval)| scale(effect, interval)),
        drawing: densities(&now, &before)?,
        undrawn: undrawn(&now, &before),
        facts: format!("{} {way}{p}", count(verdict.samples, "sample", "samples of each side")),
        problem,
    })
}

/// Returns the samples of a comparison's metric from all attempts at its case; `folder` maps an attempt's folder to the folder of its
/// measurements.
fn samples(
    run: &PastRun,
    case: &CaseResult,
    comparison: &Comparison,
    folder: &dyn Fn(&str) -> String,
) -> anyhow::Result<Vec<f64>> {
    let value = |sample: &Sample| sample.metric(&comparison.metric);
    let mut all = Vec::new();
    for attempt in &case.attempts {
        // The attempt that was compared with the committed samples has no other side.
        if comparison.way == Way::Settled && run.performance(&baseline_folder(&attempt.folder))?.is_none() {
            continue;
        }
        let performance = run.performance(&folder(&attempt.folder))?;
        let operation = performance.as_ref().and_then(|it| it.operations.get(&comparison.operation));
        all.extend(operation.iter().flat_map(|operation| operation.samples.iter().filter_map(value)));
    }
    Ok(all)
}

/// Returns the folder of the baseline's measurements in a duet, from the folder of the candidate's attempt.
fn baseline_folder(folder: &str) -> String {
    match folder.rsplit_once("/attempt-") {
        Some((case, number)) => format!("{case}/baseline/attempt-{number}"),
        None => format!("{folder}/baseline"),
    }
}

pub fn decision(decision: Decision) -> Word {
    match decision {
        Decision::Regressed => Word { class: "failed", text: "worse" },
        Decision::Improved => Word { class: "passed", text: "better" },
        Decision::Unchanged => Word { class: "passed", text: "unchanged" },
        Decision::Inconclusive => Word { class: "skipped", text: "inconclusive" },
    }
}

fn sentence(comparison: &Comparison, metric: &str) -> String {
    let verdict = &comparison.verdict;
    let by = verdict.effect.map_or_else(
        || "differently much".to_owned(),
        |effect| {
            let more = if effect >= 1.0 { "more" } else { "less" };
            format!("{:.1} % {more}", (effect - 1.0).abs() * 100.0)
        },
    );
    let name = &comparison.operation;
    match verdict.decision {
        Decision::Regressed if comparison.gates => {
            format!("{name} has become worse: it takes {by} {metric}, beyond noise and threshold. This fails the run.")
        }
        Decision::Regressed => {
            format!("{name} looks worse: it takes {by} {metric}. This metric alone fails nothing.")
        }
        Decision::Improved => format!("{name} has become better: it takes {by} {metric}, beyond noise and threshold."),
        Decision::Unchanged => format!("{name} takes as much {metric} as before, as far as it matters."),
        Decision::Inconclusive => format!("Nothing can be said of the {metric} of {name}."),
    }
}

fn scale(effect: f64, (low, high): (f64, f64)) -> Scale {
    let furthest = [effect, low, high].map(|ratio| (ratio - 1.0).abs()).into_iter().fold(0.05, f64::max);
    let end = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|end| *end >= furthest).unwrap_or(furthest);
    let place = |ratio: f64| ((ratio - 1.0) / end * 50.0 + 50.0).clamp(0.0, 100.0);
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let (left, right) = (place(low.min(high)), place(high.max(low)));
    let end = format!("{:.0} %", end * 100.0);
    Scale { left: rounded(left), width: rounded((right - left).max(0.4)), middle: rounded(place(effect)), end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;
    use e2e_stats::Verdict;

    fn comparison(decision: Decision, effect: Option<f64>, gates: bool) -> Comparison {
        let verdict = Verdict { effect, ..Verdict::inconclusive(30, "why") };
        Comparison {
            case: CaseId("a/b:c".into()),
            operation: "query".into(),
            metric: "cpu_ms".into(),
            way: Way::Committed,
            gates,
            missing: false,
            baseline_samples: Vec::new(),
            was: None,
            verdict: Verdict { decision, ..verdict },
        }
    }

    #[test]
    fn verdicts_are_told_in_words() {
        let told = |decision, effect, gates| sentence(&comparison(decision, effect, gates), "processor time");
        assert_eq!(
            told(Decision::Regressed, Some(1.082), true),
            "query has become worse: it takes 8.2 % more processor time, beyond noise and threshold. This fails the run."
        );
        assert!(told(Decision::Regressed, Some(1.3), false).ends_with("This metric alone fails nothing."));
        assert!(told(Decision::Improved, Some(0.9), true).contains("10.0 % less"));
        assert_eq!(told(Decision::Inconclusive, None, true), "Nothing can be said of the processor time of query.");
    }

    #[test]
    fn an_effect_lies_on_a_scale_around_no_change() {
        let scale = scale(1.1, (1.05, 1.2));
        assert_eq!(scale, Scale { left: 60.0, width: 30.0, middle: 70.0, end: "25 %".into() });
    }

    #[test]
    fn the_other_side_of_a_duet_lies_beside_its_attempt() {
        assert_eq!(baseline_folder("a/b"), "a/b/baseline");
        assert_eq!(baseline_folder("a/b/attempt-2"), "a/b/baseline/attempt-2");
    }
}
