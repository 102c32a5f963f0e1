//! Times, numbers and sizes as text for the page.

use serde::Serialize;

use crate::record::human::stamp;
use crate::record::seconds;
use crate::record::{Verdict, visible_text};

/// Moment of the run, as a number for the page's script and as text for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Milliseconds since the run's start.
    pub at_ms: f64,
    /// Seconds since the run's start, written as in `e2e_test.log`.
    pub text: String,
}

/// Word of the page with its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Word {
    /// CSS class with the word's color.
    pub class: &'static str,
    pub text: &'static str,
}

/// Returns the [`Moment`] at a number of milliseconds since the run's start.
pub fn moment(at_ms: f64) -> Moment {
    Moment { at_ms: (at_ms * 1e3).round() / 1e3, text: stamp(at_ms).trim().to_owned() }
}

/// Returns the wall-clock time (UTC) at `at_ms` of a run that began at `started_at`; `None` if `started_at` is not a valid time.
pub fn wall_clock(started_at: &str, at_ms: f64) -> Option<String> {
    let begun = humantime::parse_rfc3339(started_at).ok()?;
    let at = begun.checked_add(std::time::Duration::try_from_secs_f64(at_ms / 1e3).ok()?)?;
    Some(humantime::format_rfc3339_millis(at).to_string())
}

/// Formats a duration in milliseconds, in units from microseconds to hours.
pub fn duration(milliseconds: f64) -> String {
    if milliseconds.abs() < 1000.0 { format!("{} ms", significant(milliseconds)) } else { seconds(milliseconds) }
}

/// Formats a number with about three significant digits.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Formats a ratio as a signed change in percent: 1.05 is `+5.0 %`.
pub fn change(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

/// Formats a number of bytes in a unit that suits its size.
pub fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", significant(value), UNITS[unit]) }
}

/// Formats a number with its noun, in the singular (`one`) or plural (`many`).
pub fn count(number: usize, one: &str, many: &str) -> String {
    let thing = if number == 1 { one } else { many };
    format!("{} {thing}", thousands(number))
}

/// Formats a whole number with its digits in groups of three.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn verdict(verdict: Verdict) -> Word {
    match verdict {
        Verdict::Passed => Word { class: "passed", text: "passed" },
        Verdict::Failed => Word { class: "failed", text: "failed" },
        Verdict::Flaky => Word { class: "flaky", text: "flaky" },
        Verdict::Infrastructure => Word { class: "infrastructure", text: "no lab" },
        Verdict::Interrupted => Word { class: "interrupted", text: "interrupted" },
        Verdict::Skipped => Word { class: "skipped", text: "skipped" },
    }
}

/// Cuts a text of another program to `characters_max` and makes its hidden characters visible, for the page.
pub fn plain(text: &str, characters_max: usize) -> String {
    let cut = text.char_indices().nth(characters_max).map(|(at, _)| at);
    let mut plain = visible_text(&text[..cut.unwrap_or(text.len())]);
    if cut.is_some() {
        plain.push_str(" … (cut)");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        let durations = [0.5, 12.34, 999.4, 1000.0, 61_000.0].map(duration);
        assert_eq!(durations, ["0.500 ms", "12.3 ms", "999 ms", "1.000 s", "1 min 01 s"]);
        let sizes = [0.0, 1023.0, 1536.0, 3.0 * 1024.0 * 1024.0 * 1024.0].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.50 KiB", "3.00 GiB"]);
        assert_eq!([change(1.082), change(0.9)], ["+8.2 %", "-10.0 %"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([count(1, "line", "lines"), count(1200, "line", "lines")], ["1 line", "1,200 lines"]);
    }

    #[test]
    fn a_moment_is_the_same_in_the_log_and_on_the_page() {
        assert_eq!(moment(93_412.345_6), Moment { at_ms: 93_412.346, text: "93.412".into() });
        let wall = wall_clock("2026-01-01T00:00:00.500Z", 61_250.0);
        assert_eq!(wall.as_deref(), Some("2026-01-01T00:01:01.750Z"));
        assert_eq!(wall_clock("yesterday", 1.0), None);
        assert_eq!(wall_clock("2026-01-01T00:00:00Z", -1.0), None);
    }

    #[test]
    fn text_of_others_is_made_harmless_and_bounded() {
        assert_eq!(plain("a\u{1b}[31mb\tc\nd\u{0}", 100), "ab\tc\nd␀");
        assert_eq!(plain("äöü", 3), "äöü");
        assert_eq!(plain(&"ä".repeat(1 << 20), 2), "ää … (cut)");
    }
}
