//! Outcome of a known defect's mark, in the words of every report.

use e2e_contract::{Defect, DefectOutcome};

/// Returns the outcome of a mark. A record from before effects were recorded may call a defect fixed of which nothing was observed: that
/// is [`DefectOutcome::Different`].
#[must_use]
pub fn mark_outcome(mark: &Defect) -> DefectOutcome {
    match mark.outcome {
        DefectOutcome::Fixed if observed(mark).is_none() => DefectOutcome::Different,
        outcome => outcome,
    }
}

/// Describes what was seen of a defect: its failure, or else the effect that was observed.
#[must_use]
pub fn mark_seen(mark: &Defect) -> String {
    match (&mark.failure, observed(mark)) {
        (Some(failure), _) => format!("it failed: {failure}"),
        (None, Some(effect)) => format!("observed: {effect}"),
        (None, None) => "it did not fail, and nothing was observed of the effect".to_owned(),
    }
}

/// Describes why a mark fails its case; `None` for a defect that failed as expected.
#[must_use]
pub fn mark_failure(mark: &Defect) -> Option<String> {
    let (name, place, seen) = (&mark.defect, format!("{}:{}", mark.file, mark.line), mark_seen(mark));
    match mark_outcome(mark) {
        DefectOutcome::Known => None,
        DefectOutcome::Fixed => {
            Some(format!("{name} is fixed: remove its mark at {place}, and its name from scenario.toml; {seen}"))
        }
        DefectOutcome::Different => {
            Some(format!("{name} no longer fails as known: repaired, or broken otherwise? At {place} {seen}"))
        }
    }
}

fn observed(mark: &Defect) -> Option<&str> {
    mark.observed.as_deref().filter(|effect| !effect.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_is_said_of_an_observed_effect_alone() {
        let mark = |outcome, failure: Option<&str>, observed: Option<&str>| Defect {
            defect: "p-1/bug".into(),
            failing_with: "no table".into(),
            outcome,
            failure: failure.map(str::to_owned),
            observed: observed.map(str::to_owned),
            file: "main.rs".into(),
            line: 3,
        };
        let failure = |outcome, failure, observed| mark_failure(&mark(outcome, failure, observed));
        assert_eq!(failure(DefectOutcome::Known, Some("has no table"), None), None);
        assert_eq!(failure(DefectOutcome::Known, Some("has no table"), Some("a file")), None);
        assert_eq!(
            failure(DefectOutcome::Fixed, None, Some("df gave a table of 3 rows")).unwrap(),
            "p-1/bug is fixed: remove its mark at main.rs:3, and its name from scenario.toml; observed: df gave a table \
             of 3 rows"
        );
        let different = "p-1/bug no longer fails as known: repaired, or broken otherwise? At main.rs:3 it";
        assert_eq!(
            failure(DefectOutcome::Different, Some("disk full"), Some("a table")).unwrap(),
            format!("{different} failed: disk full")
        );
        // The second is of a record from before effects were recorded.
        for (outcome, observed) in [(DefectOutcome::Different, None), (DefectOutcome::Fixed, None)] {
            let said = failure(outcome, None, observed).unwrap();
            assert_eq!(said, format!("{different} did not fail, and nothing was observed of the effect"));
        }
        assert_eq!(mark_outcome(&mark(DefectOutcome::Fixed, None, Some(" \n"))), DefectOutcome::Different);
    }
}
