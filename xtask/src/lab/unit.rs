//! State of a systemd unit that is waited for: active, still starting, or stuck for good.

use std::path::Path;
use std::time::Duration;

use super::container::Container;
use super::exec::ExecRequest;
use super::probe_answer::ProbeAnswer;

/// Unit properties that are queried at each test.
const PROPERTIES: &str =
    "--property=Id,LoadState,LoadError,ActiveState,SubState,Result,ExecMainStatus,Job,TriggeredBy,OnFailure";

/// Properties of systemd itself that are queried at each test.
const MANAGER: &str = "--property=SystemState,NJobs";

/// Maximum number of similar unit names that are suggested for a missing unit.
const SIMILAR_MAX: usize = 3;

/// Argument of journalctl: number of journal lines that an answer shows for a failed unit.
const JOURNAL_LINES: &str = "--lines=6";

/// Properties of one unit, as `systemctl show` prints them.
#[derive(Debug, Clone, Copy)]
struct UnitState<'a>(&'a str);

impl<'a> UnitState<'a> {
    fn value(self, name: &str) -> &'a str {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    }

    /// Tells whether `systemctl is-active` would report the unit as active.
    fn is_active(self) -> bool {
        matches!(self.value("ActiveState"), "active" | "reloading" | "refreshing")
    }

    /// Describes the state, such as `failed (failed), result exit-code`.
    fn in_words(self) -> String {
        let result = match self.value("Result") {
            "" | "success" => String::new(),
            result => format!(", result {result}"),
        };
        let load = match self.value("LoadState") {
            "" | "loaded" => String::new(),
            load => format!(", {load}"),
        };
        format!("{} ({}){load}{result}", self.value("ActiveState"), self.value("SubState"))
    }

    /// Returns the reason why the unit stays in its state, unless it is changed or started from outside.
    fn dead_end(self) -> Option<DeadEnd> {
        match (self.value("LoadState"), self.value("ActiveState"), self.value("SubState")) {
            ("not-found", "inactive", _) => Some(DeadEnd::NotFound),
            ("masked", "inactive", _) => Some(DeadEnd::Unusable("it is masked".to_owned())),
            (load @ ("bad-setting" | "error"), "inactive", _) => {
                let why = self.value("LoadError").split_once(' ').map_or(load, |(_, why)| why.trim_matches('"'));
                Some(DeadEnd::Unusable(format!("systemd cannot load it: {why}")))
            }
            // While systemd is about to start it again, the state below that is another one.
            ("loaded", "failed", "failed")
                if ["Job", "TriggeredBy", "OnFailure"].iter().all(|name| self.value(name).is_empty()) =>
            {
                let status = match self.value("ExecMainStatus") {
                    "" | "0" => String::new(),
                    status => format!(", status {status}"),
                };
                let result = self.value("Result");
                Some(DeadEnd::Failed(format!("it has failed, result {result}{status}, and nothing starts it again")))
            }
            _ => None,
        }
    }
}

/// State that a unit never leaves by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeadEnd {
    /// No unit has this name.
    NotFound,
    /// systemd cannot start the unit, for this reason.
    Unusable(String),
    /// The unit has failed and is not restarted, with a description.
    Failed(String),
}

impl Container {
    /// Tests whether a unit is active.
    pub(super) fn look_at_unit(&self, unit: &str, bound: Duration, streams_dir: &Path) -> Result<(), ProbeAnswer> {
        let argv = ["systemctl", "show", PROPERTIES, "--", unit].map(str::to_owned).to_vec();
        let shown = self.look_and_read(argv, bound, streams_dir)?;
        let units: Vec<UnitState<'_>> = shown.split("\n\n").map(UnitState).collect();
        if units.iter().any(|unit| unit.is_active()) {
            return Ok(());
        }
        let words: Vec<String> = units.iter().map(|unit| unit.in_words()).collect();
        Err(match units.as_slice() {
            [one] if one.dead_end().is_some() => ProbeAnswer::DeadEnd { text: words.concat(), evidence: shown },
            _ => ProbeAnswer::No(words.join("; ")),
        })
    }

    /// Returns the reason why a unit with the properties `shown` will not become active; `None` while systemd still boots or has jobs. A
    /// failed unit counts only with `failed_too`.
    pub(super) fn unit_never(&self, unit: &str, shown: &str, failed_too: bool, streams_dir: &Path) -> Option<String> {
        let state = UnitState(shown);
        let dead_end = state.dead_end()?;
        let manager = self.said(&["systemctl", "show", MANAGER], streams_dir)?;
        let is_booted = matches!(UnitState(&manager).value("SystemState"), "running" | "degraded");
        if !is_booted || UnitState(&manager).value("NJobs") != "0" {
            return None;
        }
        match dead_end {
            DeadEnd::NotFound => {
                let files = ["systemctl", "list-unit-files", "--no-legend", "--no-pager"];
                let loaded = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager"];
                let lists = [self.said(&files, streams_dir)?, self.said(&loaded, streams_dir)?].concat();
                let names = lists.lines().filter_map(|line| line.split_whitespace().next());
                let similar = similar(state.value("Id"), names);
                let help = if similar.is_empty() {
                    "`systemctl list-unit-files` in the machine lists the units that exist".to_owned()
                } else {
                    format!("did you mean {}?", similar.join(" or "))
                };
                Some(format!("there is no such unit: {help}"))
            }
            DeadEnd::Unusable(reason) => Some(reason),
            DeadEnd::Failed(reason) if failed_too => {
                let unit = format!("--unit={unit}");
                let journal = ["journalctl", "--no-pager", "--quiet", "--output=cat", JOURNAL_LINES, &unit];
                let lines = self.said(&journal, streams_dir).unwrap_or_default();
                Some(lines.lines().fold(reason, |text, line| format!("{text}\n  {line}")))
            }
            DeadEnd::Failed(_) => None,
        }
    }

    /// Runs a test program in the container that must succeed, and returns its output.
    fn look_and_read(&self, argv: Vec<String>, bound: Duration, streams_dir: &Path) -> Result<String, ProbeAnswer> {
        let request =
            ExecRequest { argv, deadline: bound, streams_dir: streams_dir.to_owned(), ..ExecRequest::default() };
        let output = self.answer_of(&request)?;
        let text = output.stdout.text();
        let text = text.map_err(|error| ProbeAnswer::NotLooked(format!("reading a program's output: {error}")))?;
        Ok(text.trim_end().to_owned())
    }
}

/// Returns the names that are most similar to a missing one, the most similar first.
fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let stem = |name: &'a str| name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let wanted_stem = wanted.rsplit_once('.').map_or(wanted, |(stem, _)| stem);
    let mut found: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let stem = stem(name);
            let distance = strsim::damerau_levenshtein(wanted_stem, stem);
            let is_part =
                stem.len().min(wanted_stem.len()) >= 3 && (stem.contains(wanted_stem) || wanted_stem.contains(stem));
            (is_part || distance <= 1 + wanted_stem.len() / 4).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name).take(SIMILAR_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the output of `systemctl show` of systemd 252, with these properties changed.
    fn shown(changes: &[(&str, &str)]) -> String {
        let mut values = vec![
            ("Id", "x.service"),
            ("LoadState", "loaded"),
            ("ActiveState", "inactive"),
            ("SubState", "dead"),
            ("Result", "success"),
            ("ExecMainStatus", "0"),
            ("Job", ""),
            ("TriggeredBy", ""),
            ("OnFailure", ""),
        ];
        for (name, value) in changes {
            values.retain(|(known, _)| known != name);
            values.push((name, value));
        }
        values.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    fn check(changes: &[(&str, &str)], expected: Option<&DeadEnd>) {
        let text = shown(changes);
        assert_eq!(UnitState(&text).dead_end().as_ref(), expected, "{changes:?}");
    }

    #[test]
    fn a_unit_is_at_a_dead_end_only_where_systemd_will_do_nothing_more() {
        let failed = |more: &[(&'static str, &'static str)]| {
            let mut changes = vec![("ActiveState", "failed"), ("SubState", "failed"), ("Result", "exit-code")];
            changes.push(("ExecMainStatus", "3"));
            changes.extend(more);
            changes
        };
        check(&[], None); // it may be started
        check(&[("ActiveState", "activating"), ("SubState", "auto-restart"), ("Result", "exit-code")], None);
        check(&[("LoadState", "not-found")], Some(&DeadEnd::NotFound));
        check(&[("LoadState", "not-found"), ("ActiveState", "active")], None); // its file is gone, it runs
        check(&[("LoadState", "masked")], Some(&DeadEnd::Unusable("it is masked".into())));
        let error = "org.freedesktop.systemd1.BadUnitSetting \"Unit x.service has a bad unit file setting.\"";
        let why = "systemd cannot load it: Unit x.service has a bad unit file setting.";
        check(&[("LoadState", "bad-setting"), ("LoadError", error)], Some(&DeadEnd::Unusable(why.into())));
        let why = "it has failed, result exit-code, status 3, and nothing starts it again";
        check(&failed(&[]), Some(&DeadEnd::Failed(why.into())));
        check(&failed(&[("Job", "77")]), None);
        check(&failed(&[("TriggeredBy", "x.timer")]), None);
        check(&failed(&[("OnFailure", "repair.service")]), None);
        check(&failed(&[("SubState", "failed-before-auto-restart")]), None);
    }

    #[test]
    fn a_unit_is_active_as_systemctl_says_and_its_state_is_told_in_words() {
        for (state, expected) in [("active", true), ("reloading", true), ("activating", false), ("failed", false)] {
            assert_eq!(UnitState(&shown(&[("ActiveState", state)])).is_active(), expected, "{state}");
        }
        assert_eq!(UnitState(&shown(&[])).in_words(), "inactive (dead)");
        let text = shown(&[("LoadState", "masked"), ("Result", "exit-code")]);
        assert_eq!(UnitState(&text).in_words(), "inactive (dead), masked, result exit-code");
    }

    #[test]
    fn similar_names_are_offered_the_nearest_first() {
        let names =
            ["ssh.service", "sshd.service", "nginx.service", "postgresql.service", "postgresql@15-main.service"];
        let of = |wanted: &str| similar(wanted, names.into_iter());
        assert_eq!(of("ngnix.service"), ["nginx.service"]);
        assert_eq!(of("postgres.service"), ["postgresql.service", "postgresql@15-main.service"]);
        assert_eq!(of("sshd.socket"), ["sshd.service", "ssh.service"]);
        assert!(of("no-such.service").is_empty());
    }
}
