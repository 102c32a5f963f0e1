//! Ranges of values in the project's files, flags and environment variables. Every number, size, duration, name and path has a range here;
//! it is checked where the value is read, and is shown by errors and by the reference pages.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use e2e_contract::is_absolute_path;
use serde::de::{Deserialize, Deserializer, Visitor};
use toml::Value;

use super::parse::parse_bytes;

/// Set of values that a key, flag or variable accepts.
pub trait Range {
    /// Type of the accepted values.
    type Value;

    /// Describes the range, with an article: `a whole number from 1 to 99`.
    fn words() -> String;

    /// Converts a given value to the range's type; `None` if it does not lie in the range.
    fn take(given: &Value) -> Option<Self::Value>;

    /// Returns the end of the error's text, which guesses what was meant; empty where nothing can be guessed.
    fn hint(_given: &Value) -> String {
        String::new()
    }
}

/// A value that was read and found to lie in its range.
#[derive(Debug)]
pub struct Within<R: Range>(pub R::Value, PhantomData<R>);

impl<'de, R: Range> Deserialize<'de> for Within<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        within::<R, D>(deserializer).map(|value| Self(value, PhantomData))
    }
}

/// Reads a value that lies in a range.
pub fn within<'de, R: Range, D: Deserializer<'de>>(deserializer: D) -> Result<R::Value, D::Error> {
    deserializer.deserialize_any(Given(PhantomData::<R>))
}

/// Visitor that checks a value against a range while it is parsed, so that the parser adds the place to the error.
struct Given<R>(PhantomData<R>);

impl<R: Range> Given<R> {
    fn take<E: serde::de::Error>(given: &Value) -> Result<R::Value, E> {
        R::take(given).ok_or_else(|| E::custom(format!("{} is not {}{}", shown(given), R::words(), R::hint(given))))
    }
}

impl<'de, R: Range> Visitor<'de> for Given<R> {
    type Value = R::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&R::words())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<R::Value, E> {
        Self::take(&Value::Boolean(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<R::Value, E> {
        Self::take(&Value::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<R::Value, E> {
        let number = i64::try_from(value).map_err(|_| E::custom(format!("{value} is not {}", R::words())))?;
        Self::take(&Value::Integer(number))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<R::Value, E> {
        Self::take(&Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<R::Value, E> {
        Self::take(&Value::String(value.to_owned()))
    }
}

/// Reads a list whose values all lie in a range.
pub fn each_within<'de, R: Range, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<R::Value>, D::Error> {
    Ok(Vec::<Within<R>>::deserialize(deserializer)?.into_iter().map(|one| one.0).collect())
}

/// Parses a word of a command line or an environment variable.
///
/// # Errors
/// A text that names the word and the range that it is not in.
pub fn word_within<R: Range>(text: &str) -> Result<R::Value, String> {
    let given = Value::String(text.to_owned());
    R::take(&given).ok_or_else(|| format!("{text:?} is not {}{}", R::words(), R::hint(&given)))
}

/// Formats a value for an error: shortened, and without control characters.
fn shown(given: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    match given {
        Value::String(text) if text.chars().count() <= CHARACTERS_MAX => format!("{text:?}"),
        Value::String(text) => format!("{:?}...", text.chars().take(CHARACTERS_MAX).collect::<String>()),
        other => other.to_string(),
    }
}

/// Range of whole numbers.
#[derive(Debug)]
pub struct WholeIn<const LEAST: u32, const MOST: u32>;

impl<const LEAST: u32, const MOST: u32> Range for WholeIn<LEAST, MOST> {
    type Value = u32;

    fn words() -> String {
        format!("a whole number from {LEAST} to {MOST}")
    }

    fn take(given: &Value) -> Option<u32> {
        let number = u32::try_from(given.as_integer()?).ok()?;
        (LEAST..=MOST).contains(&number).then_some(number)
    }
}

/// Range of decimal numbers; its ends are in thousandths.
#[derive(Debug)]
pub struct DecimalIn<const LEAST: u64, const MOST: u64>;

impl<const LEAST: u64, const MOST: u64> Range for DecimalIn<LEAST, MOST> {
    type Value = f64;

    fn words() -> String {
        format!("a number from {} to {}", thousandths(LEAST), thousandths(MOST))
    }

    fn take(given: &Value) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "what is not exact is far out of any range")]
        let number = given.as_float().or_else(|| given.as_integer().map(|number| number as f64))?;
        (thousandths(LEAST)..=thousandths(MOST)).contains(&number).then_some(number)
    }
}

#[expect(clippy::cast_precision_loss, reason = "the ends of ranges are small")]
fn thousandths(count: u64) -> f64 {
    count as f64 / 1e3
}

/// Range of sizes, in bytes.
#[derive(Debug)]
pub struct SizeIn<const LEAST: u64, const MOST: u64>;

impl<const LEAST: u64, const MOST: u64> Range for SizeIn<LEAST, MOST> {
    type Value = u64;

    fn words() -> String {
        format!("a size from \"{}\" to \"{}\"", size(LEAST), size(MOST))
    }

    fn take(given: &Value) -> Option<u64> {
        parse_bytes(given.as_str()?).filter(|bytes| (LEAST..=MOST).contains(bytes))
    }
}

/// Formats a size with the largest unit of which it is a whole number.
fn size(bytes: u64) -> String {
    let unit = [(40, "T"), (30, "G"), (20, "M"), (10, "k")]
        .into_iter()
        .find(|(shift, _)| bytes >> shift << shift == bytes && bytes > 0);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Range of durations; its ends are in milliseconds.
#[derive(Debug)]
pub struct TimeIn<const LEAST: u64, const MOST: u64>;

impl<const LEAST: u64, const MOST: u64> TimeIn<LEAST, MOST> {
    /// Returns a duration if it lies in the range, otherwise `None`.
    pub fn check(time: Duration) -> Option<Duration> {
        (Duration::from_millis(LEAST)..=Duration::from_millis(MOST)).contains(&time).then_some(time)
    }
}

impl<const LEAST: u64, const MOST: u64> Range for TimeIn<LEAST, MOST> {
    type Value = Duration;

    fn words() -> String {
        let shown = |milliseconds| humantime::format_duration(Duration::from_millis(milliseconds)).to_string();
        format!("a duration from \"{}\" to \"{}\"", shown(LEAST), shown(MOST))
    }

    fn take(given: &Value) -> Option<Duration> {
        humantime::parse_duration(given.as_str()?).ok().and_then(Self::check)
    }

    /// Suggests seconds for a number without a unit, if they lie in the range.
    fn hint(given: &Value) -> String {
        let number =
            given.as_str().map_or_else(|| given.as_integer().map(|n| n.to_string()), |text| Some(text.to_owned()));
        let seconds = number.filter(|text| text.parse::<u64>().is_ok()).map(|text| format!("{text}s"));
        let meant = seconds.filter(|text| Self::take(&Value::String(text.clone())).is_some());
        meant.map_or_else(String::new, |text| format!("; write \"{text}\""))
    }
}

/// Defines ranges of texts, each by its description and a test of a text.
macro_rules! forms {
    ($($(#[$about:meta])* $name:ident: $words:literal, $fits:expr;)+) => {
        $($(#[$about])*
        #[derive(Debug)]
        pub struct $name;

        impl Range for $name {
            type Value = String;

            fn words() -> String {
                $words.to_owned()
            }

            fn take(given: &Value) -> Option<String> {
                let fits: fn(&str) -> bool = $fits;
                given.as_str().filter(|text| fits(text)).map(str::to_owned)
            }
        })+

        #[cfg(test)]
        fn words_of_form(name: &str) -> Option<String> {
            match name {
                $(stringify!($name) => Some($name::words()),)+
                _ => None,
            }
        }
    };
}

/// Defines ranges, and looks them up by name.
macro_rules! ranges {
    ($($(#[$about:meta])* $name:ident = $range:ty;)+) => {
        $($(#[$about])* pub type $name = $range;)+

        /// Returns the description of the range with this type name, for the reference pages.
        #[cfg(test)]
        pub fn words_of(name: &str) -> Option<String> {
            match name {
                $(stringify!($name) => Some(<$range as Range>::words()),)+
                _ => words_of_form(name),
            }
        }
    };
}

/// Largest file system and largest amount of memory: 16 TiB, which is as much as ext4 has with blocks of 4 KiB.
const SIZE_MAX: u64 = 16 << 40;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

ranges! {
    /// Memory of a container; with less than the minimum, no program starts in it.
    MemorySize = SizeIn<{ 4 << 20 }, SIZE_MAX>;
    /// Maximum number of bytes that a container keeps outside its volumes.
    DiskSize = SizeIn<{ 1 << 20 }, SIZE_MAX>;
    /// Size of a volume; ext4 needs the minimum for itself, and an image above the maximum takes long to make.
    VolumeSize = SizeIn<{ 1 << 20 }, { 1 << 40 }>;
    /// Number of processors of a container: the kernel has no quota below 1 ms in 100 ms, and supports at most 8192 processors.
    ProcessorCount = DecimalIn<10, 8_192_000>;
    /// Number of processes and threads of a container: the minimum allows programs beside init; the kernel has no more ids than the
    /// maximum.
    ProcessCount = WholeIn<8, 4_194_304>;
    /// User id of a template's user: 0 is root's, and 65534 is nobody's.
    UserId = WholeIn<1, 65_533>;
    Port = WholeIn<1, 65_535>;
    /// Deadline of a probe.
    ProbeTime = TimeIn<100, HOUR_MS>;
    /// Deadline of a case.
    CaseTime = TimeIn<100, { 24 * HOUR_MS }>;
    /// Lifetime of a kept lab.
    KeptTime = TimeIn<SECOND_MS, 31_557_600_000>;
    /// Time during which faults are injected.
    ChaosLength = TimeIn<100, HOUR_MS>;
    /// Longest duration of one fault.
    FaultTime = TimeIn<10, { 10 * MINUTE_MS }>;
    /// Time without faults after everything was healed.
    QuietTime = TimeIn<1, { 10 * MINUTE_MS }>;
    /// Deadline of the recovery after faults.
    RecoveryTime = TimeIn<100, HOUR_MS>;
    /// Maximum number of faults that are active at the same time.
    ConcurrentFaults = WholeIn<1, 64>;
    /// Limit of a container's memory, disk or network usage in a case, in bytes.
    UsageSize = SizeIn<1, SIZE_MAX>;
    /// Limit of a container's processor time in a case, in seconds: up to ten days.
    UsageSeconds = DecimalIn<1, 864_000_000>;
    /// Change of an operation's time that counts as worse, in percent: a smaller limit would report noise, a larger one nothing.
    WorsePercent = DecimalIn<1000, 1_000_000>;
    /// Recorded duration of a case, in seconds: up to a day.
    CaseSeconds = DecimalIn<0, 86_400_000>;
    /// First user id of labs: above the ids of users, of their containers and of systemd's; the range ends below 2147352576, where further
    /// ids of systemd begin.
    FirstId = WholeIn<1_879_048_192, 2_130_575_360>;
    /// Duration of a packet capture.
    CaptureTime = TimeIn<100, { 24 * HOUR_MS }>;
    /// Time for which an operation is repeated for a baseline.
    RepeatTime = TimeIn<SECOND_MS, HOUR_MS>;
    /// Time budget of the duets that settle a comparison.
    SettleTime = TimeIn<SECOND_MS, { 24 * HOUR_MS }>;
    /// Age from which on runs are deleted.
    RunAge = TimeIn<SECOND_MS, 315_576_000_000>;
}

forms! {
    UserName: "the name of a user: up to 32 of a-z, 0-9, '-' and '_', a letter or '_' first", |text| {
        let mut characters = text.chars();
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        text.len() <= 32 && characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_') && characters.all(good)
    };
    /// Owner of a copied file.
    OwnerName: "`user` or `user:group`, each by its name or a number from 0 to 65535", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
        let one = |part: &str| {
            let is_number = part.chars().all(|c| c.is_ascii_digit());
            let is_good = (1..=32).contains(&part.len()) && part.chars().all(good) && !part.starts_with('-');
            is_good && (!is_number || part.parse::<u16>().is_ok())
        };
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        one(user) && one(group)
    };
    /// Path of a login shell.
    ShellPath: "an absolute path in the container without ':', `..` and control characters", |text| {
        is_absolute_path(text) && !text.contains(':')
    };
    MachinePath: "an absolute path in the container without `..` and control characters", |text| is_absolute_path(text);
    /// Absolute path in a container, with the shell's wildcards.
    LogPattern: "an absolute path in the container without `..` and control characters", |text| is_absolute_path(text);
    /// Folder in a container for Python packages.
    PackageFolder: "an absolute path of a folder in the container, and not /", |text| {
        is_absolute_path(text) && text.trim_end_matches('/').len() > 1
    };
    /// Mount point of a volume.
    VolumePath: "an absolute path below / of letters, digits, '-', '_', '.' and '+', without `.`, `..` and an empty part, \
                 and not /proc, /sys, /dev or below them: those are the kernel's", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        let part = |part: &str| {
            (1..=255).contains(&part.len()) && part != "." && part != ".." && part.chars().all(good)
        };
        let kernels = ["proc", "sys", "dev"];
        is_absolute_path(text)
            && text[1..].split('/').all(part)
            && text[1..].split('/').next().is_some_and(|top| !kernels.contains(&top))
    };
    UnitName: "the name of a systemd unit, such as nginx.service", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "@:_.-\\".contains(c);
        (1..=255).contains(&text.len()) && !text.starts_with(['-', '.']) && text.chars().all(good)
    };
    VariableName: "the name of a variable: up to 255 of letters, digits and '_', no digit first", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (1..=255).contains(&text.len()) && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(good)
    };
    /// Value of an environment variable, which LXC reads from a line of its configuration.
    VariableValue: "up to 4096 bytes without control characters, and without blanks at their ends", |text| {
        text.len() <= 4096 && !text.chars().any(char::is_control) && text.trim() == text
    };
    PythonVersion: "a version of Python, such as \"3.11\"", |text| {
        let number = |part: &str| (1..=3).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
        text.split_once('.').is_some_and(|(major, minor)| number(major) && number(minor))
    };
    /// Port and path of an HTTP probe.
    HttpTarget: "`/path`, or `:port/path` with a port from 1 to 65535, without blanks", |text| {
        let rest = text.strip_prefix(':').map_or(Some(text), |rest| {
            let (port, path) = rest.split_at(rest.find('/')?);
            (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(path)
        });
        rest.is_some_and(|path| path.starts_with('/') && path.len() <= 4096 && path.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    /// Program or argument of a command.
    CommandWord: "up to 131071 bytes without a zero byte", |text| text.len() < 131_072 && !text.contains('\0');
    PackageName: "the name of a Cargo package: up to 64 of letters, digits, '-' and '_', a letter first", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        (1..=64).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(good)
    };
    /// Python package of a template.
    PinnedPackage: "TEMPLATE.PACKAGE, such as \"app.shop\": a template, and a Python package that it pins", |text| {
        text.split_once('.').is_some_and(|(template, package)| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !template.is_empty() && (1..=100).contains(&package.len()) && text.chars().all(good)
        })
    };
    /// Program, by the name of its file.
    ProgramName: "the file name of a program: 1 to 100 characters without '/' and control characters", |text| {
        (1..=100).contains(&text.chars().count()) && !text.chars().any(|c| c == '/' || c.is_control())
    };
    /// Folder of templates or scenarios, relative to the project.
    ProjectFolder: "the path of a folder, of 1 to 4096 bytes without control characters", |text| {
        (1..=4096).contains(&text.len()) && !text.chars().any(char::is_control)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R: Range<Value: std::fmt::Debug>>(good: &[&str], bad: &[&str]) {
        let value = |text: &str| toml::from_str::<toml::Table>(&format!("x = {text}")).unwrap()["x"].clone();
        for text in good {
            assert!(R::take(&value(text)).is_some(), "{text} is {}", R::words());
        }
        for text in bad {
            assert!(R::take(&value(text)).is_none(), "{text} is not {}", R::words());
        }
    }

    #[test]
    fn numbers() {
        check::<WholeIn<8, 100>>(&["8", "100"], &["7", "101", "-8", "0", "8.0", "'8'", "nan", "[8]", "99999999999"]);
        let bad = ["0", "-1", "nan", "inf", "-inf", "1e300", "0.009", "8193", "true", "'1'"];
        check::<ProcessorCount>(&["0.01", "1", "2.5", "8192"], &bad);
        assert_eq!(ProcessorCount::words(), "a number from 0.01 to 8192");
        check::<CaseSeconds>(&["0", "0.0", "86400"], &["-0.1", "86400.1", "nan"]);
    }

    #[test]
    fn sizes_and_durations() {
        check::<MemorySize>(
            &["'4M'", "'4194304'", "'16T'", "'1.5G'"],
            &["'1k'", "'0'", "''", "'17T'", "'1e9'", "'-4M'", "4194304"],
        );
        assert_eq!(MemorySize::words(), "a size from \"4M\" to \"16T\"");
        assert_eq!(UsageSize::words(), "a size from \"1\" to \"16T\"");
        check::<CaseTime>(
            &["'100ms'", "'24h'", "'1h 30m'"],
            &["'99ms'", "'0s'", "'25h'", "'99999999999999999999h'", "'-1s'", "''", "5"],
        );
        assert_eq!(CaseTime::words(), "a duration from \"100ms\" to \"1day\"");
        assert_eq!(KeptTime::words(), "a duration from \"1s\" to \"1year\"");
        assert_eq!(RunAge::words(), "a duration from \"1s\" to \"10years\"");
    }

    #[test]
    fn texts() {
        check::<UserName>(
            &["'u'", "'_apt'", "'www-data'"],
            &["''", "'us:er'", "'0a'", "'A'", "'a b'", "\"a\\nb\"", &format!("'{}'", "a".repeat(33))],
        );
        check::<OwnerName>(
            &["'root'", "'root:root'", "'0:65535'", "'www-data:adm'"],
            &["''", "':'", "'a:'", "'a:b:c'", "'65536'", "'a b'", "'-x'"],
        );
        check::<ShellPath>(&["'/bin/sh'"], &["'sh'", "'/bin/sh:x'", "\"/bin/sh\\n\"", "'/../x'"]);
        let bad = [
            "'/'",
            "'x'",
            "''",
            "'/proc'",
            "'/proc/x'",
            "'/sys'",
            "'/dev/shm'",
            "'/a/../b'",
            "'/a/./b'",
            "'/a//b'",
            "'/a/'",
            "'/a b'",
            "\"/a\\nb\"",
            "'/a#b'",
        ];
        check::<VolumePath>(&["'/data'", "'/var/lib/x-y_z.1+2'", "'/process'", "'/srv/dev'"], &bad);
        check::<UnitName>(
            &["'a.service'", "'b@1.timer'", "'a'"],
            &["''", "'-a.service'", "'a b.service'", "'../a.service'"],
        );
        check::<VariableName>(&["'LC_TIME'", "'_x'"], &["''", "'A=B'", "'1A'", "'A B'", "\"A\\nB\""]);
        check::<VariableValue>(&["''", "'a b'"], &["' a'", "\"a\\nlxc.x = y\""]);
        check::<PythonVersion>(&["'3.11'"], &["'3'", "'3.'", "'3.11.2'", "'x.y'"]);
        check::<HttpTarget>(
            &["'/'", "':8080/x?y=1'"],
            &["'x'", "''", "':0/'", "':65536/'", "':80'", "'/a b'", "':+80/'"],
        );
        check::<ProjectFolder>(&["'containers'", "'../a'", "'.'"], &["''", "\"a\\nb\""]);
        check::<PackageFolder>(&["'/opt/x'"], &["'/'", "'//'", "'opt'"]);
    }

    #[test]
    fn an_error_quotes_the_value_in_short() {
        assert_eq!(shown(&Value::String("a\n".repeat(100))).len(), 30 * 3 + 5);
        assert_eq!(
            word_within::<CaseTime>("5").unwrap_err(),
            "\"5\" is not a duration from \"100ms\" to \"1day\"; write \"5s\""
        );
        assert_eq!(word_within::<CaseTime>("0").unwrap_err(), "\"0\" is not a duration from \"100ms\" to \"1day\"");
        assert_eq!(word_within::<CaseTime>("0s").unwrap_err(), "\"0s\" is not a duration from \"100ms\" to \"1day\"");
    }
}
