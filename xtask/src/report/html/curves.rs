//! Resource usage of each machine, as curves on the case's time axis.

use std::collections::BTreeMap;

use plotters::prelude::{ChartBuilder, IntoDrawingArea as _, LineSeries, SVGBackend};
use plotters::style::Color as _;
use serde::Serialize;

use super::plot::Axis;
use super::plot::{LINES, failed, with_words};
use super::words::{significant, size};
use crate::record::Sampling;

/// Width and height in pixels of a drawing, which the page stretches: fine enough for a thousand samples when zoomed in.
const SIZE: (u32, u32) = (4000, 120);

/// Values of a machine at the times of the samples; `None` while the machine was down.
type Values = Vec<Option<f64>>;

/// Drawing with the curves of one quantity for all machines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curves {
    /// Name of the quantity, such as `CPU`.
    pub name: &'static str,
    /// Text of the value at the top edge of the drawing.
    pub top: String,
    pub svg: String,
    pub values: Vec<Line>,
    /// Format in which the page's script shows a value: `percent`, `bytes` or `bytes_per_second`.
    pub unit: &'static str,
}

/// Curve of one machine in the drawing of a quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name of the machine in the lab.
    pub machine: String,
    /// Values for the page's script, separated by commas; a value is empty while the machine was down.
    pub values: String,
    /// Highest value as text, for readers whose browser runs no script.
    pub highest: String,
}

/// Quantity that is drawn, computed from the columns of a machine's samples.
struct Quantity {
    name: &'static str,
    unit: &'static str,
    /// Columns of the samples whose sum is the quantity.
    columns: &'static [&'static str],
    /// True for a cumulative counter, whose growth between samples is drawn.
    grows: bool,
    /// Least value at the top edge of the drawing, in the quantity's unit, so that small values are drawn as low curves.
    least: f64,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity { name: "CPU", unit: "percent", columns: &["cpu_user_ms", "cpu_system_ms"], grows: true, least: 10.0 },
    Quantity { name: "Memory", unit: "bytes", columns: &["memory_bytes"], grows: false, least: 1_048_576.0 },
    Quantity {
        name: "Disk",
        unit: "bytes_per_second",
        columns: &["read_bytes", "written_bytes"],
        grows: true,
        least: 65_536.0,
    },
    Quantity {
        name: "Network",
        unit: "bytes_per_second",
        columns: &["received_bytes", "sent_bytes"],
        grows: true,
        least: 65_536.0,
    },
];

/// Returns the times of the samples, in milliseconds since the run's start, as text for the page's script, and the curves of an attempt.
pub fn curves(sampling: &Sampling, axis: Axis, machines: &[String]) -> anyhow::Result<(String, Vec<Curves>)> {
    let at_ms = &sampling.at_ms;
    let mut all = Vec::new();
    for quantity in &QUANTITIES {
        let of = |machine: &String| match sampling.series.get(machine) {
            Some(columns) => quantity.values(at_ms, columns),
            None => vec![None; at_ms.len()],
        };
        all.push(quantity.draw(axis, at_ms, machines, &machines.iter().map(of).collect::<Vec<_>>())?);
    }
    let percent = sampling.host.get("cpu_percent").filter(|values| values.iter().any(Option::is_some));
    if let Some(percent) = percent {
        let host = Quantity { name: "Host CPU", unit: "percent", columns: &[], grows: false, least: 100.0 };
        all.push(host.draw(axis, at_ms, &["host".to_owned()], std::slice::from_ref(percent))?);
    }
    Ok((joined(&at_ms.iter().map(|at| Some(at.round())).collect::<Vec<_>>()), all))
}

impl Quantity {
    /// Returns the values to draw, from a machine's columns: their sum, or the growth of the sum since the previous sample as a rate.
    fn values(&self, at_ms: &[f64], columns: &BTreeMap<String, Values>) -> Values {
        let sum = |place: usize| -> Option<f64> {
            let known = self.columns.iter().filter_map(|name| columns.get(*name)?.get(place).copied().flatten());
            known.reduce(|one, two| one + two)
        };
        if !self.grows {
            return (0..at_ms.len()).map(sum).collect();
        }
        let rate = |place: usize| {
            let before = place.checked_sub(1)?;
            let elapsed_ms = at_ms[place] - at_ms[before];
            let grown = sum(place)? - sum(before)?;
            // Milliseconds of work in a millisecond, or bytes in one: as percent, or as bytes in a second.
            let per = if self.unit == "percent" { 100.0 } else { 1000.0 };
            (elapsed_ms > 0.0).then(|| (grown / elapsed_ms * per).max(0.0))
        };
        (0..at_ms.len()).map(rate).collect()
    }

    fn draw(&self, axis: Axis, at_ms: &[f64], machines: &[String], all: &[Values]) -> anyhow::Result<Curves> {
        let highest = |values: &Values| values.iter().flatten().copied().fold(0.0, f64::max);
        let top = all.iter().map(highest).fold(self.least, f64::max);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            // A little room, so that no line is cut at the edge.
            let (low, high) = (-0.04 * top, 1.04 * top);
            let mut chart =
                ChartBuilder::on(&area).build_cartesian_2d(axis.from_ms..axis.to_ms, low..high).map_err(failed)?;
            for (number, values) in all.iter().enumerate() {
                let color = LINES[number % LINES.len()];
                for piece in pieces(at_ms, values) {
                    chart.draw_series(LineSeries::new(piece, color.stroke_width(2))).map_err(failed)?;
                }
            }
            area.present().map_err(failed)?;
        }
        let shown = |value: f64| match self.unit {
            "percent" => format!("{} %", significant(value)),
            "bytes" => size(value),
            _ => format!("{}/s", size(value)),
        };
        let line = |(machine, values): (&String, &Values)| Line {
            machine: machine.clone(),
            values: joined(&values.iter().map(|value| value.map(f64::round)).collect::<Vec<_>>()),
            highest: shown(highest(values)),
        };
        Ok(Curves {
            name: self.name,
            top: shown(top),
            svg: with_words(&svg, r#"class="curve" preserveAspectRatio="none" aria-hidden="true" focusable="false""#),
            values: machines.iter().zip(all).map(line).collect(),
            unit: self.unit,
        })
    }
}

/// Splits a curve at its gaps (where the machine was down) into the pieces to draw.
fn pieces(at_ms: &[f64], values: &[Option<f64>]) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<Option<(f64, f64)>> =
        at_ms.iter().zip(values).map(|(at, value)| value.map(|value| (*at, value))).collect();
    let pieces = points.split(Option::is_none).map(|piece| piece.iter().flatten().copied().collect::<Vec<_>>());
    pieces.filter(|piece| piece.len() > 1).collect()
}

fn joined(values: &[Option<f64>]) -> String {
    values.iter().map(|value| value.map(|value| value.to_string()).unwrap_or_default()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        let column = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Values>();
        let mut app = BTreeMap::from([
            ("cpu_user_ms".to_owned(), column(&[0.0, 100.0, 100.0, 400.0])),
            ("cpu_system_ms".to_owned(), column(&[0.0, 50.0, 50.0, 150.0])),
            ("memory_bytes".to_owned(), column(&[1e6, 2e6, 3e6, 4e6])),
        ]);
        app.get_mut("memory_bytes").unwrap()[1] = None;
        Sampling {
            rate_hz: 2,
            thinned: 1,
            ticks: 4,
            own_cpu_ms: 1.0,
            duration_ms: 1500.0,
            at_ms: vec![1000.0, 1500.0, 2000.0, 2500.0],
            series: BTreeMap::from([("app".to_owned(), app)]),
            host: BTreeMap::from([("cpu_percent".to_owned(), column(&[10.0, 20.0, 30.0, 40.0]))]),
        }
    }

    #[test]
    fn what_adds_up_is_shown_as_a_rate_and_a_gap_stays_one() {
        let machines = ["app".to_owned(), "db".to_owned()];
        let (at, curves) = curves(&sampling(), Axis::new(1000.0, 3000.0), &machines).unwrap();
        assert_eq!(at, "1000,1500,2000,2500");
        let names: Vec<_> = curves.iter().map(|one| (one.name, one.values[0].values.as_str())).collect();
        let expected = [
            ("CPU", ",30,0,80"),
            ("Memory", "1000000,,3000000,4000000"),
            ("Disk", ",,,"),
            ("Network", ",,,"),
            ("Host CPU", "10,20,30,40"),
        ];
        assert_eq!(names, expected);
        assert_eq!(curves[0].values[1].values, ",,,", "a machine that nobody looked at");
        assert_eq!((curves[0].top.as_str(), curves[1].values[0].highest.as_str()), ("80.0 %", "3.81 MiB"));
        assert!(curves[0].svg.starts_with("<svg class=\"curve\""), "{}", curves[0].svg);
        assert_eq!(curves[0].svg.matches("<polyline").count(), 1);
        assert!(curves[0].svg.contains("stroke=\"#1F6FEB\""), "{}", curves[0].svg);
    }

    #[test]
    fn a_line_is_broken_where_a_value_lacks() {
        let found = pieces(&[1.0, 2.0, 3.0, 4.0, 5.0], &[Some(1.0), Some(2.0), None, Some(4.0), Some(5.0)]);
        assert_eq!(found, [vec![(1.0, 1.0), (2.0, 2.0)], vec![(4.0, 4.0), (5.0, 5.0)]]);
    }
}
