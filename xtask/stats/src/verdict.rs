//! Verdict on one comparison, and on many at once.

use serde::{Deserialize, Serialize};

use super::holm::holm;

/// Maximum chance that noise makes any of a run's comparisons look changed; [`hold_together`] enforces this bound.
pub const RUN_ALPHA: f64 = 0.05;

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The candidate is worse, by more than noise gives and more than the threshold.
    Regressed,
    /// The candidate is better, by more than noise gives and more than the threshold.
    Improved,
    /// No difference that matters, and enough samples to say so.
    Unchanged,
    /// The samples do not allow an answer: the run does not fail for this reason, and nothing is shown to be unchanged.
    Inconclusive,
}

/// Direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Times, bytes: less is better.
    Lower,
    /// Rates: more is better.
    Higher,
}

/// Verdict of one comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Decision on the comparison.
    pub decision: Decision,
    /// Candidate / baseline in the metric's own unit: 1.1 is 10 % more, whether that is worse or better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<f64>,
    /// The 90 % bootstrap interval of the effect, the lower end first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Probability that noise alone shows as large a change, in either direction; `None` where the rule computes no p-value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// Number of samples of each side; in a duet, of pairs.
    pub samples: usize,
    /// Reason, in one plain sentence.
    pub because: String,
}

/// Threshold of verdicts: the smallest change that matters, in percent of the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    worse_percent: f64,
}

impl Default for Thresholds {
    /// Returns 3 %: telling a smaller change from noise would take too many samples.
    fn default() -> Self {
        Self { worse_percent: 3.0 }
    }
}

impl Thresholds {
    /// Returns thresholds by which changes of less than `worse_percent` do not matter.
    ///
    /// # Errors
    /// When `worse_percent` is not a number from 1 to 1000.
    pub fn smallest(worse_percent: f64) -> Result<Self, String> {
        if (1.0..=1000.0).contains(&worse_percent) {
            return Ok(Self { worse_percent });
        }
        Err(format!(
            "{worse_percent} is no percentage from 1 to 1000: write the smallest change that matters, such as 10"
        ))
    }

    /// Raises the threshold to at least this percentage.
    #[must_use]
    pub fn at_least(self, percent: f64) -> Self {
        Self { worse_percent: self.worse_percent.max(percent) }
    }

    /// Returns the percentage below which a duet never suspects a change: 3 % by default.
    #[must_use]
    pub fn worse_percent(self) -> f64 {
        self.worse_percent
    }

    /// Returns the percentage below which a duet never confirms a change: two thirds of [`Self::worse_percent`], because a second
    /// look that has to find the whole of a change again would miss half of those that are as large as the threshold.
    #[must_use]
    pub fn confirm_percent(self) -> f64 {
        self.worse_percent * 2.0 / 3.0
    }

    /// Returns the percentage within which the whole interval of an unchanged duet lies: five thirds of [`Self::worse_percent`].
    #[must_use]
    pub fn same_percent(self) -> f64 {
        self.worse_percent * 5.0 / 3.0
    }

    /// Returns the percentage that both statistics of a committed comparison have to exceed: no less than 7.5 %, because samples
    /// of different days differ by more than pairs do.
    #[must_use]
    pub fn committed_percent(self) -> f64 {
        self.worse_percent.max(7.5)
    }
}

impl Better {
    /// Returns the cost of a value, of which less is better: the value itself, or its reciprocal where more of it is better.
    #[must_use]
    pub fn cost(self, value: f64) -> f64 {
        match self {
            Self::Lower => value,
            Self::Higher => value.recip(),
        }
    }

    /// Returns the effect, candidate / baseline in the metric's own unit, for the logarithm of a ratio of costs; `None` where it
    /// is not finite.
    #[must_use]
    pub fn effect(self, log_cost: f64) -> Option<f64> {
        let effect = match self {
            Self::Lower => log_cost.exp(),
            Self::Higher => (-log_cost).exp(),
        };
        effect.is_finite().then_some(effect)
    }

    /// Returns the interval of the effect, lower end first, for an interval of the logarithm of a ratio of costs; `None` where an end is
    /// not finite.
    #[must_use]
    pub fn interval(self, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let (low, high) = match self {
            Self::Lower => (low, high),
            Self::Higher => (high, low),
        };
        Some((self.effect(low)?, self.effect(high)?))
    }
}

impl Verdict {
    /// Returns the verdict on two sides that have the same machines and the same program: there was nothing to measure.
    #[must_use]
    pub fn of_same_sides() -> Self {
        let because = "same layers, same program".to_owned();
        Self { decision: Decision::Unchanged, effect: None, interval: None, p: None, samples: 0, because }
    }

    /// Returns an inconclusive verdict with its reason.
    #[must_use]
    pub fn inconclusive(samples: usize, because: impl Into<String>) -> Self {
        let decision = Decision::Inconclusive;
        Self { decision, effect: None, interval: None, p: None, samples, because: because.into() }
    }

    /// Tells whether the verdict says that something changed: regressed or improved.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self.decision, Decision::Regressed | Decision::Improved)
    }
}

impl Decision {
    /// Returns the decision's name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Corrects all verdicts of a run for their number, by Holm's procedure: a change whose p is not significant at [`RUN_ALPHA`] among so many
/// comparisons becomes inconclusive. Verdicts without a p are left as they are, and are not counted among the comparisons.
pub fn hold_together<'a>(verdicts: impl IntoIterator<Item = &'a mut Verdict>) {
    let with_p = verdicts.into_iter().filter_map(|verdict| verdict.p.map(|p| (verdict, p)));
    let (verdicts, p_values): (Vec<&mut Verdict>, Vec<f64>) = with_p.unzip();
    for (verdict, stands) in verdicts.into_iter().zip(holm(&p_values, RUN_ALPHA)) {
        if verdict.is_change() && !stands {
            verdict.because = format!(
                "it looks {}, but among {} comparisons of one run noise shows as much too often: {}",
                verdict.decision,
                p_values.len(),
                verdict.because
            );
            verdict.decision = Decision::Inconclusive;
        }
    }
}

/// Returns the reason why a side's samples cannot be compared as costs, if there is one; `side` is its name in that text.
pub(super) fn complaint(side: &str, samples: &[f64]) -> Option<String> {
    if let Some(bad) = samples.iter().find(|sample| !(sample.is_finite() && **sample > 0.0)) {
        return Some(format!("a value of the {side} is {bad}, where only a finite number above 0 can be compared"));
    }
    let (first, others) = samples.split_first()?;
    #[expect(clippy::float_cmp, reason = "whether they are all one value")]
    let constant = !others.is_empty() && others.iter().all(|sample| sample == first);
    constant.then(|| {
        format!(
            "all {} values of the {side} are {first}: a clock or counter so coarse cannot show a change",
            samples.len()
        )
    })
}

/// Returns the logarithm of a ratio of costs in words for people: `12.3 % worse`.
pub(super) fn shown(log_cost: f64) -> String {
    let percent = log_cost.exp_m1() * 100.0;
    if percent.abs() < 0.05 {
        return "no difference".into();
    }
    format!("{:.1} % {}", percent.abs(), if percent > 0.0 { "worse" } else { "better" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(decision: Decision, p: Option<f64>) -> Verdict {
        Verdict { decision, effect: Some(1.1), interval: Some((1.05, 1.15)), p, samples: 40, because: "x".into() }
    }

    #[test]
    fn among_many_comparisons_a_weak_change_does_not_stand() {
        let mut verdicts = vec![verdict(Decision::Regressed, Some(0.0004)), verdict(Decision::Regressed, Some(0.02))];
        verdicts.push(verdict(Decision::Improved, None));
        verdicts.extend(vec![verdict(Decision::Unchanged, Some(0.9)); 58]);
        hold_together(&mut verdicts);
        let decisions: Vec<Decision> = verdicts.iter().map(|verdict| verdict.decision).take(4).collect();
        use Decision::{Improved, Inconclusive, Regressed, Unchanged};
        assert_eq!(decisions, [Regressed, Inconclusive, Improved, Unchanged]);
        let because = "it looks regressed, but among 60 comparisons of one run noise shows as much too often: x";
        assert_eq!(verdicts[1].because, because);
    }

    #[test]
    fn a_verdict_is_written_and_read() {
        let full = verdict(Decision::Regressed, Some(0.01));
        let text = serde_json::to_string(&full).unwrap();
        assert!(text.starts_with(r#"{"decision":"regressed","effect":1.1,"interval":[1.05,1.15],"p":0.01"#), "{text}");
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), full);
        let empty = Verdict::inconclusive(3, "why");
        let text = serde_json::to_string(&empty).unwrap();
        assert_eq!(text, r#"{"decision":"inconclusive","samples":3,"because":"why"}"#);
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), empty);
    }

    #[test]
    fn thresholds_follow_from_the_smallest_change_that_matters() {
        let percents =
            |it: Thresholds| [it.worse_percent(), it.confirm_percent(), it.same_percent(), it.committed_percent()];
        assert_eq!(percents(Thresholds::default()), [3.0, 2.0, 5.0, 7.5]);
        assert_eq!(percents(Thresholds::smallest(12.0).unwrap()), [12.0, 8.0, 20.0, 12.0]);
        assert_eq!(Thresholds::smallest(4.0).unwrap().at_least(6.0).worse_percent(), 6.0);
        for bad in [0.0, -3.0, 2000.0, f64::NAN, f64::INFINITY] {
            let message = Thresholds::smallest(bad).unwrap_err();
            assert!(message.contains("write the smallest change that matters"), "{message}");
        }
    }

    #[test]
    fn complaints_name_the_side_and_the_value() {
        assert_eq!(complaint("baseline", &[1.0, 2.0]), None);
        assert_eq!(complaint("baseline", &[1.0]), None);
        let constant = complaint("candidate", &[2.0; 30]).unwrap();
        assert_eq!(constant, "all 30 values of the candidate are 2: a clock or counter so coarse cannot show a change");
        let bad = complaint("baseline", &[1.0, f64::NAN]).unwrap();
        assert_eq!(bad, "a value of the baseline is NaN, where only a finite number above 0 can be compared");
    }
}
