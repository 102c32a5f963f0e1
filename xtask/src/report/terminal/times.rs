//! Durations as the terminal shows them: short, and in coarser units the longer they are.

/// Formats a duration in milliseconds: `0.004 s`, `0.25 s`, `2.3 s`, `45 s`, `3 min 07 s`.
pub(super) fn took(milliseconds: f64) -> String {
    let seconds = milliseconds.max(0.0) / 1e3;
    if seconds < 0.095 {
        format!("{seconds:.3} s")
    } else if seconds < 0.995 {
        format!("{seconds:.2} s")
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else {
        running(milliseconds + 500.0)
    }
}

/// Formats the time since a start, given in milliseconds, in whole seconds, for lines that are redrawn often: `45 s`, `3 min 07 s`, `2 h 05
/// min`.
pub(super) fn running(milliseconds: f64) -> String {
    let seconds = (milliseconds.max(0.0) / 1e3).floor() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats a rough estimate of the remaining time, given in milliseconds: `a few seconds`, `35 s`, `12 min`, `2 h 05 min`.
pub(super) fn left(milliseconds: f64) -> String {
    let seconds = (milliseconds.max(0.0) / 1e3).round() as u64;
    match seconds {
        0..10 => "a few seconds".to_owned(),
        10..90 => format!("{} s", seconds.next_multiple_of(5)),
        90..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_fine_as_they_are_of_use() {
        let times = [4.0, 250.0, 995.0, 2345.0, 9949.0, 9951.0, 59_999.0, 61_500.0, 3_723_000.0].map(took);
        assert_eq!(
            times,
            ["0.004 s", "0.25 s", "1.0 s", "2.3 s", "9.9 s", "10 s", "1 min 00 s", "1 min 02 s", "1 h 02 min"]
        );
        assert_eq!([0.0, 999.0, 3500.0].map(running), ["0 s", "0 s", "3 s"]);
        assert_eq!(
            [3e3, 11e3, 90e3, 150e3, 3720e3].map(left),
            ["a few seconds", "15 s", "2 min", "3 min", "1 h 02 min"]
        );
    }
}
