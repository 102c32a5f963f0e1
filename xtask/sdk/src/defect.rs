//! Strict expected failures: what the product is known to do wrong.

use std::cell::Cell;
use std::panic::Location;

use e2e_contract::{Defect, DefectOutcome};

use crate::run::chain;
use crate::{Lab, Result};

thread_local! {
    /// How many marks the current thread stands in.
    static MARKS: Cell<u32> = const { Cell::new(0) };
}

/// Whether a check that does not hold is what the surrounding mark expects, and so no failure of the case by itself.
pub fn is_marked() -> bool {
    MARKS.get() > 0
}

/// What the failure of a known defect must contain, see [`Lab::known_defect`].
///
/// ```no_run
/// # use e2e::{FailingWith, failing_with};
/// let expected: FailingWith = failing_with("has no table");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingWith(String);

/// The failure's text with its causes must contain this.
///
/// ```no_run
/// # use e2e::{Lab, Result, failing_with};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.known_defect("product-1.0/no-table", failing_with("has no table"), || {
///     lab.container("app")?.exec(["product", "table"])?.success()?;
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub fn failing_with(text: impl Into<String>) -> FailingWith {
    FailingWith(text.into())
}

impl Lab {
    /// Runs what a known defect of the product makes fail. While it fails with the expected text, the run reports a
    /// known defect and goes on; when it fails in another way, that is a failure of this case; when it does not fail any
    /// more, the case fails with "fixed: remove this mark".
    ///
    /// The name stands under `defects` in `scenario.toml`, and the case has to come by here: a listed defect that was not
    /// looked at fails it too. A `check!` in the body that does not hold counts as the body's failure only in the
    /// thread that calls this.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result, failing_with};
    /// # fn scenario(lab: &Lab) -> Result {
    /// # let app = lab.container("app")?;
    /// lab.known_defect("mancer-0.1.4/df-table", failing_with("has no table"), || {
    ///     app.exec(["python3", "/srv/probe.py", "df-table"])?.success()?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// The failure of `body` if it is another one than expected.
    #[track_caller]
    pub fn known_defect(&self, name: &str, expected: FailingWith, body: impl FnOnce() -> Result) -> Result {
        let FailingWith(failing_with) = expected;
        let (file, line) = (Location::caller().file().to_owned(), Location::caller().line());
        let result = marked(body);
        let failure = result.as_ref().err().map(chain);
        let outcome = match &failure {
            None => DefectOutcome::Fixed,
            Some(failure) if failure.contains(&failing_with) => DefectOutcome::Known,
            Some(_) => DefectOutcome::Different,
        };
        let told = Defect { defect: name.to_owned(), failing_with, outcome, failure, file, line };
        self.connection().call(&told)?;
        match outcome {
            DefectOutcome::Different => {
                result.map_err(|error| error.context(format!("{name} fails in another way than expected")))
            }
            DefectOutcome::Known | DefectOutcome::Fixed => Ok(()),
        }
    }
}

/// Runs a body inside a mark, also when it panics.
fn marked(body: impl FnOnce() -> Result) -> Result {
    struct Unmark;

    impl Drop for Unmark {
        fn drop(&mut self) {
            MARKS.set(MARKS.get() - 1);
        }
    }

    MARKS.set(MARKS.get() + 1);
    let _unmark = Unmark;
    body()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use serde_json::json;

    use super::*;
    use crate::lab::told;

    fn check(body: impl FnOnce() -> Result, outcome: &str, error: Option<&str>) {
        let (lab, seen) = told::lab(|_, _| Ok(json!({})));
        let result = lab.known_defect("product-1/bug", failing_with("no table"), body);
        let asked = seen.lock().unwrap().clone();
        let [(method, params)] = asked.as_slice() else { panic!("one request, not {asked:?}") };
        assert_eq!((method.as_str(), &params["outcome"]), ("defect", &json!(outcome)));
        assert_eq!(params["defect"], "product-1/bug");
        assert!(params["file"].as_str().unwrap().ends_with("defect.rs"));
        let shown = result.err().map(|error| chain(&error));
        match error {
            None => assert_eq!(shown, None),
            Some(text) => assert!(shown.as_deref().unwrap_or_default().contains(text), "{shown:?}"),
        }
    }

    #[test]
    fn a_defect_is_known_different_or_fixed() {
        check(|| Err(anyhow!("df has no table").context("probing df")), "known", None);
        check(|| Err(anyhow!("ssh failed")), "different", Some("ssh failed"));
        check(|| Ok(()), "fixed", None);
    }

    #[test]
    fn a_check_in_a_mark_is_no_failure_of_the_case() {
        check(
            || {
                crate::check!(1 + 1 == 3, "there is no table");
                Ok(())
            },
            "known",
            None,
        );
        assert!(!is_marked());
        let panicked = std::panic::catch_unwind(|| marked(|| panic!("expected by this test")));
        assert!(panicked.is_err() && !is_marked());
    }
}
