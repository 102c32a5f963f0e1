//! Settings from four places: a flag precedes an environment variable, which precedes `[defaults]` of `e2e.toml`, which precedes the
//! built-in value. The place of each value is kept with the value.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr as _;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::help::{LOOKING_INSIDE, MACHINE, PERFORMANCE, RUNNING};
use crate::error::Error;
use crate::manifest::{
    BaselineMissing, ColorWhen, Defaults, KeepWhen, MaxFail, MonitoringRate, OneOf, PatienceFactor, PerfGate, Placed,
    ProgressHow, Project, Retries, Setting, Settle, SlotNumber, TimeToLive, Timeout, settings,
};

/// Place where the value of a setting was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Default value of the engine.
    BuiltIn,
    /// Line of the project's `e2e.toml`.
    File { line: u32 },
    /// Environment variable, by name.
    Variable(String),
    /// Flag, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built in"),
            Self::File { line } => write!(formatter, "e2e.toml:{line}"),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

/// Value of a setting, with the place where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T: Setting> Chosen<T> {
    /// Returns the value of the environment, else of `e2e.toml`, else `self`.
    fn below_flags(self, key: &str, default: Option<Placed<T>>, variable: &Variables<'_>) -> Result<Self, Error> {
        let name = variable_of(key);
        let given = variable(&name).filter(|value| !value.is_empty());
        if let Some(given) = given {
            let value = given.into_string().map_err(|given| format!("{} is not UTF-8 text", given.display()));
            let value = value.and_then(|text| text.parse()).map_err(|problem: String| {
                Error::Usage(format!("the environment variable {name}: {problem}; write another value, or unset it"))
            })?;
            return Ok(Self { value, origin: Origin::Variable(name) });
        }
        Ok(default.map_or(self, |it| Self { value: it.value, origin: Origin::File { line: it.line } }))
    }

    /// Returns the value of the flag if the flag is given, else `self`.
    fn with(&self, key: &str, flag: Option<&T>) -> Self {
        flag.map_or_else(|| self.clone(), |value| Self { value: value.clone(), origin: Origin::Flag(flag_of(key)) })
    }
}

/// Function that returns the value of an environment variable.
type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

fn variable_of(key: &str) -> String {
    format!("E2E_{}", key.to_ascii_uppercase())
}

fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Row of the output of `config show`: a setting with its value and origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Key of the setting in `e2e.toml`.
    pub key: &'static str,
    /// Value as a user can type it.
    pub value: String,
    pub origin: Origin,
}

impl Row {
    fn of<T: Setting>(key: &'static str, chosen: &Chosen<T>) -> Self {
        Self { key, value: chosen.value.to_string(), origin: chosen.origin.clone() }
    }
}

macro_rules! of_all_places {
    ($($(#[$about:meta])* $key:ident: $value:ident $([$skip:ident])? = $built_in:expr;)+) => {
        /// Values of all settings, each with its origin.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings { $($(#[$about])* pub $key: Chosen<$value>,)+ }

        impl Settings {
            /// Keys of the settings in `e2e.toml`, from which the names of flags and variables derive.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            pub fn built_in() -> Self {
                Self { $($key: Chosen { value: $built_in, origin: Origin::BuiltIn },)+ }
            }

            /// Returns the settings of a project and the environment. Every setting is checked, even if the verb does not use it, so that
            /// mistakes show at once.
            ///
            /// # Errors
            /// [`Error::Usage`] for an environment variable with an invalid value.
            pub fn below_flags(defaults: &Defaults, variable: &Variables<'_>) -> Result<Self, Error> {
                let all = Self::built_in();
                Ok(Self { $($key: all.$key.below_flags(stringify!($key), defaults.$key, variable)?,)+ })
            }

            pub fn rows(&self) -> Vec<Row> {
                vec![$(Row::of(stringify!($key), &self.$key)),+]
            }
        }
    };
}
settings!(of_all_places);

impl Settings {
    /// Applies the display flags, which all verbs have.
    pub fn with_look(&self, color: Option<ColorWhen>, progress: Option<ProgressHow>) -> Self {
        Self {
            color: self.color.with("color", color.as_ref()),
            progress: self.progress.with("progress", progress.as_ref()),
            ..self.clone()
        }
    }

    /// Applies the flag `--patience`, which all verbs have.
    pub fn with_patience(&self, flag: Option<PatienceFactor>) -> Self {
        Self { patience: self.patience.with("patience", flag.as_ref()), ..self.clone() }
    }

    /// Applies the flags of a verb that runs scenarios.
    pub fn with_run(&self, flags: &RunFlags) -> Self {
        Self {
            max_fail: self.max_fail.with("max_fail", flags.max_fail.as_ref()),
            retries: self.retries.with("retries", flags.retries.as_ref()),
            timeout: self.timeout.with("timeout", flags.timeout.as_ref()),
            performance_monitoring: self
                .performance_monitoring
                .with("performance_monitoring", flags.performance_monitoring.as_ref()),
            perf_gate: self.perf_gate.with("perf_gate", flags.perf_gate.as_ref()),
            baseline_missing: self.baseline_missing.with("baseline_missing", flags.baseline_missing.as_ref()),
            settle: self.settle.with("settle", flags.settle.as_ref()),
            keep_containers: self.keep_containers.with("keep_containers", flags.keep_containers.as_ref()),
            ttl: self.ttl.with("ttl", flags.ttl.as_ref()),
            slot: self.slot.with("slot", flags.slot.slot.as_ref()),
            ..self.clone()
        }
    }

    /// Adapts the settings to a duet, which retries no case and keeps no lab: `retries` and `keep_containers` of `e2e.toml` and the
    /// environment are ignored. (Clap rejects their flags together with a duet's.)
    pub fn for_pairs(self) -> Self {
        let Self { retries, keep_containers, .. } = Self::built_in();
        Self { retries, keep_containers, ..self }
    }

    /// Resets the settings that concern committed baselines, for a run that does not compare with them.
    pub fn without_baselines(self) -> Self {
        let Self { baseline_missing, settle, .. } = Self::built_in();
        Self { baseline_missing, settle, ..self }
    }

    /// Resets the lifetime of kept labs, for a run that keeps none.
    pub fn without_ttl(self) -> Self {
        Self { ttl: Self::built_in().ttl, ..self }
    }

    /// Returns flags for those of these settings that the environment has set, so that a command line with the flags means the same
    /// elsewhere.
    pub fn flags_for_variables(&self, keys: &[&str]) -> Vec<String> {
        let rows = self.rows().into_iter().filter(|row| keys.contains(&row.key));
        let given = rows.filter(|row| matches!(row.origin, Origin::Variable(_)));
        given.map(|row| format!("{}={}", flag_of(row.key), row.value)).collect()
    }

    /// Returns the names of the settings' environment variables.
    pub fn variables() -> impl Iterator<Item = String> {
        Self::KEYS.iter().map(|key| variable_of(key))
    }
}

/// Flags of a run for settings, which the environment and `e2e.toml` can set too.
#[derive(Debug, Default, clap::Args)]
pub struct RunFlags {
    /// Stop after N failed cases, or `off` for never.
    #[arg(long, value_name = "N", value_parser = MaxFail::from_str, help_heading = RUNNING)]
    max_fail: Option<MaxFail>,
    /// Retry a failed case up to N times.
    ///
    /// A pass after a failure is reported as flaky.
    #[arg(long, value_name = "N", value_parser = Retries::from_str, help_heading = RUNNING)]
    retries: Option<Retries>,
    /// Deadline of each case, such as 90s, instead of the scenario's own.
    #[arg(long, value_name = "TIME", value_parser = Timeout::from_str, help_heading = RUNNING)]
    timeout: Option<Timeout>,
    /// Sample resource usage HZ times per second [default with the flag: 10], and calibrate.
    ///
    /// HZ is 1 to 50. Without this flag, or with `off`, the rate is 2, and there is no calibration before each
    /// repetition of a measured operation. The samples go to performance.json.
    #[arg(long, visible_alias = "perf", value_name = "HZ", num_args = 0..=1, require_equals = true,
          default_missing_value = "10", value_parser = MonitoringRate::from_str, help_heading = PERFORMANCE)]
    performance_monitoring: Option<MonitoringRate>,
    /// Treatment of an operation without a baseline [default: error].
    #[arg(long, value_name = "WHAT", value_parser = one_of::<BaselineMissing>(), help_heading = PERFORMANCE)]
    baseline_missing: Option<BaselineMissing>,
    /// With --baseline-compare: settle doubts by duets, within a time budget [default with the flag: 10m].
    ///
    /// Where an operation regressed, is inconclusive, or may have become 5 % slower, it is measured pair by pair beside
    /// the machines that its baseline was measured on.
    #[arg(long, value_name = "BUDGET", num_args = 0..=1, require_equals = true, default_missing_value = "10m",
          value_parser = Settle::from_str, conflicts_with_all = ["keep_containers", "ttl"], help_heading = PERFORMANCE)]
    settle: Option<Settle>,
    /// Effect of a regression [default: fail].
    ///
    /// `fail` ends with exit code 4, `warn` only reports it, `off` does not compare.
    #[arg(long, value_name = "WHAT", value_parser = one_of::<PerfGate>(), help_heading = PERFORMANCE)]
    perf_gate: Option<PerfGate>,
    /// Keep the lab after a failure, or always.
    ///
    /// The run prints how to enter and remove it.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "failure",
          value_parser = one_of::<KeepWhen>(), help_heading = LOOKING_INSIDE)]
    keep_containers: Option<KeepWhen>,
    /// Lifetime of a kept lab, such as 2h.
    ///
    /// The lab is removed after this time; with `never` it stays until it is taken down.
    #[arg(long, value_name = "TIME", value_parser = TimeToLive::from_str, help_heading = LOOKING_INSIDE)]
    ttl: Option<TimeToLive>,
    #[command(flatten, next_help_heading = MACHINE)]
    slot: SlotFlag,
}

/// The slot, for verbs that make labs.
#[derive(Debug, Default, clap::Args)]
pub struct SlotFlag {
    /// Slot of the lab, 1 to 99.
    ///
    /// Labs of different slots exist side by side.
    #[arg(long, value_name = "N", value_parser = SlotNumber::from_str)]
    slot: Option<SlotNumber>,
}

impl SlotFlag {
    /// Returns the number of the slot: the flag's, else the one of the settings.
    pub fn number(&self, settings: &Settings) -> u32 {
        self.slot.unwrap_or(settings.slot.value).get()
    }
}

/// Parses the name of a lab's slot: of a run (`2`), of the second lab of a duet (`2b`), or of `doctor`.
pub fn slot_word(text: &str) -> Result<String, String> {
    let number = text.strip_suffix('b').unwrap_or(text);
    if text == "doctor" || SlotNumber::from_str(number).is_ok_and(|slot| slot.get().to_string() == number) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a slot: {}, the same with `b` behind it (the other lab of a comparison), or doctor",
        SlotNumber::words()
    ))
}

/// Returns clap's parser for a setting with a few valid words, which `--help` lists.
pub fn one_of<T: OneOf>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS).try_map(|word| word.parse::<T>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunFlags,
    }

    /// Returns the settings from lines of `e2e.toml`, variables, and flags.
    fn settings(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("e2e.toml"), file).unwrap();
        let defaults = Defaults::read(folder.path()).map_err(|error| error.to_string())?;
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(*value));
        let line = Line::try_parse_from(["x"].iter().chain(flags)).map_err(|error| error.to_string())?;
        let below = Settings::below_flags(&defaults, &variable).map_err(|error| error.to_string())?;
        Ok(below.with_run(&line.run))
    }

    fn shown(settings: &Settings, key: &str) -> String {
        let row = settings.rows().into_iter().find(|row| row.key == key).unwrap();
        format!("{}, {}", row.value, row.origin)
    }

    #[test]
    fn a_flag_is_above_the_environment_above_the_file_above_what_is_built_in() {
        let file = "name = 'x'\n[defaults]\nretries = 1\n";
        let variables = [("E2E_RETRIES", "2")];
        let of = |file, variables: &[_], flags: &[_]| shown(&settings(file, variables, flags).unwrap(), "retries");
        assert_eq!(of("", &[], &[]), "0, built in");
        assert_eq!(of(file, &[], &[]), "1, e2e.toml:3");
        assert_eq!(of(file, &variables, &[]), "2, environment variable E2E_RETRIES");
        assert_eq!(of(file, &variables, &["--retries", "0"]), "0, flag --retries");
        assert_eq!(of(file, &[("E2E_RETRIES", "")], &[]), "1, e2e.toml:3", "an empty variable sets nothing");
    }

    /// For each setting, a value that is not the built-in one.
    const OTHER: [(&str, &str); 13] = [
        ("color", "never"),
        ("progress", "plain"),
        ("max_fail", "3"),
        ("retries", "4"),
        ("timeout", "7m"),
        ("performance_monitoring", "20"),
        ("perf_gate", "warn"),
        ("baseline_missing", "allow"),
        ("settle", "7m"),
        ("keep_containers", "always"),
        ("ttl", "2h"),
        ("slot", "71"),
        ("patience", "2.5"),
    ];

    #[test]
    fn every_setting_can_be_set_in_every_place() {
        assert_eq!(OTHER.map(|(key, _)| key).as_slice(), Settings::KEYS);
        for (key, value) in OTHER {
            assert!(!shown(&settings("", &[], &[]).unwrap(), key).starts_with(value), "{key} is {value} anyway");
            let quoted = if value.parse::<f64>().is_ok() { value.to_owned() } else { format!("'{value}'") };
            let section = if key == "timeout" { "" } else { "[defaults]\n" };
            let of_file = settings(&format!("{section}\n{key} = {quoted}\n"), &[], &[]).unwrap();
            assert!(shown(&of_file, key).starts_with(&format!("{value}, e2e.toml:")), "{key}");
            let name = variable_of(key);
            let of_variable = settings("", &[(&name, value)], &[]).unwrap();
            assert_eq!(shown(&of_variable, key), format!("{value}, environment variable {name}"));
            assert_eq!(of_variable.flags_for_variables(&[key]), [format!("{}={value}", flag_of(key))]);
            assert!(of_variable.flags_for_variables(&[]).is_empty() && of_file.flags_for_variables(&[key]).is_empty());
            if !["color", "progress", "patience"].contains(&key) {
                let flag = format!("{}={value}", flag_of(key));
                let of_flag = settings("", &[], &[&flag]).unwrap();
                assert_eq!(shown(&of_flag, key), format!("{value}, flag {}", flag_of(key)));
            }
        }
    }

    #[test]
    fn a_bad_value_names_its_place() {
        let of_variable = settings("", &[("E2E_KEEP_CONTAINERS", "sometimes")], &[]).unwrap_err();
        let expected = "the environment variable E2E_KEEP_CONTAINERS: \"sometimes\" is not \"never\", \"failure\" or \
                        \"always\"; write another value, or unset it";
        assert_eq!(of_variable, expected);
        let of_file = settings("[defaults]\nretries = -1", &[], &[]).unwrap_err();
        assert!(of_file.contains("e2e.toml:2:11: \"-1\" is not a whole number from 0 to 100"), "{of_file}");
        let of_flag = settings("", &[], &["--slot", "100"]).unwrap_err();
        assert!(of_flag.contains("'--slot <N>'") && of_flag.contains("a whole number from 1 to 99"), "{of_flag}");
    }

    #[test]
    fn a_projects_deadline_gives_way_to_a_scenarios_own() {
        let of = |file, variables: &[_]| settings(file, variables, &[]).unwrap().timeout.value.every();
        assert_eq!(of("timeout = '1m'", &[]), None);
        assert_eq!(of("timeout = '1m'", &[("E2E_TIMEOUT", "2m")]), Some(Duration::from_secs(120)));
    }

    #[test]
    fn pairs_have_no_retries_and_no_kept_labs() {
        let all = settings("[defaults]\nretries = 2\nkeep_containers = 'always'\nttl = '1h'\nmax_fail = 1", &[], &[]);
        let pairs = all.unwrap().for_pairs();
        assert_eq!(shown(&pairs, "retries"), "0, built in");
        assert_eq!(shown(&pairs, "keep_containers"), "never, built in");
        assert_eq!(shown(&pairs, "max_fail"), "1, e2e.toml:5");
    }
}
