//! The values of what `[defaults]`, an environment variable and a flag set alike. Each is written as one word, or as a number,
//! so that all three are read and refused by the same rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::range::{CaseTime, KeptTime, Range as _, WholeIn, word_within};

/// Form of a value in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// `3`
    Number,
    /// `"failure"`
    Text,
    /// `3`, or this text and others like it, such as `"off"`
    NumberOrText(&'static str),
}

/// A value that is written as one word; its error says what may be written.
pub trait Setting: FromStr<Err = String> + fmt::Display + Clone + Send + Sync + 'static {
    /// Form in TOML.
    const WRITTEN: Written;

    /// Describes the permitted values: `a whole number from 1 to 99`.
    fn words() -> String;
}

/// A value that is one of a few words.
pub trait OneOf: Setting {
    /// The words.
    const WORDS: &'static [&'static str];
}

/// `"a", "b" or "c"`
fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        all => all.concat(),
    }
}

/// An enum whose variants are words.
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
    /// Use of colors.
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
    /// Display of progress.
    ProgressHow {
        /// Live on a terminal, plain elsewhere.
        Auto = "auto",
        /// A line for each thing that happens.
        Plain = "plain",
        /// Lines that change.
        Live = "live",
    }
}

one_of! {
    /// Condition for keeping the lab of a case.
    KeepWhen {
        /// Never keep it.
        Never = "never",
        /// Keep that of a failed case.
        Failure = "failure",
        /// Keep that of every case.
        Always = "always",
    }
}

one_of! {
    /// Effect of a regression.
    PerfGate {
        /// Ends the run with an exit code of its own.
        Fail = "fail",
        /// Is reported.
        Warn = "warn",
        /// No comparison.
        Off = "off",
    }
}

one_of! {
    /// Treatment of an operation without a baseline.
    BaselineMissing {
        /// An error, before anything runs.
        Error = "error",
        /// Such an operation is passed over.
        Allow = "allow",
    }
}

/// A number within its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Count<LEAST, MOST> {
    /// The number, moved to the nearer bound where it lies outside.
    #[must_use]
    pub fn clamped(number: u32) -> Self {
        Self(number.clamp(LEAST, MOST))
    }

    /// The number.
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

/// A number within bounds, or `off`: no number at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrOff<const LEAST: u32, const MOST: u32> {
    /// `off`
    Off,
    /// The number.
    On(Count<LEAST, MOST>),
}

impl<const LEAST: u32, const MOST: u32> OrOff<LEAST, MOST> {
    /// The number, where there is one.
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
/// Samples of resource usage a second, where more are wanted than in every run.
pub type MonitoringRate = OrOff<1, 50>;
/// Number of a slot.
pub type SlotNumber = Count<1, 99>;

/// The factor of all deadlines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PatienceFactor {
    /// `auto`: by how quickly this machine starts a program.
    Auto,
    /// Number from [`PatienceFactor::LEAST`] to [`PatienceFactor::MOST`].
    Fixed(f64),
}

impl PatienceFactor {
    /// Smallest factor that can be set; below it no deadline is left that anything could meet.
    pub const LEAST: f64 = 0.1;
    /// Largest factor that can be set.
    pub const MOST: f64 = 100.0;

    /// The number, where it is set.
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
    /// Removal after this time.
    After(Duration),
}

impl TimeToLive {
    /// The time, where there is one.
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

/// A case's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Timeout of scenarios without one of their own.
    UnlessOwn(Duration),
    /// Timeout of every scenario.
    Every(Duration),
}

impl Timeout {
    /// Returns the timeout that precedes a scenario's own.
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

/// Formats a time as one word, such as it can be typed.
fn short(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

/// The table of all settings: meaning, key in `e2e.toml`, type and built-in value of each. It calls a macro with its rows. The
/// variable and the flag of a setting have its key's name, written their way. Of the deadline, `e2e.toml` says it at its top.
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
            /// Effect of a regression.
            perf_gate: PerfGate = PerfGate::Fail;
            /// Treatment of an operation without a baseline.
            baseline_missing: BaselineMissing = BaselineMissing::Error;
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
        check::<Timeout>("90", "\"90\" is not a duration from \"100ms\" to \"1day\"; write \"90s\"");
        for bad in ["0", "-1", "nan", "inf", "1e9", "quick", ""] {
            check::<PatienceFactor>(bad, &format!("{bad:?} is not a number from 0.1 to 100, or \"auto\""));
        }
        for bad in ["0s", "99ms", "25h", "90000"] {
            check::<Timeout>(bad, &format!("{bad:?} is not a duration from \"100ms\" to \"1day\""));
        }
    }
}
