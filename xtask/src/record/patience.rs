//! Patience of a run: the factor by which its deadlines were multiplied.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::milliseconds;

/// Factor of a run's deadlines, with the measurement that chose it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecordedPatience {
    /// Factor by which all deadlines are multiplied; as written, deadlines suit a quick machine.
    pub factor: f64,
    /// Time that this machine took to start a program, from which the factor was chosen; absent where the factor was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start_ms: Option<f64>,
}

impl RecordedPatience {
    /// Makes the patience of a run from the factor, and from the measured time to start a program, if any.
    #[must_use]
    pub fn of(factor: f64, process_start: Option<Duration>) -> Self {
        let hundredths = |ms: f64| (ms * 100.0).round() / 100.0;
        Self { factor, process_start_ms: process_start.map(|start| hundredths(milliseconds(start))) }
    }
}

impl fmt::Display for RecordedPatience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.factor)?;
        match self.process_start_ms {
            Some(ms) => write!(formatter, ", measured: a program starts in {ms} ms"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_was_chosen_by() {
        let measured = RecordedPatience::of(6.2, Some(Duration::from_micros(15_512)));
        assert_eq!(measured.to_string(), "6.2, measured: a program starts in 15.51 ms");
        assert_eq!(RecordedPatience::of(2.0, None).to_string(), "2");
        assert_eq!(serde_json::to_string(&RecordedPatience::of(2.0, None)).unwrap(), r#"{"factor":2.0}"#);
    }
}
