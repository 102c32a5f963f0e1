//! Drawings of samples in Criterion's manner: each sample a point, their density a curve, the confidence interval of their median a bar;
//! earlier samples are gray, new ones colored.

use plotters::prelude::{AreaSeries, ChartBuilder, Circle, IntoDrawingArea as _, LineSeries, PathElement, SVGBackend};
use plotters::style::{Color as _, RGBColor};

use super::plot::{AXIS, BEFORE, GRID, NOW, failed, with_words};
use super::words::{count, significant, thousands};

use e2e_stats::{density, median, quantile, resampled};

/// Width and height of a drawing in pixels.
const SIZE: (u32, u32) = (720, 220);

/// Number of points at which a density curve is computed.
const PLACES: usize = 240;

/// Maximum samples drawn as points; of more samples, an evenly spaced selection is drawn.
const POINTS_MAX: usize = 600;

/// Confidence level of the interval of a median.
pub const CONFIDENCE: f64 = 0.9;

/// Seed of the resampling; fixed, so that the same samples always give the same interval.
const SEED: u64 = 1;

/// Draws new samples and earlier ones, if there are any, as SVG; all are in milliseconds. Returns `None` for fewer than five new samples.
pub fn densities(now: &[f64], before: &[f64]) -> anyhow::Result<Option<String>> {
    if now.len() < 5 || !now.iter().chain(before).all(|sample| sample.is_finite()) {
        return Ok(None);
    }
    let Some((low, high)) = range(now, before) else { return Ok(None) };
    let places: Vec<f64> = (0..=PLACES).map(|place| low + (high - low) * place as f64 / PLACES as f64).collect();
    let sides = [(before, BEFORE, -0.14), (now, NOW, -0.36)];
    let curves = sides.map(|(samples, ..)| density(samples, &places));
    let highest = curves.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .x_label_area_size(34)
            .build_cartesian_2d(low..high, -0.5..1.06)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(7)
            .x_desc("milliseconds")
            .x_label_formatter(&|value| significant(*value))
            .bold_line_style(GRID)
            .light_line_style(GRID.mix(0.0))
            .axis_style(AXIS)
            .label_style(("sans-serif", 12, &AXIS))
            .draw()
            .map_err(failed)?;
        for ((samples, color, level), curve) in sides.into_iter().zip(curves) {
            if let Some(curve) = curve.filter(|_| highest > 0.0) {
                let line = places.iter().zip(curve).map(|(place, value)| (*place, value / highest));
                let line: Vec<(f64, f64)> = line.collect();
                let area = AreaSeries::new(line.iter().copied(), 0.0, color.mix(0.18));
                chart.draw_series(area).map_err(failed)?;
                chart.draw_series(LineSeries::new(line, color.stroke_width(2))).map_err(failed)?;
            }
            let points = points(samples, level).filter(|(value, _)| (low..=high).contains(value));
            let dots = points.map(|point| Circle::new(point, 3, color.mix(0.65).filled()));
            chart.draw_series(dots).map_err(failed)?;
            chart.draw_series(bar(samples, level, color)).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(Some(with_words(&svg, r#"class="density" aria-hidden="true" focusable="false""#)))
}

/// Returns the 90 % interval of the median; `None` for fewer than five samples.
pub fn interval(samples: &[f64]) -> Option<(f64, f64)> {
    if samples.len() < 5 { None } else { resampled(samples, CONFIDENCE, SEED, median) }
}

/// Returns the range of values to draw. A few samples far above all others are outside of the range, because they would compress the
/// drawing.
fn range(now: &[f64], before: &[f64]) -> Option<(f64, f64)> {
    let mut all = [now, before].concat();
    all.sort_by(f64::total_cmp);
    let (least, most) = (*all.first()?, *all.last()?);
    let (quarter, three) = (quantile(&all, 0.25)?, quantile(&all, 0.75)?);
    let most = most.min(three + 8.0 * (three - quarter).max(0.02 * three.abs()));
    let room = (0.15 * (most - least)).max(0.01 * most.abs()).max(1e-6);
    Some(((least - room).max(0.0), most + room))
}

/// Returns the number of samples above the drawn range.
fn beyond(now: &[f64], before: &[f64]) -> usize {
    let high = range(now, before).map_or(f64::INFINITY, |(_, high)| high);
    now.iter().chain(before).filter(|sample| **sample > high).count()
}

/// Returns a note on samples outside of the drawn range, and on samples that are not drawn as points; `None` if all are drawn.
pub fn undrawn(now: &[f64], before: &[f64]) -> Option<String> {
    let (all, beyond) = (now.len() + before.len(), beyond(now, before));
    let drawn: usize = [now, before].iter().map(|samples| points(samples, 0.0).count()).sum();
    let beyond = (beyond > 0).then(|| count(beyond, "sample lies further right", "samples lie further right"));
    let thinned = (drawn < all).then(|| format!("{} of {} samples are points", thousands(drawn), thousands(all)));
    let notes: Vec<String> = beyond.into_iter().chain(thinned).collect();
    (!notes.is_empty()).then(|| notes.join(", "))
}

/// Returns the points that show samples near a height `level`, each a little higher or lower so that neighbors can be distinguished.
fn points(samples: &[f64], level: f64) -> impl Iterator<Item = (f64, f64)> {
    let step = samples.len().div_ceil(POINTS_MAX).max(1);
    let lift = |place: usize| ((place * 7) % 11) as f64 / 110.0 - 0.045;
    samples.iter().step_by(step).enumerate().map(move |(place, sample)| (*sample, level + lift(place)))
}

/// Returns the lines that show the interval of the median and, across it, the median.
fn bar(samples: &[f64], level: f64, color: RGBColor) -> Vec<PathElement<(f64, f64)>> {
    let Some(((low, high), middle)) = interval(samples).zip(median(samples)) else { return Vec::new() };
    let below = level - 0.09;
    vec![
        PathElement::new(vec![(low, below), (high, below)], color.stroke_width(3)),
        PathElement::new(vec![(middle, below - 0.035), (middle, below + 0.035)], color.stroke_width(3)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(middle: f64) -> Vec<f64> {
        (0..40).map(|place| middle * (1.0 + f64::from(place * 7 % 40) / 400.0)).collect()
    }

    #[test]
    fn both_sides_are_drawn_with_points_curve_and_interval() {
        let svg = densities(&samples(11.0), &samples(10.0)).unwrap().unwrap();
        assert!(svg.starts_with("<svg class=\"density\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 80);
        for color in ["#1F6FEB", "#6E7781"] {
            assert!(svg.contains(&format!("stroke=\"{color}\"")), "{color}: {svg}");
        }
        let alone = densities(&samples(11.0), &[]).unwrap().unwrap();
        assert!(!alone.contains("#6E7781"), "{alone}");
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        assert_eq!(densities(&[1.0, 2.0], &[]).unwrap(), None);
        assert_eq!(densities(&[1.0, 2.0, f64::NAN, 3.0, 4.0], &[]).unwrap(), None);
        assert!(densities(&[2.0; 9], &[]).unwrap().is_some(), "no spread: points, but no curve");
    }

    #[test]
    fn one_sample_far_away_does_not_press_the_others_together() {
        let mut now = samples(10.0);
        now[7] = 9000.0;
        assert!(range(&now, &[]).unwrap().1 < 40.0);
        assert_eq!((beyond(&now, &[]), beyond(&samples(10.0), &[])), (1, 0));
        assert_eq!(undrawn(&now, &[]).as_deref(), Some("1 sample lies further right"));
        assert_eq!(undrawn(&samples(10.0), &[]), None);
        assert_eq!(undrawn(&[7.0; 1201], &[]).as_deref(), Some("401 of 1,201 samples are points"));
    }
}
