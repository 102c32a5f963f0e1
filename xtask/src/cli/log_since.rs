//! Value of `logs --since`: a duration, a date with time, or a time of day.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::record::logs::epoch_ms;

const DAY_MS: f64 = 86_400_000.0;

/// Time before which log lines are not shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Since {
    /// Time since the run's start; for live logs, time before now.
    Duration(Duration),
    /// Date with time, in milliseconds since 1970.
    Moment(f64),
    /// Time of day (UTC), in milliseconds since midnight.
    TimeOfDay(f64),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(moment) = epoch_ms(text) {
            return Ok(Self::Moment(moment));
        }
        if let Some(of_day) = epoch_ms(&format!("1970-01-01T{text}Z")) {
            return Ok(Self::TimeOfDay(of_day));
        }
        // As reports have it: seconds.
        if let Ok(seconds) = text.parse::<f64>()
            && let Ok(duration) = Duration::try_from_secs_f64(seconds)
        {
            return Ok(Self::Duration(duration));
        }
        humantime::parse_duration(text).map(Self::Duration).map_err(|_| {
            "write a duration (90s, 2m30s), a time of day (07:20:25), or a time (2026-11-26T07:20:25Z)".into()
        })
    }
}

impl Since {
    /// Returns the moment in milliseconds since the start of a run, which began at `started_at`.
    pub fn on_clock_of(self, started_at: &str) -> anyhow::Result<f64> {
        let started =
            epoch_ms(started_at).with_context(|| format!("the run began at {started_at:?}, which is no valid time"))?;
        Ok(match self {
            Self::Duration(duration) => duration.as_secs_f64() * 1e3,
            Self::Moment(moment) => moment - started,
            // The first after the run's start, on which day ever that is; a little before it, it is the same day's.
            Self::TimeOfDay(of_day) => {
                let after = (of_day - started).rem_euclid(DAY_MS);
                if after > DAY_MS / 2.0 { after - DAY_MS } else { after }
            }
        })
    }

    /// Returns the moment in milliseconds since 1970: a duration counts back from now, and a time of day is its latest occurrence.
    pub fn before_now(self) -> f64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.before(since_1970.as_secs_f64() * 1e3)
    }

    fn before(self, now_ms: f64) -> f64 {
        match self {
            Self::Duration(duration) => now_ms - duration.as_secs_f64() * 1e3,
            Self::Moment(moment) => moment,
            Self::TimeOfDay(of_day) => now_ms - (now_ms - of_day).rem_euclid(DAY_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str = "2026-11-26T07:20:00.000Z";

    #[test]
    fn moments_are_written_in_many_ways() {
        let check = |text: &str, at_ms: f64| {
            let since: Since = text.parse().unwrap();
            assert!((since.on_clock_of(STARTED).unwrap() - at_ms).abs() < 1e-3, "{text}");
        };
        check("90s", 90_000.0);
        check("2m30s", 150_000.0);
        check("12.5", 12_500.0);
        check("2026-11-26T07:20:25.5Z", 25_500.0);
        check("2026-11-26T08:20:25+01:00", 25_000.0);
        check("07:21:00", 60_000.0);
        check("07:19:00", -60_000.0);
        for bad in ["soon", "", "-3", "25:00:00"] {
            assert!(bad.parse::<Since>().unwrap_err().starts_with("write a duration"), "{bad}");
        }
    }

    #[test]
    fn of_a_live_lab_a_duration_ends_now() {
        let now = epoch_ms(STARTED).unwrap();
        let before = |text: &str| now - text.parse::<Since>().unwrap().before(now);
        assert_eq!(before("10s"), 10_000.0);
        assert_eq!(before("07:19:00"), 60_000.0);
        assert_eq!(before("07:21:00"), DAY_MS - 60_000.0);
    }
}
