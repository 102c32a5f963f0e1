//! Durations in milliseconds, as a record holds them, and as text for people.

use std::time::Duration;

/// Converts a duration to milliseconds, rounded to the microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Formats milliseconds as people read them, such as `2 min 05 s`.
#[must_use]
pub fn seconds(milliseconds: f64) -> String {
    let duration = Duration::from_secs_f64((milliseconds / 1e3).max(0.0));
    if duration < Duration::from_secs(60) {
        format!("{:.3} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}
