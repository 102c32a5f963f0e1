//! `[defaults]` of `e2e.toml`: a project's settings, which apply where neither a flag nor an environment variable sets them.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::parse::Source;
use super::range::{CaseTime, Within};
use super::setting::{
    BaselineMissing, ColorWhen, KeepWhen, MaxFail, MonitoringRate, PatienceFactor, PerfGate, ProgressHow, Retries,
    Setting, Settle, SlotNumber, TimeToLive, Timeout, Written, settings,
};
use crate::input;

/// Value of a setting with its line in `e2e.toml`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    pub value: T,
    pub line: u32,
}

macro_rules! of_file {
    ($($(#[$about:meta])* $key:ident: $value:ident $([$skip:ident])? = $built_in:expr;)+) => {
        /// Settings of a project.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Defaults { $($(#[$about])* pub $key: Option<Placed<$value>>,)+ }

        /// `[defaults]` as it is read from TOML.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct DefaultsTable { $($(#[serde($skip)])? $key: Option<Spanned<Read<$value>>>,)+ }

        impl DefaultsTable {
            fn placed(self, source: &Source) -> Defaults {
                Defaults {
                    $($key: self.$key.map(|it| Placed { line: source.line_of(&it), value: it.into_inner().0 }),)+
                }
            }
        }
    };
}
settings!(of_file);

impl Defaults {
    /// Reads only the settings, so that verbs which need no project work even if other parts of the file are invalid. A folder without
    /// `e2e.toml` sets nothing.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("e2e.toml");
        if !input::exists(&path)? {
            return Ok(Self::default());
        }
        let source = Source::read(&path)?;
        let file: Partly = source.parse()?;
        let timeout = file.timeout.map(|it| {
            let line = source.line_of(&it);
            Placed { value: Timeout::UnlessOwn(it.into_inner().0), line }
        });
        Ok(Self { timeout, ..file.defaults.placed(&source) })
    }
}

/// Part of `e2e.toml` that holds settings; [`super::Project`] reads the whole file.
#[derive(Deserialize)]
struct Partly {
    timeout: Option<Spanned<Within<CaseTime>>>,
    #[serde(default)]
    defaults: DefaultsTable,
}

/// A setting as TOML holds it: a text or a number.
#[derive(Debug)]
struct Read<T>(T);

impl<'de, T: Setting> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = match (toml::Value::deserialize(deserializer)?, T::WRITTEN) {
            (toml::Value::Integer(number), Written::Number | Written::NumberOrText(_)) => number.to_string(),
            (toml::Value::Float(number), Written::NumberOrText(_)) => number.to_string(),
            (toml::Value::String(text), Written::Text) => text,
            (toml::Value::String(text), Written::NumberOrText(_)) if text.parse::<f64>().is_err() => text,
            (value, Written::Number) => return Err(D::Error::custom(format!("{value} is not a number"))),
            (value, Written::Text) => {
                return Err(D::Error::custom(format!("{value} is not a text in quotation marks")));
            }
            (value, Written::NumberOrText(other)) => {
                return Err(D::Error::custom(format!("{value} is neither a number nor {other:?}")));
            }
        };
        word.parse().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(e2e_toml: &str) -> Result<Defaults, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("e2e.toml"), e2e_toml).unwrap();
        let here = format!("{}/", folder.path().display());
        Defaults::read(folder.path()).map_err(|error| error.to_string().replace(&here, ""))
    }

    fn refused(e2e_toml: &str, expected: &str) {
        let problem = read(e2e_toml).unwrap_err();
        assert!(problem.starts_with(expected), "{e2e_toml}\n  gave     {problem}\n  expected {expected}");
    }

    #[test]
    fn each_default_has_its_line() {
        let text = "name = 'x'\ntimeout = '2m'\n\n[defaults]\nmax_fail = 3\nretries = 1\nttl = '2h'\nslot = 7\n\
                    keep_containers = 'failure'\nperformance_monitoring = 'off'\ncolor = 'never'\nprogress = 'plain'\n\
                    perf_gate = 'warn'\nbaseline_missing = 'allow'\n";
        let defaults = read(text).unwrap();
        let two_minutes = Timeout::UnlessOwn(Duration::from_secs(120));
        assert_eq!(defaults.timeout, Some(Placed { value: two_minutes, line: 2 }));
        assert_eq!(defaults.max_fail.map(|it| (it.value.get(), it.line)), Some((Some(3), 5)));
        assert_eq!(defaults.retries.map(|it| (it.value.get(), it.line)), Some((1, 6)));
        assert_eq!(defaults.slot.map(|it| (it.value.get(), it.line)), Some((7, 8)));
        assert_eq!(defaults.keep_containers, Some(Placed { value: KeepWhen::Failure, line: 9 }));
        assert_eq!(defaults.performance_monitoring, Some(Placed { value: MonitoringRate::Off, line: 10 }));
        assert_eq!(defaults.baseline_missing, Some(Placed { value: BaselineMissing::Allow, line: 14 }));
        let patience = |value: &str| read(&format!("[defaults]\npatience = {value}\n")).unwrap().patience;
        for (written, value) in [("2", PatienceFactor::Fixed(2.0)), ("2.5", PatienceFactor::Fixed(2.5))] {
            assert_eq!(patience(written), Some(Placed { value, line: 2 }));
        }
        assert_eq!(patience("'auto'").map(|it| it.value), Some(PatienceFactor::Auto));
        assert_eq!(read("name = 'x'").unwrap(), Defaults::default());
    }

    #[test]
    fn what_else_is_wrong_in_the_file_is_no_matter() {
        assert!(read("name = 7\nfrobnicate = true\n[defaults]\nretries = 2").unwrap().retries.is_some());
        assert_eq!(Defaults::read(tempfile::tempdir().unwrap().path()).unwrap(), Defaults::default());
    }

    #[test]
    fn a_bad_default_is_named_with_its_place() {
        refused("[defaults]\nretry = 1", "e2e.toml:2:1: unknown field `retry`, expected one of");
        refused("[defaults]\nchaos = 'heavy'", "e2e.toml:2:1: unknown field `chaos`");
        refused("[defaults]\nretries = '1'", "e2e.toml:2:11: \"1\" is not a number");
        refused("[defaults]\nretries = -1", "e2e.toml:2:11: \"-1\" is not a whole number from 0 to 100");
        refused("[defaults]\nmax_fail = 0", "e2e.toml:2:12: \"0\" is not a whole number from 1 to 1000000, or \"off\"");
        refused("[defaults]\nmax_fail = '3'", "e2e.toml:2:12: \"3\" is neither a number nor \"off\"");
        refused(
            "[defaults]\nmax_fail = 2.5",
            "e2e.toml:2:12: \"2.5\" is not a whole number from 1 to 1000000, or \"off\"",
        );
        refused("[defaults]\npatience = '3'", "e2e.toml:2:12: \"3\" is neither a number nor \"auto\"");
        refused("[defaults]\npatience = 0", "e2e.toml:2:12: \"0\" is not a number from 0.1 to 100, or \"auto\"");
        refused("[defaults]\nkeep_containers = true", "e2e.toml:2:19: true is not a text in quotation marks");
        refused(
            "[defaults]\nkeep_containers = 'yes'",
            "e2e.toml:2:19: \"yes\" is not \"never\", \"failure\" or \"always\"",
        );
        refused(
            "[defaults]\nttl = '0s'",
            "e2e.toml:2:7: \"0s\" is not a duration from \"1s\" to \"1year\", or \"never\"",
        );
        refused("timeout = '0s'", "e2e.toml:1:11: \"0s\" is not a duration from \"100ms\" to \"1day\"");
        refused("defaults = 3", "e2e.toml:1:12: invalid type: integer `3`");
        refused("[defaults", "e2e.toml:1:");
    }
}
