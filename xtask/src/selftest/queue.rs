//! The order of tests: several at once, the longest first, then one by one those that need the whole host.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::libtest::{Finished, Test};
use super::times::Times;

/// Runs tests and reports each end as it comes; returns the results in the order of their ends.
pub fn run(
    tests: Vec<Test>,
    jobs: usize,
    times: &Times,
    work: impl Fn(&Test) -> Finished + Sync,
    tell: impl Fn(&Finished) + Sync,
) -> Vec<Finished> {
    let (alone, shared): (Vec<Test>, Vec<Test>) = longest_first(tests, times).into_iter().partition(Test::is_alone);
    let finished = Mutex::new(Vec::new());
    for (tests, workers) in [(shared, jobs), (alone, 1)] {
        let waiting = Mutex::new(VecDeque::from(tests));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(test) = next() {
                        let end = work(&test);
                        tell(&end);
                        finished.lock().unwrap_or_else(PoisonError::into_inner).push(end);
                    }
                });
            }
        });
    }
    finished.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn longest_first(mut tests: Vec<Test>, times: &Times) -> Vec<Test> {
    tests.sort_by_key(|test| std::cmp::Reverse(times.expected(&test.name)));
    tests
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::selftest::libtest::TestProgram;

    fn tests(names: &[&str]) -> Vec<Test> {
        let program = TestProgram { path: "/t".into(), package_dir: "/".into() };
        names.iter().map(|name| Test { name: (*name).into(), program: program.clone() }).collect()
    }

    #[test]
    fn nothing_runs_beside_a_test_that_needs_the_whole_host() {
        let (running, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let meet = std::sync::Barrier::new(2);
        let work = |test: &Test| {
            let others = running.fetch_add(1, Ordering::SeqCst);
            if test.is_alone() {
                assert_eq!(others, 0, "{} runs beside another", test.name);
            } else {
                meet.wait(); // passed only by two at once
                together.fetch_add(1, Ordering::SeqCst);
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Finished { name: test.name.clone(), duration: Duration::ZERO, failure: None }
        };
        let all = tests(&["alone::x", "a", "b", "alone::y", "c", "d"]);
        let finished = run(all, 2, &Times::default(), work, |_| ());
        assert_eq!((finished.len(), together.into_inner()), (6, 4));
        assert!(finished[4..].iter().all(|end| end.name.starts_with("alone::")), "{finished:?}");
    }
}
