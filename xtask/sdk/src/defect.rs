//! Strict expected failures: known defects of the product, which have to fail in the known way.

use std::panic::Location;

use e2e_contract::{Defect, DefectOutcome};

use crate::check::{MARKS, hold, is_marked};
use crate::error::chain;
use crate::{CheckFailed, Lab, Result};

/// Text that the failure of a known defect must contain, see [`Lab::known_defect`].
///
/// ```no_run
/// # use e2e::{FailingWith, failing_with};
/// let expected: FailingWith = failing_with("has no table");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingWith(String);

/// Makes the expectation that the text of a failure, with its causes, contains this text.
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
    /// Runs a body that fails because of a known defect of the product. While it fails with the expected text, the run reports a known
    /// defect and goes on. Another failure is a failure of this case. When the body no longer fails, the case fails with "fixed: remove
    /// this mark".
    ///
    /// `scenario.toml` lists the name under `defects`, and the case has to reach this call: a listed defect that was not tried fails the
    /// case too. A `check!` in the body that does not hold is excused if it is the expected failure, in the thread that calls this; any
    /// other fails the case.
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
    /// The failure of `body` if it is not the expected one.
    #[track_caller]
    pub fn known_defect(&self, name: &str, expected: FailingWith, body: impl FnOnce() -> Result) -> Result {
        let FailingWith(failing_with) = expected;
        let (file, line) = (Location::caller().file().to_owned(), Location::caller().line());
        let mark = Mark::begin(self);
        let result = body();
        let failure = result.as_ref().err().map(chain);
        let outcome = match &failure {
            None => DefectOutcome::Fixed,
            Some(failure) if failure.contains(&failing_with) => DefectOutcome::Known,
            Some(_) => DefectOutcome::Different,
        };
        let expected = result.as_ref().err().filter(|_| outcome == DefectOutcome::Known);
        mark.end(|failed| expected.is_some_and(|error| failed.is_in(error)))?;
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

/// Mark of a known defect around the work of the current thread, until the mark is ended or dropped.
struct Mark<'a> {
    lab: &'a Lab,
    /// Number of open marks of the thread, this one included.
    depth: usize,
}

impl<'a> Mark<'a> {
    fn begin(lab: &'a Lab) -> Self {
        let depth = MARKS.with_borrow_mut(|marks| {
            marks.push(Vec::new());
            marks.len()
        });
        Self { lab, depth }
    }

    /// Ends the mark, and reports its failed checks that are not excused to the mark around this one, which may still excuse them, or
    /// else to the engine. A second call reports nothing.
    fn end(&self, is_excused: impl Fn(&CheckFailed) -> bool) -> Result {
        let held = MARKS.with_borrow_mut(|marks| {
            let held = marks.split_off((self.depth - 1).min(marks.len()));
            held.into_iter().flatten().collect::<Vec<_>>()
        });
        for failed in held.into_iter().filter(|failed| !is_excused(failed)) {
            if is_marked() {
                hold(failed);
            } else {
                self.lab.connection().call(failed.check())?;
            }
        }
        Ok(())
    }
}

impl Drop for Mark<'_> {
    /// Ends the mark, also when the body panics, in which case no check is excused.
    fn drop(&mut self) {
        let _ = self.end(|_| false); // the engine is gone: the case has failed
    }
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
    }

    #[test]
    fn only_the_expected_failure_is_excused() {
        fn swallows() -> Result {
            let _ = looks();
            Err(anyhow!("has no table"))
        }
        fn looks() -> Result {
            crate::check!(1 + 1 == 3, "rows are still there");
            Ok(())
        }
        fn panics() -> Result {
            let _ = looks();
            panic!("expected by this test")
        }
        fn told_of(lab: &Lab, seen: &told::Seen, body: impl FnOnce(&Lab) -> Result) -> Vec<String> {
            seen.lock().unwrap().clear();
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(lab)));
            assert!(!is_marked());
            let asked = seen.lock().unwrap().clone();
            asked
                .iter()
                .map(|(method, params)| format!("{method} {}", params["outcome"].as_str().unwrap_or("-")))
                .collect()
        }
        let (lab, seen) = told::lab(|_, _| Ok(json!({})));
        let no_table = || failing_with("has no table");
        let rows = || failing_with("rows are still");
        let told = |body: &dyn Fn(&Lab) -> Result| told_of(&lab, &seen, body);
        assert_eq!(told(&|lab| lab.known_defect("p/a", no_table(), swallows)), ["check -", "defect known"]);
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), looks)), ["defect known"]);
        let with_context = || looks().map_err(|error| error.context("probing df"));
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), with_context)), ["defect known"]);
        let swallowed = || looks().or(Ok(()));
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), swallowed)), ["check -", "defect fixed"]);
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), panics)), ["check -"]);
        let nested = |lab: &Lab| lab.known_defect("p/a", rows(), || lab.known_defect("p/b", no_table(), swallows));
        assert_eq!(told(&nested), ["defect known", "check -", "defect fixed"]);
    }
}
