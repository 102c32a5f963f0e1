//! Plots of the page: their time axis, and colors for which the style sheet substitutes its own, for light and dark screens.

use std::fmt::Display;

use plotters::style::RGBColor;
use serde::Serialize;

/// Colors of curves, in the order of the containers. The style sheet finds them by these values, and substitutes its own.
pub const LINES: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xeb),
    RGBColor(0xbc, 0x4c, 0x00),
    RGBColor(0x1a, 0x7f, 0x64),
    RGBColor(0x82, 0x50, 0xdf),
    RGBColor(0xbf, 0x39, 0x89),
    RGBColor(0x7a, 0x6a, 0x00),
];

/// Color of the samples of an earlier run or a baseline.
pub const BEFORE: RGBColor = RGBColor(0x6e, 0x77, 0x81);
/// Color of the samples of the run that is shown.
pub const NOW: RGBColor = LINES[0];
pub const AXIS: RGBColor = RGBColor(0x57, 0x60, 0x6a);
pub const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

/// Turns an error of the plotting library into an [`anyhow::Error`].
pub fn failed(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("drawing a plot: {error}")
}

/// Adds attributes, such as a class, to the first tag of an SVG drawing.
pub fn with_words(svg: &str, words: &str) -> String {
    svg.replacen("<svg ", &format!("<svg {words} "), 1)
}

/// Approximate number of labels of an axis.
const LABELS: f64 = 8.0;

/// Time axis of the page's plots, in milliseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Axis {
    pub from_ms: f64,
    /// End in milliseconds, greater than the start.
    pub to_ms: f64,
}

/// Label of the time axis, with its position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tick {
    /// Position in percent of the axis.
    pub left: f64,
    /// Time in seconds since the run's start.
    pub text: String,
}

impl Axis {
    /// Returns an axis from `from_ms` to `to_ms`, at least a millisecond long.
    pub fn new(from_ms: f64, to_ms: f64) -> Self {
        Self { from_ms, to_ms: to_ms.max(from_ms + 1.0) }
    }

    /// Returns the position of a moment in percent of the axis; 0 or 100 for a moment outside of the axis.
    pub fn percent(&self, at_ms: f64) -> f64 {
        let share = (at_ms - self.from_ms) / (self.to_ms - self.from_ms);
        (share.clamp(0.0, 1.0) * 1e5).round() / 1e3
    }

    /// Returns the axis's labels, at round times.
    pub fn ticks(&self) -> Vec<Tick> {
        let raw = (self.to_ms - self.from_ms) / LABELS;
        let decade = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|part| part * decade).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw).max(1.0);
        let digits = if step >= 1000.0 {
            0
        } else if step >= 100.0 {
            1
        } else if step >= 10.0 {
            2
        } else {
            3
        };
        let first = (self.from_ms / step).ceil();
        let places = (0..20).map(|number| (first + f64::from(number)) * step).take_while(|at| *at <= self.to_ms);
        places.map(|at| Tick { left: self.percent(at), text: format!("{:.digits$} s", at / 1e3) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from_ms: f64, to_ms: f64, expected: &[&str]) {
        let ticks = Axis::new(from_ms, to_ms).ticks();
        assert_eq!(ticks.iter().map(|tick| tick.text.as_str()).collect::<Vec<_>>(), expected);
        assert!(ticks.is_sorted_by(|one, two| one.left < two.left), "{ticks:?}");
    }

    #[test]
    fn labels_stand_at_round_times() {
        check(0.0, 8000.0, &["0 s", "1 s", "2 s", "3 s", "4 s", "5 s", "6 s", "7 s", "8 s"]);
        check(12_340.0, 12_900.0, &["12.4 s", "12.5 s", "12.6 s", "12.7 s", "12.8 s", "12.9 s"]);
        check(5.0, 5.0, &["0.005 s", "0.006 s"]);
    }

    #[test]
    fn what_lies_outside_is_at_the_edge() {
        let axis = Axis::new(1000.0, 3000.0);
        assert_eq!([0.0, 1000.0, 1500.0, 3000.0, 9000.0].map(|at| axis.percent(at)), [0.0, 0.0, 25.0, 100.0, 100.0]);
    }
}
