//! Strict expected failures: known defects of the product, which have to fail in the known way.

use std::panic::Location;
use std::sync::{Mutex, PoisonError};

use e2e_contract::{Defect, DefectOutcome};

use crate::check::{MARKS, hold, is_marked};
use crate::error::chain;
use crate::{CheckFailed, Error, Lab, RequestError, Result};

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
/// lab.known_defect("product-1.0/no-table", failing_with("has no table"), |mark| {
///     let table = lab.container("app")?.exec(["product", "table"])?.success()?;
///     mark.observed(format!("a table of {} rows", table.stdout_text()?.lines().count()));
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub fn failing_with(text: impl Into<String>) -> FailingWith {
    FailingWith(text.into())
}

/// Mark of a known defect, in the body that tries it: see [`Lab::known_defect`].
///
/// ```no_run
/// # use e2e::{Container, DefectMark, Result};
/// fn upload(worker: &Container, mark: &DefectMark) -> Result {
///     mark.observed(format!("worker has the file: {} bytes", worker.get("/tmp/sent")?.len()));
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct DefectMark {
    effects: Mutex<Vec<String>>,
}

impl DefectMark {
    /// States an effect that the product promises and the body has seen on a machine, with its values: a file that is there, the time that
    /// a limit took, a process that is gone. What the product says about itself is no effect. Without one, no defect counts as fixed.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result, failing_with};
    /// # fn scenario(lab: &Lab) -> Result {
    /// # let (app, worker) = (lab.container("app")?, lab.container("worker")?);
    /// lab.known_defect("mancer-0.1.4/upload-runs-remotely", failing_with("Host key verification failed"), |mark| {
    ///     app.exec(["python3", "/srv/upload.py", "/tmp/sent"])?.success()?;
    ///     mark.observed(format!("worker has the file: {} bytes", worker.get("/tmp/sent")?.len()));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn observed(&self, effect: impl Into<String>) {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).push(effect.into());
    }

    /// Returns all effects in one line; `None` if none was stated, or blank ones alone.
    fn into_effects(self) -> Option<String> {
        let effects = self.effects.into_inner().unwrap_or_else(PoisonError::into_inner);
        let effects: Vec<&str> =
            effects.iter().map(|effect| effect.trim()).filter(|effect| !effect.is_empty()).collect();
        (!effects.is_empty()).then(|| effects.join("; "))
    }
}

impl Lab {
    /// Runs a body that fails because of a known defect of the product. The mark has three ends:
    ///
    /// - The body fails with the expected text: the run reports a known defect.
    /// - It does not fail, and has stated by [`DefectMark::observed`] what it saw of the promised effect on a machine: the case fails with
    ///   "fixed: remove its mark".
    /// - It fails otherwise, or does not fail and has observed nothing: the case fails with "no longer fails as known: repaired, or broken
    ///   otherwise?".
    ///
    /// The scenario goes on after each of them, and a case that failed here fails at its end.
    ///
    /// `scenario.toml` lists the name under `defects`, and the case has to reach this call: a listed defect that was not tried fails the
    /// case too. A `check!` in the body that does not hold is excused if it is the expected failure, in the thread that calls this; any
    /// other fails the case.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Result, failing_with};
    /// # fn scenario(lab: &Lab) -> Result {
    /// # let app = lab.container("app")?;
    /// lab.known_defect("mancer-0.1.4/df-table", failing_with("has no table"), |mark| {
    ///     let table = app.exec(["python3", "/srv/probe.py", "df-table"])?.success()?;
    ///     mark.observed(format!("df gave {}", table.stdout_text()?.trim()));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the body could not be tried, because the host has failed or the session is over.
    #[track_caller]
    pub fn known_defect(&self, name: &str, expected: FailingWith, body: impl FnOnce(&DefectMark) -> Result) -> Result {
        let FailingWith(failing_with) = expected;
        let (file, line) = (Location::caller().file().to_owned(), Location::caller().line());
        let (open, mark) = (OpenMark::begin(self), DefectMark::default());
        let result = body(&mark);
        let (failure, observed) = (result.as_ref().err().map(chain), mark.into_effects());
        let outcome = DefectOutcome::of(&failing_with, failure.as_deref(), observed.as_deref());
        let expected = result.as_ref().err().filter(|_| outcome == DefectOutcome::Known);
        open.end(|failed| expected.is_some_and(|error| failed.is_in(error)))?;
        let told = Defect { defect: name.to_owned(), failing_with, outcome, failure, observed, file, line };
        self.connection().call(&told)?;
        match result {
            Err(error) if outcome == DefectOutcome::Different && is_of_the_engine(&error) => {
                Err(error.context(format!("{name} could not be tried")))
            }
            _ => Ok(()),
        }
    }
}

/// Tells whether a request failed because the host has failed or the session is over.
fn is_of_the_engine(error: &Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<RequestError>()).any(RequestError::is_of_the_engine)
}

/// Mark of a known defect around the work of the current thread, until the mark is ended or dropped.
struct OpenMark<'a> {
    lab: &'a Lab,
    /// Number of open marks of the thread, this one included.
    depth: usize,
}

impl<'a> OpenMark<'a> {
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

impl Drop for OpenMark<'_> {
    /// Ends the mark, also when the body panics, in which case no check is excused.
    fn drop(&mut self) {
        let _ = self.end(|_| false); // the engine is gone: the case has failed
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use e2e_contract::{ErrorCode, RpcError};
    use serde_json::json;

    use super::*;
    use crate::lab::told;

    fn check(body: impl FnOnce(&DefectMark) -> Result, outcome: &str, observed: Option<&str>) {
        let (lab, seen) = told::lab(|_, _| Ok(json!({})));
        lab.known_defect("product-1/bug", failing_with("no table"), body).unwrap();
        let asked = seen.lock().unwrap().clone();
        let [(method, params)] = asked.as_slice() else { panic!("one request, not {asked:?}") };
        assert_eq!((method.as_str(), &params["outcome"]), ("defect", &json!(outcome)));
        assert_eq!(params["observed"].as_str(), observed);
        assert_eq!(params["defect"], "product-1/bug");
        assert!(params["file"].as_str().unwrap().ends_with("defect.rs"));
    }

    #[test]
    fn a_defect_is_known_fixed_or_different_and_the_scenario_goes_on() {
        let fails = |text: &'static str| move |_: &DefectMark| Err(anyhow!("{text}").context("probing df"));
        check(fails("df has no table"), "known", None);
        check(fails("ssh failed"), "different", None);
        check(|_| Ok(()), "different", None);
        let observes = |effects: &'static [&'static str]| {
            move |mark: &DefectMark| {
                effects.iter().for_each(|effect| mark.observed(*effect));
                Ok(())
            }
        };
        check(observes(&["a table of 3 rows\n", "df ran once"]), "fixed", Some("a table of 3 rows; df ran once"));
        check(observes(&["", " \n"]), "different", None);
        let half = |mark: &DefectMark| {
            mark.observed("a table of 3 rows");
            Err(anyhow!("disk full"))
        };
        check(half, "different", Some("a table of 3 rows"));
    }

    #[test]
    fn a_body_that_the_host_ends_is_told_and_ends_the_scenario() {
        let (lab, seen) = told::lab(|method, _| match method {
            "exec" => Err(RpcError::new(ErrorCode::Infrastructure, "lxc-attach is gone")),
            _ => Ok(json!({})),
        });
        let db = lab.container("db").unwrap();
        let body = |_: &DefectMark| db.exec(["true"]).map(drop).map_err(|error| error.context("probing df"));
        let error = lab.known_defect("product-1/bug", failing_with("no table"), body).unwrap_err();
        let causes = "probing df\n  caused by: exec in db: lxc-attach is gone";
        assert_eq!(chain(&error), format!("product-1/bug could not be tried\n  caused by: {causes}"));
        let (method, params) = seen.lock().unwrap().last().unwrap().clone();
        assert_eq!((method.as_str(), &params["outcome"]), ("defect", &json!("different")));
    }

    #[test]
    fn a_check_in_a_mark_is_no_failure_of_the_case() {
        check(
            |_| {
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
        fn swallows(_: &DefectMark) -> Result {
            let _ = looks();
            Err(anyhow!("has no table"))
        }
        fn looks() -> Result {
            crate::check!(1 + 1 == 3, "rows are still there");
            Ok(())
        }
        fn panics(_: &DefectMark) -> Result {
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
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), |_| looks())), ["defect known"]);
        let with_context = |_: &DefectMark| looks().map_err(|error| error.context("probing df"));
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), with_context)), ["defect known"]);
        let swallowed = |_: &DefectMark| looks().or(Ok(()));
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), swallowed)), ["check -", "defect different"]);
        assert_eq!(told(&|lab| lab.known_defect("p/a", rows(), panics)), ["check -"]);
        let nested = |lab: &Lab| lab.known_defect("p/a", rows(), |_| lab.known_defect("p/b", no_table(), swallows));
        assert_eq!(told(&nested), ["defect known", "check -", "defect different"]);
    }
}
