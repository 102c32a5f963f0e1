//! `[[expects]]` in a `scenario.toml`: findings of a lab that the scenario itself causes.

use serde::Deserialize;
use toml::Spanned;

use super::parse::{Source, nearest};
use crate::error::Error;

/// Names that findings have in manifests and in the record.
pub const FINDINGS: [&str; 8] =
    ["oom_kill", "crash", "core_dump", "unit_failed", "unit_restarted", "left_over", "machine_ended", "rebooted"];

/// A finding that is expected of a scenario's lab, because the scenario itself causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name of the finding, one of [`FINDINGS`].
    pub finding: String,
    /// Names in the lab of the containers that the finding is expected on; any container if the list is empty.
    pub on: Vec<String>,
    /// Pattern of the process or unit that the finding is about, where `*` stands for anything; any if not given.
    pub about: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedTable {
    /// Kind of the finding, one of `oom_kill`, `crash`, `core_dump`, `unit_failed`, `unit_restarted`, `left_over`,
    /// `machine_ended` and `rebooted`.
    finding: Spanned<String>,
    /// The containers that the finding is expected on; any container if none is listed.
    #[serde(default)]
    on: Vec<Spanned<String>>,
    /// The process or unit, where `*` stands for anything; any if not given.
    about: Option<String>,
}

impl ExpectedTable {
    /// Checks the table against the scenario's containers.
    pub fn check(self, source: &Source, containers: &[&str]) -> Result<Expected, Error> {
        let finding = self.finding.get_ref();
        if !FINDINGS.contains(&finding.as_str()) {
            let hint = nearest(finding, FINDINGS).map_or_else(
                || format!("the findings are {}", FINDINGS.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            return Err(source.error_at(&self.finding, format!("there is no finding {finding:?}: {hint}")));
        }
        if let Some(bad) = self.on.iter().find(|name| !containers.contains(&name.get_ref().as_str())) {
            let known = containers.join(", ");
            let message = format!("there is no container {:?}: the scenario has {known}", bad.get_ref());
            return Err(source.error_at(bad, message));
        }
        let on = self.on.into_iter().map(Spanned::into_inner).collect();
        Ok(Expected { finding: self.finding.into_inner(), on, about: self.about })
    }
}

impl Expected {
    /// Tells whether the scenario expects this finding of a container about a process or unit.
    #[must_use]
    pub fn covers(&self, finding: &str, container: Option<&str>, about: &str) -> bool {
        self.finding == finding
            && (self.on.is_empty() || container.is_some_and(|name| self.on.iter().any(|on| on == name)))
            && self.about.as_ref().is_none_or(|pattern| matches(pattern, about))
    }
}

/// Tells whether a text matches a pattern, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    (0..=text.len()).filter(|start| text.is_char_boundary(*start)).any(|start| matches(rest, &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a.service", "a.service", true),
            ("a.service", "b.service", false),
            ("batch-worker@*.service", "batch-worker@2.service", true),
            ("batch-worker@*.service", "batch-worker.service", false),
            ("*", "", true),
            ("*x*y", "axbxcy", true),
            ("*x*y", "axbxcz", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_said_is_any() {
        let expected = |on: &[&str], about: Option<&str>| Expected {
            finding: "oom_kill".into(),
            on: on.iter().map(|name| (*name).into()).collect(),
            about: about.map(str::to_owned),
        };
        assert!(expected(&[], None).covers("oom_kill", None, "x"));
        assert!(!expected(&[], None).covers("crash", None, "x"));
        assert!(expected(&["a"], Some("x*")).covers("oom_kill", Some("a"), "xy"));
        assert!(!expected(&["a"], None).covers("oom_kill", Some("b"), "x"));
        assert!(!expected(&["a"], None).covers("oom_kill", None, "x"));
    }
}
