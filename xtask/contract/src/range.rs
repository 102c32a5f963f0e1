//! Ranges of faults' parameters, checked where a fault is read from a scenario, a command line or a schedule.

use std::fmt;

use serde::de::{Deserialize as _, Deserializer, Error as _};
use serde_json::Value;

use crate::Fault;

/// Maximum of sizes and of offsets in a file, in bytes: 16 TiB.
const BYTES_MAX: i64 = 1 << 44;

/// Maximum length of a text, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// Permitted values of one parameter of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterRange {
    /// A whole number within two ends, which are permitted too.
    Number {
        /// Smallest number.
        least: i64,
        /// Largest number.
        most: i64,
    },
    /// A positive or negative whole number, limited by its distance from zero.
    Offset {
        /// Smallest distance from zero.
        least: i64,
        /// Largest distance from zero.
        most: i64,
    },
    /// Absolute path in a container.
    Path,
    /// Piece of a process's command line.
    Command,
    /// Name of a systemd unit.
    Unit,
    /// Name of a systemd service.
    Service,
    /// Name of a system call.
    SystemCall,
    /// Name of an error that the kernel returns.
    ErrorName,
    /// List of processors' numbers.
    Processors,
    /// Name of a container of the lab.
    Container,
}

impl ParameterRange {
    /// Checks that a value is in the range.
    ///
    /// # Errors
    /// A text that names the value, and the range that it is not in.
    pub fn check(self, value: &Value) -> Result<(), String> {
        let fits = match self {
            Self::Number { least, most } => value.as_i64().is_some_and(|number| (least..=most).contains(&number)),
            Self::Offset { least, most } => {
                value.as_i64().and_then(i64::checked_abs).is_some_and(|distance| (least..=most).contains(&distance))
            }
            _ => value.as_str().is_some_and(|text| self.fits_text(text)),
        };
        if fits { Ok(()) } else { Err(format!("{value} is not {self}")) }
    }

    fn fits_text(self, text: &str) -> bool {
        let is_word = |may: fn(u8) -> bool| !text.is_empty() && text.len() <= 255 && text.bytes().all(may);
        let is_unit =
            || is_word(|byte| byte.is_ascii_alphanumeric() || b"@:_.-\\".contains(&byte)) && !text.starts_with('-');
        match self {
            Self::Number { .. } | Self::Offset { .. } => false,
            Self::Path => is_absolute_path(text),
            Self::Command => !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains('\0'),
            Self::Unit => is_unit(),
            Self::Service => is_unit() && text.len() > ".service".len() && text.ends_with(".service"),
            Self::SystemCall => is_word(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            Self::ErrorName => {
                text.len() > 1
                    && text.starts_with('E')
                    && is_word(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            }
            Self::Processors => is_list_of_processors(text),
            Self::Container => {
                is_word(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
            }
        }
    }
}

impl fmt::Display for ParameterRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { least, most } => write!(f, "a whole number from {least} to {most}"),
            Self::Offset { least, most } => {
                write!(f, "a whole number from {least} to {most}, or from -{most} to -{least}")
            }
            Self::Path => f.write_str("an absolute path without `..` and control characters"),
            Self::Command => write!(f, "a piece of a command line, of 1 to {TEXT_BYTES_MAX} bytes"),
            Self::Unit => f.write_str("the name of a systemd unit, such as nginx.service"),
            Self::Service => f.write_str("the name of a systemd service, such as ssh.service"),
            Self::SystemCall => f.write_str("the name of a system call, such as fdatasync"),
            Self::ErrorName => f.write_str("the name of an error, such as EIO"),
            Self::Processors => f.write_str("a list of processors, such as 0-1,3"),
            Self::Container => f.write_str("the name of a container of the lab"),
        }
    }
}

/// Reads the deadline of a request, in milliseconds: up to a day.
pub fn deadline_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let deadline_ms = u64::deserialize(deserializer)?;
    let range = from(1, 86_400_000);
    range.check(&deadline_ms.into()).map_err(|problem| D::Error::custom(format!("deadline_ms: {problem}")))?;
    Ok(deadline_ms)
}

/// Maximum length of the name of an operation or a metric, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Checks that the name of a measured operation or a metric is in snake_case: reports, baselines and limits refer to the name.
///
/// # Errors
/// A text that names the name, and says which names are valid.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(fits)
    {
        return Ok(());
    }
    let begin: String = name.chars().take(NAME_BYTES_MAX).collect();
    Err(format!(
        "{begin:?} is not a name in snake_case: lowercase letters, digits and '_', a letter first, at most {NAME_BYTES_MAX} bytes"
    ))
}

/// Tells whether a text is an absolute path that a parameter may have: without `..` and control characters, and not too long.
#[must_use]
pub fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= TEXT_BYTES_MAX
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != ".." && part.len() <= 255)
}

fn is_list_of_processors(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    !text.is_empty()
        && text.split(',').all(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        })
}

const fn from(least: i64, most: i64) -> ParameterRange {
    ParameterRange::Number { least, most }
}

impl Fault {
    /// Returns the range of a fault's parameter; `None` for a parameter whose type has bounds already (a choice of a few words, an
    /// address, the shape of a partition), and for a name that is no parameter.
    #[must_use]
    pub fn range_of(fault: &str, parameter: &str) -> Option<ParameterRange> {
        use ParameterRange::{Command, Container, ErrorName, Offset, Path, Processors, Service, SystemCall, Unit};
        Some(match (fault, parameter) {
            ("node.stop", "grace_ms") => from(0, 600_000),
            ("node.restart-storm", "times") => from(1, 20),
            ("node.restart-storm", "up_ms") => from(0, 10_000),
            ("process.crashloop", "program") => Path,
            ("service.stop", "unit") => Unit,
            ("clock.jump" | "clock.rate", "unit") => Service,
            ("net.oneway", "peer") => Container,
            // A shorter phase cannot be told from a busy machine, and a longer one is better cut and healed.
            ("net.flap", "down_ms" | "up_ms") => from(50, 60_000),
            // A longer delay is better done by cutting the link.
            ("net.delay", "delay_ms") => from(1, 10_000),
            ("net.delay", "jitter_ms") => from(0, 10_000),
            ("net.delay", "reorder_percent") => from(0, 90),
            ("net.loss" | "net.duplicate" | "net.corrupt", "percent") => from(1, 100),
            // Fewer losses are hard to tell from none.
            ("net.nth-loss", "every") => from(2, 10_000),
            // A lower rate cannot be seen in a reasonable time, and a higher one not be told from what a busy machine does.
            ("net.rate", "kilobits_per_second") => from(8, 1_000_000),
            // Every link carries the least, and this one more than the most.
            ("net.mtu-hole", "bytes") => from(68, 1499),
            ("net.reset" | "net.port-block", "port") => from(1, 65_535),
            ("disk.full", "free_bytes") => from(0, BYTES_MAX),
            // More files cannot be made in a short time to see that they are too many.
            ("disk.inodes", "free_inodes") => from(0, 10_000),
            // A lower rate takes too long to watch, and a small volume has no room to watch a higher one.
            ("disk.slow", "kilobytes_per_second") => from(100, 20_000),
            ("io.error" | "io.delay", "call") => SystemCall,
            ("io.error", "error") => ErrorName,
            ("io.delay", "delay_ms") => from(1, 60_000),
            ("file.bitflip", "offset") | ("file.truncate", "size_bytes") => from(0, BYTES_MAX),
            ("file.bitflip", "bit") => from(0, 7),
            ("memory.limit" | "memory.pressure", "bytes") => from(1 << 20, BYTES_MAX),
            ("cpu.quota", "percent") => from(1, 10_000),
            ("cpu.pin", "cpus") => Processors,
            ("cpu.burn", "processes") => from(1, 64),
            // More processes and files are not started and opened to see that they can be.
            ("pids.cap", "free") => from(0, 1000),
            ("fd.cap", "free") => from(0, 256),
            // A smaller jump cannot be told from what a busy machine does by itself; the largest one is ten years.
            ("clock.jump", "offset_ms") => Offset { least: 1000, most: 315_360_000_000 },
            ("clock.rate", "percent") => from(10, 10_000),
            ("process.kill" | "process.pause" | "io.error" | "io.delay" | "fd.cap", "command") => Command,
            (fault, "path") if fault.starts_with("disk.") || fault.starts_with("file.") => Path,
            _ => return None,
        })
    }

    /// Checks each parameter of the fault against its range, and against other parameters that it depends on.
    ///
    /// # Errors
    /// The first parameter that is out of its range, by its name, with its value and the range.
    pub fn check(&self) -> Result<(), String> {
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            for (parameter, value) in &fields {
                if let Some(range) = Self::range_of(self.name(), parameter) {
                    range.check(value).map_err(|problem| format!("{parameter}: {problem}"))?;
                }
            }
        }
        match self {
            Self::NetDelay { delay_ms, jitter_ms, .. } if jitter_ms > delay_ms => {
                Err(format!("jitter_ms: {jitter_ms} is more than delay_ms, {delay_ms}: a delay varies by no more than itself"))
            }
            Self::NetDelay { delay_ms, jitter_ms, reorder_percent } if *reorder_percent > 0 && delay_ms - jitter_ms < 10 => {
                Err("reorder_percent: delay_ms has to be at least 10 more than jitter_ms: otherwise it cannot be seen which \
                     packet overtakes which"
                    .to_owned())
            }
            Self::ClockRate { percent, .. } if percent.abs_diff(100) < 10 => {
                Err(format!("percent: {percent} is too near to 100: at least 10 more or less"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_operations_are_snake_case() {
        for name in ["restore", "p99_ms", "a"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "Restore", "two words", "a-b", "1st", "_a", "ä", "a\n", "a/b", &"a".repeat(101)] {
            assert!(check_name(name).is_err_and(|why| why.contains("is not a name in snake_case")), "{name:?}");
        }
    }

    fn refused(fault: &Value, expected: &str) {
        let problem = serde_json::from_value::<Fault>(fault.clone()).unwrap_err().to_string();
        assert_eq!(problem, expected, "{fault}");
        // By the line of JSON, as a scenario or a file has it.
        assert!(serde_json::from_str::<Fault>(&fault.to_string()).unwrap_err().to_string().starts_with(expected));
    }

    #[test]
    fn a_parameter_out_of_its_range_is_refused_where_it_is_read() {
        for (fault, expected) in [
            (json!({"name": "net.loss", "percent": 101}), "percent: 101 is not a whole number from 1 to 100"),
            (json!({"name": "net.loss", "percent": 0}), "percent: 0 is not a whole number from 1 to 100"),
            (
                json!({"name": "net.flap", "down_ms": 50, "up_ms": 4_000_000_000_u32}),
                "up_ms: 4000000000 is not a whole number from 50 to 60000",
            ),
            (json!({"name": "net.port-block", "port": 0}), "port: 0 is not a whole number from 1 to 65535"),
            (
                json!({"name": "node.stop", "grace_ms": u64::MAX}),
                "grace_ms: 18446744073709551615 is not a whole number from 0 to 600000",
            ),
            (
                json!({"name": "clock.jump", "unit": "a.service", "offset_ms": i64::MIN}),
                "offset_ms: -9223372036854775808 is not a whole number from 1000 to 315360000000, or from -315360000000 to -1000",
            ),
            (
                json!({"name": "clock.jump", "unit": "a.service", "offset_ms": 0}),
                "offset_ms: 0 is not a whole number from 1000 to 315360000000, or from -315360000000 to -1000",
            ),
            (
                json!({"name": "clock.rate", "unit": "a.socket", "percent": 200}),
                "unit: \"a.socket\" is not the name of a systemd service, such as ssh.service",
            ),
            (
                json!({"name": "clock.rate", "unit": "a.service", "percent": 105}),
                "percent: 105 is too near to 100: at least 10 more or less",
            ),
            (
                json!({"name": "service.stop", "unit": "-a.service"}),
                "unit: \"-a.service\" is not the name of a systemd unit, such as nginx.service",
            ),
            (
                json!({"name": "disk.dead", "path": "data"}),
                "path: \"data\" is not an absolute path without `..` and control characters",
            ),
            (
                json!({"name": "file.truncate", "path": "/a/../b", "size_bytes": 1}),
                "path: \"/a/../b\" is not an absolute path without `..` and control characters",
            ),
            (
                json!({"name": "process.kill", "command": ""}),
                "command: \"\" is not a piece of a command line, of 1 to 4096 bytes",
            ),
            (
                json!({"name": "io.error", "command": "x", "call": "fsync -x", "error": "EIO"}),
                "call: \"fsync -x\" is not the name of a system call, such as fdatasync",
            ),
            (
                json!({"name": "io.error", "command": "x", "call": "fsync", "error": "E"}),
                "error: \"E\" is not the name of an error, such as EIO",
            ),
            (json!({"name": "cpu.pin", "cpus": "3-1"}), "cpus: \"3-1\" is not a list of processors, such as 0-1,3"),
            (
                json!({"name": "net.oneway", "lost": "inbound", "peer": "A b"}),
                "peer: \"A b\" is not the name of a container of the lab",
            ),
            (
                json!({"name": "net.delay", "delay_ms": 5, "jitter_ms": 6}),
                "jitter_ms: 6 is more than delay_ms, 5: a delay varies by no more than itself",
            ),
        ] {
            refused(&fault, expected);
        }
        let problem = Fault::NetDelay { delay_ms: 9, jitter_ms: 0, reorder_percent: 1 }.check().unwrap_err();
        assert!(problem.starts_with("reorder_percent: delay_ms has to be at least 10 more"), "{problem}");
    }

    #[test]
    fn a_deadline_is_no_longer_than_a_day() {
        let get = |deadline_ms: u64| {
            let request = json!({"container": "a", "path": "/x", "deadline_ms": deadline_ms});
            serde_json::from_value::<crate::Get>(request).map(|get| get.deadline_ms).map_err(|error| error.to_string())
        };
        assert_eq!(get(86_400_000), Ok(86_400_000));
        for bad in [0, 86_400_001, u64::MAX] {
            assert_eq!(get(bad), Err(format!("deadline_ms: {bad} is not a whole number from 1 to 86400000")));
        }
    }

    #[test]
    fn the_ends_of_a_range_belong_to_it() {
        for percent in [1, 100] {
            assert_eq!(Fault::NetLoss { percent }.check(), Ok(()));
        }
        for offset_ms in [1000, -1000, 315_360_000_000, -315_360_000_000] {
            assert_eq!(Fault::ClockJump { unit: "a.service".into(), offset_ms }.check(), Ok(()));
        }
        for cpus in ["0", "0-1,3", "65535"] {
            assert_eq!(Fault::CpuPin { cpus: cpus.into() }.check(), Ok(()));
        }
        for bad in ["", "a", "0,", "0-", "+1", "1 ", "65536"] {
            assert!(Fault::CpuPin { cpus: bad.into() }.check().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_number_and_text_has_a_range_that_its_documentation_names() {
        let schema = schemars::schema_for!(Fault).to_value();
        let mut seen = 0;
        for variant in schema["oneOf"].as_array().unwrap() {
            let properties = variant["properties"].as_object().unwrap();
            let fault = properties["name"]["const"].as_str().unwrap();
            for (parameter, about) in properties.iter().filter(|(name, _)| *name != "name") {
                let kind = about["type"].to_string();
                let is_plain = kind.contains("integer") || (kind.contains("string") && about["format"].is_null());
                let range = Fault::range_of(fault, parameter);
                assert_eq!(range.is_some(), is_plain, "{fault} {parameter}: {about}");
                let Some(range) = range else { continue };
                seen += 1;
                let text = about["description"].as_str().unwrap().replace(',', "");
                if let ParameterRange::Number { least, most } | ParameterRange::Offset { least, most } = range {
                    let most = if most == BYTES_MAX { "16 TiB".to_owned() } else { most.to_string() };
                    let least = if least == 1 << 20 { "1 MiB".to_owned() } else { least.to_string() };
                    assert!(text.contains(&format!("{least} to {most}")), "{fault} {parameter}: {range}: {text}");
                }
            }
        }
        assert!(seen > 50, "{seen}");
    }
}
