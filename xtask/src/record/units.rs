//! Durations in the record's unit, and for people.

use std::time::Duration;

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A duration in milliseconds as people read it.
#[must_use]
pub fn seconds(milliseconds: f64) -> String {
    let duration = Duration::from_secs_f64((milliseconds / 1e3).max(0.0));
    if duration < Duration::from_secs(60) {
        format!("{:.3} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}
