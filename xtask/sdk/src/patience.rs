//! Patience: the factor by which deadlines are longer on a slow machine, as the engine has set it.

use std::sync::OnceLock;
use std::time::Duration;

use e2e_contract::PATIENCE_VARIABLE;

/// Returns a deadline that suits this machine, multiplied by the factor that the engine uses for its own deadlines. [`Lab::eventually`]
/// and requests are scaled already; use this for the timeouts of programs that a scenario puts into a container.
///
/// [`Lab::eventually`]: crate::Lab::eventually
#[must_use]
pub fn scaled(deadline: Duration) -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| factor_of(std::env::var(PATIENCE_VARIABLE).ok().as_deref()));
    Duration::try_from_secs_f64(deadline.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Returns the factor that a variable holds; 1 where the variable is missing or holds no number above 0.
fn factor_of(value: Option<&str>) -> f64 {
    value.and_then(|value| value.parse().ok()).filter(|factor: &f64| factor.is_finite() && *factor > 0.0).unwrap_or(1.0)
}

/// Converts to whole milliseconds, at least one: a deadline of 0 would have passed already.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_says_nothing_leaves_deadlines_as_they_are() {
        assert_eq!(factor_of(Some("6.2")), 6.2);
        for none in [None, Some(""), Some("auto"), Some("0"), Some("-2"), Some("inf"), Some("nan")] {
            assert_eq!(factor_of(none), 1.0, "{none:?}");
        }
    }
}
