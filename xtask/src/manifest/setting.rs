//! Types of the settings that `[defaults]`, an environment variable and a flag share. Each value is written as one word or a number, so
//! that all three are parsed and refused by the same rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::range::{CaseTime, KeptTime, Range as _, SettleTime, WholeIn, word_within};

/// Form of a value in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A number such as `3`.
    Number,
    /// A text such as `"failure"`.
    Text,
    /// A number such as `3`, or the given word, such as `"off"`.
    NumberOrText(&'static str),
}

/// A setting's value, which is written as one word; the error of parsing names the permitted values.
pub trait Setting: FromStr<Err = String> + fmt::Display + Clone + Send + Sync + 'static {
    /// Form of the value in TOML.
    const WRITTEN: Written;

    /// Describes the permitted values, such as `a whole number from 1 to 99`.
    fn words() -> String;
}

/// A setting whose values are a few fixed words.
pub trait OneOf: Setting {
    const WORDS: &'static [&'static str];
}

/// Formats words as `"a", "b" or "c"`.
fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        all => all.concat(),
    }
}

/// Defines an enum whose variants are written as words.
macro_rules! one_of {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$meaning])* $variant,)+ }

        impl OneOf for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl Setting for $name {
            const WRITTEN: Written = Written::Text;

            fn words() -> String {
                quoted(Self::WORDS)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not {}", Self::words())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

one_of! {
    /// Use of colors in output on a terminal.
    ColorWhen {
        /// Colors on a terminal, unless `NO_COLOR` or `CLICOLOR_FORCE` says otherwise.
        Auto = "auto",
        /// Colors always.
        Always = "always",
        /// No colors.
        Never = "never",
    }
}

one_of! {
    /// Display of a run's progress.
    ProgressHow {
        /// Live on a terminal, plain elsewhere.
        Auto = "auto",
        /// A line for each event.
        Plain = "plain",
        /// A status area that is redrawn.
        Live = "live",
    }
}

one_of! {
    /// Condition for keeping the lab of a case.
    KeepWhen {
        /// Keeps no lab.
        Never = "never",
        /// Keeps the lab of a failed case.
        Failure = "failure",
        /// Keeps the lab of every case.
        Always = "always",
    }
}

one_of! {
    /// Effect of a performance regression on the run.
    PerfGate {
        /// A regression ends the run with an exit code of its own.
        Fail = "fail",
        /// A regression is reported, and does not change the exit code.
        Warn = "warn",
        /// No comparison is made.
        Off = "off",
    }
}

one_of! {
    /// Treatment of a measured operation without a baseline.
    BaselineMissing {
        /// A missing baseline is an error, before anything runs.
        Error = "error",
        /// An operation without a baseline is not compared.
        Allow = "allow",
    }
}

/// A number within its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Count<LEAST, MOST> {
    /// Makes the number, moved to the nearer end of its range where it lies outside.
    #[must_use]
    pub fn clamped(number: u32) -> Self {
        Self(number.clamp(LEAST, MOST))
    }

    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const LEAST: u32, const MOST: u32> Setting for Count<LEAST, MOST> {
    const WRITTEN: Written = Written::Number;

    fn words() -> String {
        WholeIn::<LEAST, MOST>::words()
    }
}

impl<const LEAST: u32, const MOST: u32> FromStr for Count<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().and_then(|number: i64| WholeIn::<LEAST, MOST>::take(&number.into()));
        number.map(Self).ok_or_else(|| format!("{text:?} is not {}", Self::words()))
    }
}

impl<const LEAST: u32, const MOST: u32> fmt::Display for Count<LEAST, MOST> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A number within bounds, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrOff<const LEAST: u32, const MOST: u32> {
    /// No number, written as `off`.
    Off,
    On(Count<LEAST, MOST>),
}

impl<const LEAST: u32, const MOST: u32> OrOff<LEAST, MOST> {
    /// Returns the number; `None` for `off`.
    #[must_use]
    pub fn get(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::On(count) => Some(count.get()),
        }
    }
}

impl<const LEAST: u32, const MOST: u32> Setting for OrOff<LEAST, MOST> {
    const WRITTEN: Written = Written::NumberOrText("off");

    fn words() -> String {
        format!("{}, or \"off\"", Count::<LEAST, MOST>::words())
    }
}

impl<const LEAST: u32, const MOST: u32> FromStr for OrOff<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::On).map_err(|_: String| format!("{text:?} is not {}", Self::words())),
        }
    }
}

impl<const LEAST: u32, const MOST: u32> fmt::Display for OrOff<LEAST, MOST> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::On(count) => count.fmt(formatter),
        }
    }
}

/// Number of failed cases after which a run stops.
pub type MaxFail = OrOff<1, 1_000_000>;
/// Maximum retries of a failed case.
pub type Retries = Count<0, 100>;
/// Samples of resource usage per second; `off` for the few that every run takes.
pub type MonitoringRate = OrOff<1, 50>;
pub type SlotNumber = Count<1, 99>;

/// Factor by which all deadlines are multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PatienceFactor {
    /// `auto`: from the time that this machine takes to start a program.
    Auto,
    /// A number from [`PatienceFactor::LEAST`] to [`PatienceFactor::MOST`].
    Fixed(f64),
}

impl PatienceFactor {
    /// Smallest factor that can be set; a smaller one would leave deadlines that nothing can meet.
    pub const LEAST: f64 = 0.1;
    /// Largest patience factor that can be set.
    pub const MOST: f64 = 100.0;

    /// Returns the number; `None` for `auto`.
    #[must_use]
    pub fn get(self) -> Option<f64> {
        match self {
            Self::Auto => None,
            Self::Fixed(factor) => Some(factor),
        }
    }
}

impl Eq for PatienceFactor {} // it is never NaN

impl Setting for PatienceFactor {
    const WRITTEN: Written = Written::NumberOrText("auto");

    fn words() -> String {
        format!("a number from {} to {}, or \"auto\"", Self::LEAST, Self::MOST)
    }
}

impl FromStr for PatienceFactor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let factor = text.parse().ok().filter(|factor| (Self::LEAST..=Self::MOST).contains(factor));
        factor.map(Self::Fixed).ok_or_else(|| format!("{text:?} is not {}", Self::words()))
    }
}

impl fmt::Display for PatienceFactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Fixed(factor) => factor.fmt(formatter),
        }
    }
}

/// Lifetime of a kept lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeToLive {
    /// `never`: the lab is not removed by itself.
    Never,
    /// The lab is removed after this time.
    After(Duration),
}

impl TimeToLive {
    /// Returns the time; `None` for `never`.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(time) => Some(time),
        }
    }
}

impl Setting for TimeToLive {
    const WRITTEN: Written = Written::Text;

    fn words() -> String {
        format!("{}, or \"never\"", KeptTime::words())
    }
}

impl FromStr for TimeToLive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            _ => word_within::<KeptTime>(text).map(Self::After).map_err(|_| {
                format!("{text:?} is not {}{}", Self::words(), KeptTime::hint(&toml::Value::String(text.to_owned())))
            }),
        }
    }
}

impl fmt::Display for TimeToLive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => formatter.write_str("never"),
            Self::After(time) => short(*time).fmt(formatter),
        }
    }
}

/// Settling of what a comparison with committed baselines leaves in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// `off`: nothing is settled.
    Off,
    /// Duets settle it, within this time.
    Within(Duration),
}

impl Settle {
    /// Returns the time budget; `None` for `off`.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Within(time) => Some(time),
        }
    }
}

impl Setting for Settle {
    const WRITTEN: Written = Written::Text;

    fn words() -> String {
        format!("{}, or \"off\"", SettleTime::words())
    }
}

impl FromStr for Settle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => word_within::<SettleTime>(text).map(Self::Within).map_err(|_| {
                format!("{text:?} is not {}{}", Self::words(), SettleTime::hint(&toml::Value::String(text.to_owned())))
            }),
        }
    }
}

impl fmt::Display for Settle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Within(time) => short(*time).fmt(formatter),
        }
    }
}

/// Deadline of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Deadline of the scenarios that have none of their own.
    UnlessOwn(Duration),
    /// Deadline of every scenario, in place of its own.
    Every(Duration),
}

impl Timeout {
    /// Returns the deadline that replaces a scenario's own; `None` for [`Timeout::UnlessOwn`].
    #[must_use]
    pub fn every(self) -> Option<Duration> {
        match self {
            Self::UnlessOwn(_) => None,
            Self::Every(time) => Some(time),
        }
    }
}

impl Setting for Timeout {
    const WRITTEN: Written = Written::Text;

    fn words() -> String {
        CaseTime::words()
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word_within::<CaseTime>(text).map(Self::Every)
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::UnlessOwn(time) | Self::Every(time)) = self;
        short(*time).fmt(formatter)
    }
}

/// Formats a time as one word that can be parsed again.
fn short(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

/// Table of all settings: meaning, key in `e2e.toml`, type and built-in value of each. The rows are passed to the given macro. A setting's
/// variable and flag have the name of its key: `E2E_MAX_FAIL`, `--max-fail`. The deadline of cases is set outside `[defaults]`.
macro_rules! settings {
    ($made:ident) => {
        $made! {
            /// Use of colors.
            color: ColorWhen = ColorWhen::Auto;
            /// Display of progress.
            progress: ProgressHow = ProgressHow::Auto;
            /// Number of failed cases after which a run stops.
            max_fail: MaxFail = MaxFail::Off;
            /// Maximum retries of a failed case.
            retries: Retries = Retries::clamped(0);
            /// Deadline of a case.
            timeout: Timeout [skip] = Timeout::UnlessOwn(Project::TIMEOUT);
            /// Samples of resource usage per second.
            performance_monitoring: MonitoringRate = MonitoringRate::Off;
            /// Effect of a performance regression on the run.
            perf_gate: PerfGate = PerfGate::Fail;
            /// Treatment of a measured operation without a baseline.
            baseline_missing: BaselineMissing = BaselineMissing::Error;
            /// Time budget of the duets that settle what committed baselines leave in doubt.
            settle: Settle = Settle::Off;
            /// Condition for keeping the lab of a case.
            keep_containers: KeepWhen = KeepWhen::Never;
            /// Lifetime of a kept lab.
            ttl: TimeToLive = TimeToLive::Never;
            /// Slot whose names and folders labs take.
            slot: SlotNumber = SlotNumber::clamped(1);
            /// Factor of all deadlines, for slow machines.
            patience: PatienceFactor = PatienceFactor::Auto;
        }
    };
}
pub(crate) use settings;

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Setting>(text: &str, expected: &str) {
        let shown = match text.parse::<T>() {
            Ok(value) => value.to_string(),
            Err(problem) => problem,
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_value_is_shown_as_it_is_written() {
        check::<KeepWhen>("always", "always");
        check::<MaxFail>("off", "off");
        check::<MaxFail>("3", "3");
        check::<Retries>("0", "0");
        check::<SlotNumber>("99", "99");
        check::<PatienceFactor>("auto", "auto");
        check::<PatienceFactor>("2.5", "2.5");
        check::<PatienceFactor>("3", "3");
        check::<TimeToLive>("never", "never");
        check::<TimeToLive>("1h 30m", "1h30m");
        check::<TimeToLive>("90m", "1h30m");
        check::<Timeout>("90s", "1m30s");
        check::<Settle>("off", "off");
        check::<Settle>("600s", "10m");
    }

    #[test]
    fn a_bad_value_says_what_may_be_written() {
        check::<KeepWhen>("Always", "\"Always\" is not \"never\", \"failure\" or \"always\"");
        for bad in ["0", "1000001", "-1", "1.5", "nan", ""] {
            check::<MaxFail>(bad, &format!("{bad:?} is not a whole number from 1 to 1000000, or \"off\""));
        }
        for bad in ["-1", "101", "99999999999999999999"] {
            check::<Retries>(bad, &format!("{bad:?} is not a whole number from 0 to 100"));
        }
        check::<MonitoringRate>("51", "\"51\" is not a whole number from 1 to 50, or \"off\"");
        check::<SlotNumber>("100", "\"100\" is not a whole number from 1 to 99");
        for bad in ["0s", "999ms", "2years", "-1h", ""] {
            check::<TimeToLive>(bad, &format!("{bad:?} is not a duration from \"1s\" to \"1year\", or \"never\""));
        }
        check::<TimeToLive>("2", "\"2\" is not a duration from \"1s\" to \"1year\", or \"never\"; write \"2s\"");
        for bad in ["0s", "999ms", "25h", "on"] {
            check::<Settle>(bad, &format!("{bad:?} is not a duration from \"1s\" to \"1day\", or \"off\""));
        }
        check::<Timeout>("90", "\"90\" is not a duration from \"100ms\" to \"1day\"; write \"90s\"");
        for bad in ["0", "-1", "nan", "inf", "1e9", "quick", ""] {
            check::<PatienceFactor>(bad, &format!("{bad:?} is not a number from 0.1 to 100, or \"auto\""));
        }
        for bad in ["0s", "99ms", "25h", "90000"] {
            check::<Timeout>(bad, &format!("{bad:?} is not a duration from \"100ms\" to \"1day\""));
        }
    }
}
