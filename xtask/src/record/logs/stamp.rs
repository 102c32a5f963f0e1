//! Parser of times in log lines, in the forms in which programs write them.

use std::ops::Range;

/// Time that a log line has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stamp {
    /// Milliseconds since 1970, UTC.
    pub epoch_ms: f64,
    /// Range of the time's bytes in the line, with the brackets around it; empty where the time stands within the line and stays there.
    pub place: Range<usize>,
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

const DAY_MS: f64 = 86_400_000.0;

/// Number of bytes at a line's start in which a time behind other fields is looked for.
const INSIDE_BYTES_MAX: usize = 160;

/// Parses a time in RFC 3339 to milliseconds since 1970.
#[must_use]
pub fn epoch_ms(rfc_3339: &str) -> Option<f64> {
    let mut cursor = Cursor { bytes: rfc_3339.as_bytes(), at: 0 };
    let time = cursor.calendar()?;
    (cursor.at == rfc_3339.len()).then_some(time)
}

impl Stamp {
    /// Finds the time at a line's start, or in the field where its program puts it. A time without a zone is UTC; a time without a year
    /// gets the year in which it is nearest to `near_ms`.
    pub fn of(line: &str, near_ms: f64) -> Option<Self> {
        let bytes = line.as_bytes();
        Self::at_begin(bytes, near_ms).or_else(|| Self::inside(bytes))
    }

    fn at_begin(bytes: &[u8], near_ms: f64) -> Option<Self> {
        let open = match bytes.first()? {
            b'[' | b'(' => 1,
            first if first.is_ascii_alphanumeric() => 0,
            _ => return None,
        };
        let mut cursor = Cursor { bytes, at: open };
        let epoch_ms = match bytes.get(open)? {
            b'0'..=b'9' => cursor.calendar().or_else(|| cursor.day_first(b' ', b' '))?,
            _ => cursor.month_first(near_ms)?,
        };
        if open == 1 && matches!(bytes.get(cursor.at), Some(b']' | b')')) {
            cursor.at += 1;
        }
        Some(Self { epoch_ms, place: 0..cursor.at })
    }

    /// Finds a time behind other fields, as Redis, LXC, web servers and JSON have it, or behind a level.
    fn inside(bytes: &[u8]) -> Option<Self> {
        let bytes = &bytes[..bytes.len().min(INSIDE_BYTES_MAX)];
        let word_end = bytes.iter().position(|byte| *byte == b' ')?;
        let first = &bytes[..word_end];
        let mut cursor = Cursor { bytes, at: word_end + 1 };
        if first.starts_with(b"lxc-") {
            let name = bytes[cursor.at..].iter().position(|byte| *byte == b' ')?;
            let start = cursor.at;
            cursor.at += name + 1;
            return Some(Self { epoch_ms: cursor.in_one_piece()?, place: start..cursor.at });
        }
        if let [pid @ .., b':', b'A'..=b'Z'] = first
            && pid.iter().all(u8::is_ascii_digit)
        {
            let start = cursor.at;
            return Some(Self { epoch_ms: cursor.day_first(b' ', b' ')?, place: start..cursor.at });
        }
        let is_level = first.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'[' | b']' | b':'));
        if is_level {
            let start = cursor.at;
            if let Some(epoch_ms) = cursor.calendar() {
                return Some(Self { epoch_ms, place: start..cursor.at });
            }
        }
        let open = if bytes[0] == b'{' { json_time(bytes) } else { bytes.iter().position(|byte| *byte == b'[') };
        cursor.at = open? + 1;
        let time = if bytes[0] == b'{' { cursor.calendar() } else { cursor.day_first(b'/', b':') };
        // What stands in the middle of a line stays there.
        Some(Self { epoch_ms: time?, place: 0..0 })
    }
}

/// Returns the offset of the opening quotation mark of a time in JSON.
fn json_time(bytes: &[u8]) -> Option<usize> {
    let names: [&[u8]; 5] = [b"\"time\":", b"\"ts\":", b"\"timestamp\":", b"\"@timestamp\":", b"\"asctime\":"];
    let behind = names
        .iter()
        .find_map(|name| bytes.windows(name.len()).position(|window| window == *name).map(|at| at + name.len()))?;
    let quote = behind + bytes[behind..].iter().take_while(|byte| **byte == b' ').count();
    (bytes.get(quote) == Some(&b'"')).then_some(quote)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Parses a time such as `2026-11-26T07:20:25.117625+0000`, `2026-11-26 07:20:25,117` or `2026/11/26 07:20:25`.
    fn calendar(&mut self) -> Option<f64> {
        let begin = self.at;
        let time = self.try_calendar();
        if time.is_none() {
            self.at = begin;
        }
        time
    }

    fn try_calendar(&mut self) -> Option<f64> {
        let year = self.digits(4)?;
        let separator = self.one_of(b"-/")?;
        let month = self.digits(2)?;
        self.one_of(&[separator])?;
        let day = self.digits(2)?;
        self.one_of(b"T ")?;
        self.moment(year, month, day)
    }

    /// Parses a time such as `26 Nov 2026 07:20:25.880` or `26/Nov/2026:07:20:25 +0000`.
    fn day_first(&mut self, separator: u8, before_time: u8) -> Option<f64> {
        let day = self.digits(2)?;
        self.one_of(&[separator])?;
        let month = self.month()?;
        self.one_of(&[separator])?;
        let year = self.digits(4)?;
        self.one_of(&[before_time])?;
        self.moment(year, month, day)
    }

    /// Parses a time such as `Nov 26 07:20:25` or `Nov  6 07:20:25`.
    fn month_first(&mut self, near_ms: f64) -> Option<f64> {
        let month = self.month()?;
        self.one_of(b" ")?;
        let day = if self.one_of(b" ").is_some() { self.digits(1)? } else { self.digits(2)? };
        self.one_of(b" ")?;
        let of_day = self.time_of_day()?;
        let near_year = 1970 + (near_ms / (365.2425 * DAY_MS)).floor() as i64;
        let times = (near_year - 1..=near_year + 1).filter_map(|year| Some(days(year, month, day)? * DAY_MS + of_day));
        times.min_by(|a, b| (a - near_ms).abs().total_cmp(&(b - near_ms).abs()))
    }

    /// Parses a time such as `20261126072024.868`, which is always UTC.
    fn in_one_piece(&mut self) -> Option<f64> {
        let (year, month, day) = (self.digits(4)?, self.digits(2)?, self.digits(2)?);
        let (hour, minute, second) = (self.digits(2)?, self.digits(2)?, self.digits(2)?);
        let fraction = self.fraction_ms();
        Some(days(year, month, day)? * DAY_MS + of_day_ms(hour, minute, second)? + fraction)
    }

    fn moment(&mut self, year: i64, month: i64, day: i64) -> Option<f64> {
        let of_day = self.time_of_day()?;
        Some(days(year, month, day)? * DAY_MS + of_day - self.zone_ms())
    }

    fn time_of_day(&mut self) -> Option<f64> {
        let hour = self.digits(2)?;
        self.one_of(b":")?;
        let minute = self.digits(2)?;
        self.one_of(b":")?;
        let second = self.digits(2)?;
        Some(of_day_ms(hour, minute, second)? + self.fraction_ms())
    }

    fn fraction_ms(&mut self) -> f64 {
        let begin = self.at;
        let count = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if self.one_of(b".,").is_none() {
            return 0.0;
        }
        let digits = count(&self.bytes[self.at..]);
        if digits == 0 {
            self.at = begin;
            return 0.0;
        }
        let mut value = 0.0;
        let mut weight_ms = 100.0;
        for byte in &self.bytes[self.at..self.at + digits.min(9)] {
            value += f64::from(byte - b'0') * weight_ms;
            weight_ms /= 10.0;
        }
        self.at += digits;
        value
    }

    /// Parses the zone behind a time, and returns its offset from UTC in milliseconds, or 0 without a zone. Names of zones other than
    /// UTC's are ignored: they mean different zones in different places.
    fn zone_ms(&mut self) -> f64 {
        let rest = &self.bytes[self.at..];
        let spaces = usize::from(rest.first() == Some(&b' '));
        let zone = &rest[spaces..];
        let is_over = |length: usize| !zone.get(length).is_some_and(u8::is_ascii_alphanumeric);
        for (name, length) in [(&b"Z"[..], 1), (b"UTC", 3), (b"GMT", 3)] {
            if zone.starts_with(name) && is_over(length) {
                self.at += spaces + length;
                return 0.0;
            }
        }
        let begin = self.at;
        self.at += spaces;
        match self.offset_ms() {
            Some(offset) => offset,
            None => {
                self.at = begin;
                0.0
            }
        }
    }

    fn offset_ms(&mut self) -> Option<f64> {
        let sign = if self.one_of(b"+-")? == b'+' { 1.0 } else { -1.0 };
        let hours = self.digits(2)?;
        let minutes = if self.one_of(b":").is_some() { self.digits(2)? } else { self.digits(2).unwrap_or(0) };
        let is_over = !self.bytes.get(self.at).is_some_and(u8::is_ascii_alphanumeric);
        (is_over && hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes) as f64 * 60_000.0)
    }

    fn month(&mut self) -> Option<i64> {
        let name = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.iter().position(|month| *month == name)?;
        self.at += 3;
        i64::try_from(index + 1).ok()
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        let add = |value: i64, byte: &u8| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'));
        let value = digits.iter().try_fold(0, add)?;
        self.at += count;
        Some(value)
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        wanted.contains(&byte).then(|| {
            self.at += 1;
            byte
        })
    }
}

fn of_day_ms(hour: i64, minute: i64, second: i64) -> Option<f64> {
    let is_time = hour < 24 && minute < 60 && second <= 60;
    is_time.then_some(((hour * 60 + minute) * 60 + second) as f64 * 1000.0)
}

/// Returns the days since 1970 of a date in the Gregorian calendar, by Howard Hinnant's `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> Option<f64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some((era * 146_097 + of_era - 719_468) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds since 1970 at 2026-11-26T07:20:25Z, from `date +%s`.
    const MOMENT_MS: f64 = 1_795_677_625_000.0;

    #[test]
    fn every_program_writes_times_its_own_way() {
        let check = |line: &str, after_ms: f64, rest: &str| {
            let stamp = Stamp::of(line, MOMENT_MS + 5e7).unwrap_or_else(|| panic!("no time in {line}"));
            assert!((stamp.epoch_ms - MOMENT_MS - after_ms).abs() < 1e-3, "{line}: {}", stamp.epoch_ms - MOMENT_MS);
            assert_eq!(format!("{}{}", &line[..stamp.place.start], &line[stamp.place.end..]), rest, "{line}");
        };
        check("2026-11-26T07:20:25.117625+0000 app systemd[1]: x", 117.625, " app systemd[1]: x");
        check("2026-11-26T08:20:25.117625+0100 app systemd[1]: x", 117.625, " app systemd[1]: x");
        check("2026-11-26T07:20:25Z x", 0.0, " x");
        check("2026-11-26 07:20:25.880 UTC [36] LOG:  x", 880.0, " [36] LOG:  x");
        check("2026-11-26 02:50:25 -04:30 x", 0.0, " x");
        check("2026-11-26 07:20:25,880 - name - INFO - x", 880.0, " - name - INFO - x");
        check("[2026-11-26 07:20:25] x", 0.0, " x");
        check("2026/11/26 07:20:25 [error] 12#12: x", 0.0, " [error] 12#12: x");
        check("36:C 26 Nov 2026 07:20:25.880 * x", 880.0, "36:C  * x");
        check("Nov 26 07:20:25 app x[1]: y", 0.0, " app x[1]: y");
        check("lxc-start mancer-e2e-app 20261126072025.868 WARN     conf - x", 868.0, "lxc-start  WARN     conf - x");
        let request = r#"::1 - - [26/Nov/2026:07:20:25 +0000] "GET / HTTP/1.1" 200 615"#;
        check(request, 0.0, request);
        let json = r#"{"level":"info","ts": "2026-11-26T07:20:25.5Z","message":"x"}"#;
        check(json, 500.0, json);
        check("INFO 2026-11-26 07:20:25 x", 0.0, "INFO  x");
        check("2026-11-26 07:20:25 ERROR x", 0.0, " ERROR x");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for line in [
            "",
            "x",
            "2026-11-26",
            "2026-13-26 07:20:25 x",
            "2026-11-26 25:20:25 x",
            "backup of 2026-11-26 07:20:25 is done",
            "Now 26 07:20:25",
            "12345678901234567890",
            "[  OK  ] Reached target",
            "lxc-start: mancer-e2e-app: ../src/lxc/confile.c: get_config",
            "lxc-start x",
            "{\"ts\":",
            "{\"ts\": 3} x",
            "ü",
        ] {
            assert_eq!(Stamp::of(line, MOMENT_MS), None, "{line}");
        }
    }

    #[test]
    fn a_time_without_a_year_lies_in_the_nearest_one() {
        let new_year = epoch_ms("2027-01-01T00:00:05Z").unwrap();
        let stamp = Stamp::of("Dec 31 23:59:59 app x: y", new_year).unwrap();
        assert_eq!(stamp.epoch_ms, new_year - 6000.0);
        let stamp = Stamp::of("Jan  1 00:00:06 app x: y", new_year - 6000.0).unwrap();
        assert_eq!(stamp.epoch_ms, new_year + 1000.0);
    }

    #[test]
    fn the_begin_of_a_run_is_read() {
        assert_eq!(epoch_ms("2026-11-26T07:20:25.500Z"), Some(MOMENT_MS + 500.0));
        assert_eq!(epoch_ms("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(epoch_ms("2024-02-29T00:00:00Z"), Some(1_709_164_800_000.0));
        assert_eq!(epoch_ms("2026-11-26T07:20:25Z and more"), None);
    }
}
