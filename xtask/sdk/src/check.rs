//! Macro `check!`: a condition that passes or fails, recorded with its values.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use e2e_contract::Check;

use crate::connection::OF_THIS_PROCESS;
use crate::{RequestError, Result};

/// Checks a condition, records it with its values, and returns from the surrounding function when it does not hold.
///
/// ```no_run
/// # use e2e::{Result, check};
/// # fn scenario(rows: u64, text: &str, list: &[u64]) -> Result {
/// check!(rows == 20_000, "every row of the fixture was loaded");
/// check!(text.contains("done"));
/// check!(rows < 30_000, "{} lists give at most {rows} rows", list.len());
/// check!(list.len() == text.chars().map(|c| c as usize).sum::<usize>());
/// check!((1.0..2.0).contains(&1.5) && !list.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// A comparison (`==`, `!=`, `<`, `<=`, `>`, `>=`) evaluates each side once and shows both values, which need
/// `Debug`; a longer value is cut after 2,000 characters. Anything else is a `bool`, also what has `&&` or `||` at its
/// top level. The message is a format string. Passed checks are recorded too. It may be used in any function that
/// returns `Result<_, anyhow::Error>`, in any thread, and needs no lab.
///
/// Parentheses lift all limits of the macro. A condition in parentheses of its own, `check!((a == b))`, is a plain `bool` and needs no
/// `Debug`; use them for any condition that the macro should not take apart. A path such as `<T as Trait>::f()` is understood at the
/// start of a side, not behind a `&` or `!`. A comma before a literal starts the message, so `f::<A, 3>()` needs parentheses. More than
/// about a hundred words at the top level exceed the compiler's recursion limit.
#[macro_export]
macro_rules! check {
    ($($tokens:tt)+) => { $crate::__check!(@scan [] [] [] [] ($($tokens)+) ($($tokens)+)) };
}

/// Splits a condition: `@scan [left side] [operator] [tokens since then] [open angle brackets] (rest) (rest)`. The rest is passed twice:
/// once to match a token, and once to take the author's own token, whose spacing the record then shows.
#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    // Inside angle brackets nothing is an operator.
    (@scan $l:tt $o:tt [$($now:tt)*] [< < $($open:tt)*] (>> $($rest:tt)*) ($this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$($now)* $this] [$($open)*] ($($rest)*) ($($same)*))
    };
    (@scan $l:tt $o:tt [$($now:tt)*] [< $($open:tt)*] (> $($rest:tt)*) ($this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$($now)* $this] [$($open)*] ($($rest)*) ($($same)*))
    };
    (@scan $l:tt $o:tt [$($now:tt)*] [< $($open:tt)*] (< $($rest:tt)*) ($this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$($now)* $this] [< < $($open)*] ($($rest)*) ($($same)*))
    };
    (@scan $l:tt $o:tt [$($now:tt)*] [< $($open:tt)*] ($next:tt $($rest:tt)*) $same:tt) => {
        $crate::__check!(@scan $l $o [$($now)* $next] [< $($open)*] ($($rest)*) ($($rest)*))
    };
    // The end, with or without a message.
    (@scan $l:tt $o:tt $now:tt [] ($(,)?) $same:tt) => {
        $crate::__check!(@finish $l $o $now (::core::option::Option::None))
    };
    (@scan $l:tt $o:tt $now:tt [] (, $format:literal $($arguments:tt)*) $same:tt) => {
        $crate::__check!(@finish $l $o $now (::core::option::Option::Some(::std::format!($format $($arguments)*))))
    };
    // Angle brackets open after `::` and at the start of a side.
    (@scan $l:tt $o:tt [$($now:tt)*] [] (:: < $($rest:tt)*) ($path:tt $this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$($now)* $path $this] [<] ($($rest)*) ($($same)*))
    };
    (@scan $l:tt $o:tt [] [] (< $($rest:tt)*) ($this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$this] [<] ($($rest)*) ($($same)*))
    };
    // `&&` at the start of a side is a reference; elsewhere it binds less than a comparison, so this is a bool.
    (@scan $l:tt $o:tt [] [] (&& $($rest:tt)*) ($this:tt $($same:tt)*)) => {
        $crate::__check!(@scan $l $o [$this] [] ($($rest)*) ($($same)*))
    };
    (@scan [$($l:tt)*] [$($o:tt)?] [$($now:tt)+] [] (&& $($rest:tt)*) $same:tt) => {
        $crate::__check!(@bool [$($l)* $($o)? $($now)+ &&] $($rest)*)
    };
    (@scan [$($l:tt)*] [$($o:tt)?] [$($now:tt)+] [] (|| $($rest:tt)*) $same:tt) => {
        $crate::__check!(@bool [$($l)* $($o)? $($now)+ ||] $($rest)*)
    };
    // The operator. There is one at most: Rust does not chain comparisons.
    (@scan [] [] [$($now:tt)+] [] (== $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [==] [] [] ($($rest)+) ($($rest)+))
    };
    (@scan [] [] [$($now:tt)+] [] (!= $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [!=] [] [] ($($rest)+) ($($rest)+))
    };
    (@scan [] [] [$($now:tt)+] [] (<= $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [<=] [] [] ($($rest)+) ($($rest)+))
    };
    (@scan [] [] [$($now:tt)+] [] (>= $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [>=] [] [] ($($rest)+) ($($rest)+))
    };
    (@scan [] [] [$($now:tt)+] [] (< $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [<] [] [] ($($rest)+) ($($rest)+))
    };
    (@scan [] [] [$($now:tt)+] [] (> $($rest:tt)+) $same:tt) => {
        $crate::__check!(@scan [$($now)+] [>] [] [] ($($rest)+) ($($rest)+))
    };
    // Any other token.
    (@scan $l:tt $o:tt [$($now:tt)*] [] ($next:tt $($rest:tt)*) $same:tt) => {
        $crate::__check!(@scan $l $o [$($now)* $next] [] ($($rest)*) ($($rest)*))
    };

    // The rest of a bool: only the message is still to be found.
    (@bool $all:tt $(,)?) => {
        $crate::__check!(@finish [] [] $all (::core::option::Option::None))
    };
    (@bool $all:tt , $format:literal $($arguments:tt)*) => {
        $crate::__check!(@finish [] [] $all (::core::option::Option::Some(::std::format!($format $($arguments)*))))
    };
    (@bool [$($all:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__check!(@bool [$($all)* $next] $($rest)*)
    };

    (@finish [] [] [$($condition:tt)+] $message:tt) => {
        $crate::__check!(@evaluate ($($condition)+) $message)
    };
    (@finish [$($left:tt)+] [$operator:tt] [$($right:tt)+] $message:tt) => {
        $crate::__check!(@compare ($($left)+) $operator ($($right)+) $message)
    };

    (@evaluate ($condition:expr) $message:tt) => {{
        let passed = $crate::__private::holds(&$condition);
        $crate::__private::record(
            passed,
            ::core::stringify!($condition),
            ::std::string::String::new(),
            $message,
            ::core::file!(),
            ::core::line!(),
        )?;
    }};
    (@compare ($left:expr) $operator:tt ($right:expr) $message:tt) => {{
        let (passed, values) = match (&$left, &$right) {
            (left, right) => (
                *left $operator *right,
                $crate::__private::values(
                    (::core::stringify!($left), left),
                    (::core::stringify!($right), right),
                ),
            ),
        };
        $crate::__private::record(
            passed,
            ::core::concat!(
                ::core::stringify!($left),
                " ",
                ::core::stringify!($operator),
                " ",
                ::core::stringify!($right)
            ),
            values,
            $message,
            ::core::file!(),
            ::core::line!(),
        )?;
    }};
}

/// Error of a check that did not hold. The macro has reported the check to the engine already.
///
/// ```no_run
/// # use e2e::{CheckFailed, Lab, Result, check};
/// # fn scenario(lab: &Lab) -> Result {
/// fn looks(rows: u64) -> Result {
///     check!(rows == 20_000);
///     Ok(())
/// }
/// assert!(looks(1).unwrap_err().is::<CheckFailed>());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CheckFailed {
    check: Check,
    /// Number that identifies this error and its copies.
    serial: u64,
}

impl CheckFailed {
    fn new(check: Check) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { check, serial: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Makes the failure of a named condition without values.
    pub(crate) fn of(name: &str, file: &str, line: u32) -> Self {
        let (condition, file) = (name.to_owned(), file.to_owned());
        Self::new(Check { passed: false, condition, values: String::new(), message: None, file, line })
    }

    /// Tells whether `error` is this failure, or has it among its causes.
    pub(crate) fn is_in(&self, error: &anyhow::Error) -> bool {
        error.chain().filter_map(|cause| cause.downcast_ref::<Self>()).any(|other| other.serial == self.serial)
    }

    /// Returns the check that did not hold.
    pub(crate) fn check(&self) -> &Check {
        &self.check
    }
}

impl fmt::Display for CheckFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { condition, values, message, file, line, .. } = &self.check;
        write!(f, "check failed at {file}:{line}: {condition}")?;
        if !values.is_empty() {
            write!(f, "; {values}")?;
        }
        if let Some(message) = message {
            write!(f, "; {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CheckFailed {}

thread_local! {
    /// Checks that did not hold within the current thread's open marks of known defects, the outermost mark first.
    pub(crate) static MARKS: RefCell<Vec<Vec<CheckFailed>>> = const { RefCell::new(Vec::new()) };
}

/// Tells whether the current thread is within the mark of a known defect. A check that does not hold there may be the expected failure,
/// so it is reported only when the mark ends, and only if it was not expected.
pub(crate) fn is_marked() -> bool {
    MARKS.with_borrow(|marks| !marks.is_empty())
}

/// Keeps a check that did not hold until the innermost mark ends. Does nothing outside of marks.
pub(crate) fn hold(failed: CheckFailed) {
    MARKS.with_borrow_mut(|marks| marks.last_mut().map(|held| held.push(failed)));
}

/// Returns a condition that is given by reference, so that the compiler does not warn of parentheses around it.
pub fn holds(condition: &bool) -> bool {
    *condition
}

/// Reports a check to the engine, or keeps it for the surrounding mark of a known defect; an error where it did not hold.
pub fn record(passed: bool, condition: &str, values: String, message: Option<String>, file: &str, line: u32) -> Result {
    let check = Check { passed, condition: one_line(condition), values, message, file: file.into(), line };
    if !passed && is_marked() {
        let failed = CheckFailed::new(check);
        hold(failed.clone());
        return Err(failed.into());
    }
    let connection =
        OF_THIS_PROCESS.get().ok_or_else(|| RequestError::new("check", "check! works inside e2e::run only".into()))?;
    connection.call_from(&format!("{file}:{line}"), &check)?;
    if passed { Ok(()) } else { Err(CheckFailed::new(check).into()) }
}

/// Returns the values of both sides, `left = 1, right = 2`, without sides that are literals.
pub fn values<L: fmt::Debug + ?Sized, R: fmt::Debug + ?Sized>(left: (&str, &L), right: (&str, &R)) -> String {
    let sides = [(one_line(left.0), shown(left.1)), (one_line(right.0), shown(right.1))];
    let telling = sides.iter().filter(|(text, value)| text.replace('_', "") != value.replace('_', ""));
    telling.map(|(text, value)| format!("{text} = {value}")).collect::<Vec<_>>().join(", ")
}

/// Returns a condition on one line: `stringify!` breaks long ones.
fn one_line(condition: &str) -> String {
    condition.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn shown<T: fmt::Debug + ?Sized>(value: &T) -> String {
    let mut cut = Cut { text: String::new(), room: VALUE_CHARACTERS_MAX };
    match write!(cut, "{value:?}") {
        Ok(()) => cut.text,
        Err(fmt::Error) => format!("{} [... cut after {VALUE_CHARACTERS_MAX} characters]", cut.text),
    }
}

const VALUE_CHARACTERS_MAX: usize = 2000;

/// Writer that takes `room` characters and then fails, so that the rest of a long value is not formatted.
struct Cut {
    text: String,
    room: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_says_its_value_is_left_out() {
        assert_eq!(values(("rows", &19_999), ("20_000", &20_000)), "rows = 19999");
        assert_eq!(values(("name", &"a"), ("\"b\"", &"b")), "name = \"a\"");
        assert_eq!(values(("a", &1), ("b", &2)), "a = 1, b = 2");
        assert_eq!(values(("1", &1), ("2", &2)), "");
    }

    #[test]
    fn a_long_value_is_cut_with_a_note() {
        let fits = "x".repeat(VALUE_CHARACTERS_MAX - 2);
        assert_eq!(shown(&fits), format!("{fits:?}"));
        let long = shown(&"ö".repeat(1 << 20));
        assert!(long.ends_with("ö [... cut after 2000 characters]"), "{long}");
        assert!(long.chars().count() < 2100);
    }

    #[test]
    fn outside_of_a_run_it_says_so() {
        let error = record(true, "true", String::new(), None, "x.rs", 1).unwrap_err();
        assert_eq!(error.to_string(), "check: check! works inside e2e::run only");
    }
}
