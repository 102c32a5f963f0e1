//! Metadata of an installed Python package: its name, version and requirements (PEP 508), and which of these are not met by the packages
//! that are installed beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};

use super::requirements::normal;

/// Maximum depth of parentheses in a marker.
const DEPTH_MAX: u32 = 20;

/// Content of a package's `METADATA`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Name of the package in its normal form (PEP 503).
    pub name: String,
    pub version: String,
    requires: Vec<Requirement>,
    requires_python: Option<String>,
}

/// Requirement of a package: a `Requires-Dist` line of its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// Text of the line, without the marker.
    text: String,
    /// Name of the required package in its normal form.
    name: String,
    extras: Vec<String>,
    /// Accepted versions, without blanks; empty for all versions.
    versions: String,
    /// True if the package is required from a URL, so that no version meets it.
    has_url: bool,
    /// Condition under which the package is required; empty for always.
    marker: String,
}

impl Metadata {
    /// Parses the text of a `METADATA` file; `None` if it has no name or version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let headers = text.lines().take_while(|line| !line.is_empty());
        let (mut name, mut version, mut requires, mut requires_python) = (None, None, Vec::new(), None);
        for (key, value) in headers.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key.to_ascii_lowercase().as_str() {
                "name" => name = Some(normal(value)),
                "version" => version = Some(value.to_owned()),
                "requires-python" => requires_python = Some(value.to_owned()),
                "requires-dist" => requires.push(Requirement::parse(value)),
                _ => {}
            }
        }
        Some(Self { name: name?, version: version?, requires, requires_python })
    }

    /// Returns the requirements that are new or changed compared with those of `before`, and that the installed packages or the Python
    /// version do not meet, each with the reason.
    #[must_use]
    pub fn unmet(&self, before: Option<&Self>, installed: &BTreeMap<String, Self>, python: &str) -> Vec<String> {
        let mut unmet = Vec::new();
        if let Some(wanted) = &self.requires_python
            && before.is_none_or(|before| before.requires_python.as_ref() != Some(wanted))
            && !fits(wanted, python)
        {
            unmet.push(format!("Python {wanted}: the template has Python {python}"));
        }
        let known = before.map_or(&[][..], |before| &before.requires);
        let new = self.requires.iter().filter(|wanted| !known.iter().any(|known| known.is_same(wanted)));
        for requirement in new.filter(|wanted| wanted.applies(&[], python)) {
            requirement.check(installed, python, &mut BTreeSet::new(), &mut unmet);
        }
        unmet
    }
}

impl Requirement {
    fn parse(text: &str) -> Self {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let end = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
        let (name, mut rest) = (&text[..end], text[end..].trim_start());
        let mut extras = Vec::new();
        if let Some((list, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            extras = list.split(',').map(|extra| normal(extra.trim())).filter(|extra| !extra.is_empty()).collect();
            rest = after.trim_start();
        }
        let has_url = rest.starts_with('@');
        // A URL may contain a semicolon: only one after a blank ends it.
        let (versions, marker) = rest.split_once(if has_url { " ;" } else { ";" }).unwrap_or((rest, ""));
        let shown = text[..text.len() - rest.len() + versions.len()].trim().to_owned();
        let versions = if has_url { "" } else { versions.trim().trim_matches(['(', ')']) };
        Self {
            text: shown,
            name: normal(name),
            extras,
            versions: versions.split_whitespace().collect(),
            has_url,
            marker: marker.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// Tells whether two requirements mean the same, whichever quotation marks and blanks they are written with.
    fn is_same(&self, other: &Self) -> bool {
        let of =
            |one: &Self| (one.name.clone(), one.extras.clone(), one.versions.clone(), one.marker.replace('\'', "\""));
        of(self) == of(other) && (!self.has_url || self.text == other.text)
    }

    /// Tells whether the package is required on this Python, with these extras. A marker that cannot be understood counts as met.
    fn applies(&self, extras: &[String], python: &str) -> bool {
        let with = |extra: &str| Marker::parse(&self.marker, extra, python).unwrap_or(true);
        self.marker.is_empty() || with("") || extras.iter().any(|extra| with(extra))
    }

    /// Adds the reasons why this requirement, or a requirement of its extras, is not met to `unmet`; a requirement that is in `seen` is
    /// skipped.
    fn check(
        &self,
        installed: &BTreeMap<String, Metadata>,
        python: &str,
        seen: &mut BTreeSet<String>,
        unmet: &mut Vec<String>,
    ) {
        if !seen.insert(self.text.clone()) {
            return;
        }
        let Some(found) = installed.get(&self.name) else {
            unmet.push(format!("{}: the template does not pin {}", self.text, self.name));
            return;
        };
        if self.has_url || !fits(&self.versions, &found.version) {
            unmet.push(format!("{}: the template pins {} {}", self.text, self.name, found.version));
            return;
        }
        let is_of_extras = |wanted: &&Self| wanted.applies(&self.extras, python) && !wanted.applies(&[], python);
        for requirement in found.requires.iter().filter(is_of_extras) {
            requirement.check(installed, python, seen, unmet);
        }
    }
}

/// Tells whether a version meets specifiers such as `>=1.0,<2`. Returns true if either text is invalid: the installer has accepted both.
fn fits(specifiers: &str, version: &str) -> bool {
    let (Ok(specifiers), Ok(version)) = (VersionSpecifiers::from_str(specifiers), Version::from_str(version)) else {
        return true;
    };
    specifiers.contains(&version)
}

/// Evaluation of an environment marker, such as `python_version < "3.11" and extra == "fast"`.
struct Marker<'a> {
    words: Vec<Word<'a>>,
    at: usize,
    extra: &'a str,
    python: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Word<'a> {
    /// Word without quotation marks: a variable, `and`, `or`, `in`, `not`, an operator or a parenthesis.
    Plain(&'a str),
    Literal(&'a str),
}

impl<'a> Marker<'a> {
    /// Returns the value of a marker; `None` if it cannot be understood.
    fn parse(text: &'a str, extra: &'a str, python: &'a str) -> Option<bool> {
        let mut marker = Self { words: words(text)?, at: 0, extra, python };
        let value = marker.any_of(0)?;
        (marker.at == marker.words.len()).then_some(value)
    }

    fn any_of(&mut self, depth: u32) -> Option<bool> {
        let mut value = self.all_of(depth)?;
        while self.takes("or") {
            value |= self.all_of(depth)?;
        }
        Some(value)
    }

    fn all_of(&mut self, depth: u32) -> Option<bool> {
        let mut value = self.one(depth)?;
        while self.takes("and") {
            value &= self.one(depth)?;
        }
        Some(value)
    }

    fn one(&mut self, depth: u32) -> Option<bool> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.takes("(") {
            let value = self.any_of(depth + 1)?;
            return self.takes(")").then_some(value);
        }
        let (left, is_extra) = self.value()?;
        let negated = self.takes("not");
        let Word::Plain(operator) = self.next()? else { return None };
        let (right, _) = self.value()?;
        if negated {
            return (operator == "in").then(|| !right.contains(&left));
        }
        if is_extra && operator == "==" {
            return Some(normal(&left) == normal(&right));
        }
        compare(&left, operator, &right)
    }

    /// Returns the next value of the marker, and true if it is the value of the variable `extra`.
    fn value(&mut self) -> Option<(String, bool)> {
        let variable = match self.next()? {
            Word::Literal(text) => return Some((text.to_owned(), false)),
            Word::Plain(variable) => variable,
        };
        let value = match variable {
            "extra" => self.extra.to_owned(),
            "python_version" => self.python.split('.').take(2).collect::<Vec<_>>().join("."),
            "python_full_version" | "implementation_version" => self.python.to_owned(),
            "os_name" => "posix".to_owned(),
            "sys_platform" => "linux".to_owned(),
            "platform_system" => "Linux".to_owned(),
            "platform_machine" => std::env::consts::ARCH.to_owned(),
            "platform_python_implementation" => "CPython".to_owned(),
            "implementation_name" => "cpython".to_owned(),
            _ => return None,
        };
        Some((value, variable == "extra"))
    }

    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let is_next = self.words.get(self.at) == Some(&Word::Plain(wanted));
        self.at += usize::from(is_next);
        is_next
    }
}

/// Compares two values of a marker: as versions if both are versions, else as texts; `None` for an unknown operator.
fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    if operator == "in" {
        return Some(right.contains(left));
    }
    let specifier = VersionSpecifier::from_str(&format!("{operator}{right}"));
    if let (Ok(specifier), Ok(version)) = (specifier, Version::from_str(left)) {
        return Some(specifier.contains(&version));
    }
    match operator {
        "==" | "===" => Some(left == right),
        "!=" => Some(left != right),
        "<" => Some(left < right),
        "<=" => Some(left <= right),
        ">" => Some(left > right),
        ">=" => Some(left >= right),
        _ => None,
    }
}

/// Splits a marker into its words; `None` where a quotation mark is not closed, or a character has no place in a marker.
fn words(text: &str) -> Option<Vec<Word<'_>>> {
    let is_of_operator = |c: char| "<>=!~".contains(c);
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let end_of = |is_part: &dyn Fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let end = match first {
            '"' | '\'' => {
                let end = rest[1..].find(first)? + 1;
                words.push(Word::Literal(&rest[1..end]));
                end + 1
            }
            _ => {
                let end = match first {
                    '(' | ')' => 1,
                    _ if is_of_operator(first) => end_of(&is_of_operator),
                    _ if is_of_name(first) => end_of(&is_of_name),
                    _ => return None,
                };
                words.push(Word::Plain(&rest[..end]));
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, requires: &[&str]) -> Metadata {
        let requires: String = requires.iter().map(|line| format!("Requires-Dist: {line}\n")).collect();
        let text = format!(
            "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{requires}\nRequires-Dist: of-the-text\n"
        );
        Metadata::parse(&text).unwrap()
    }

    fn installed(packages: &[Metadata]) -> BTreeMap<String, Metadata> {
        packages.iter().map(|one| (one.name.clone(), one.clone())).collect()
    }

    #[test]
    fn only_requirements_that_the_pins_do_not_meet_are_named() {
        let beside = installed(&[
            package("Pandas", "3.1.1", &[]),
            package("typing-extensions", "4.16.0", &[]),
            package(
                "flask",
                "3.1.3",
                &["werkzeug>=3", "asgiref>=3.2; extra == 'async'", "pandas>=9; extra == \"big\""],
            ),
        ]);
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(package("mancer", "1", &[line]).unmet(None, &beside, "3.11.2"), expected, "{line}");
        };
        for met in [
            "pandas",
            "pandas>=1.5.0",
            "pandas (>=1.5,<4)",
            "pandas ~= 3.1",
            "Typing_Extensions==4.16.*",
            "none; extra == 'test'",
            "none; python_version < '3.8'",
            "none; python_full_version <= \"3.11.1\"",
            "none; sys_platform == 'win32' or (os_name == \"nt\" and python_version >= '3')",
            "none; 'linux' not in sys_platform",
            "flask",
        ] {
            check(met, &[]);
        }
        check("leftpad>=1", &["leftpad>=1: the template does not pin leftpad"]);
        check("pandas>=4", &["pandas>=4: the template pins pandas 3.1.1"]);
        check("pandas<3,>=2 ; python_version >= '3.9'", &["pandas<3,>=2: the template pins pandas 3.1.1"]);
        check("pandas @ https://host/a;b.whl", &["pandas @ https://host/a;b.whl: the template pins pandas 3.1.1"]);
        check("none; sys_platform == 'linux'", &["none: the template does not pin none"]);
        check("none; platform_machine in 'x86_64 aarch64'", &["none: the template does not pin none"]);
        check("none; nonsense ?", &["none: the template does not pin none"]);
        check("flask[Async]>=2", &["asgiref>=3.2: the template does not pin asgiref"]);
        check(
            "flask[async,big]",
            &["asgiref>=3.2: the template does not pin asgiref", "pandas>=9: the template pins pandas 3.1.1"],
        );
    }

    #[test]
    fn what_the_pinned_version_required_too_is_not_new() {
        let beside = installed(&[package("pandas", "3.1.1", &[])]);
        let before = package("mancer", "1", &["pandas<3", "left_pad (>=1); python_version > '3'"]);
        let same = package("mancer", "2", &["pandas <3", "Left-Pad>=1 ; python_version > \"3\""]);
        assert_eq!(same.unmet(Some(&before), &beside, "3.11.2"), Vec::<String>::new());
        let changed = package("mancer", "2", &["pandas<2", "left-pad>=2"]);
        assert_eq!(
            changed.unmet(Some(&before), &beside, "3.11.2"),
            ["pandas<2: the template pins pandas 3.1.1", "left-pad>=2: the template does not pin left-pad"]
        );
    }

    #[test]
    fn the_python_of_the_template_is_a_requirement_too() {
        let text = |python: &str| format!("Name: a\nVersion: 1\nRequires-Python: {python}\n");
        let of = |python: &str| Metadata::parse(&text(python)).unwrap();
        let none = BTreeMap::new();
        assert_eq!(of(">=3.12").unmet(None, &none, "3.11.2"), ["Python >=3.12: the template has Python 3.11.2"]);
        assert!(of(">=3.8,<4").unmet(None, &none, "3.11.2").is_empty());
        assert!(of(">=3.12").unmet(Some(&of(">=3.12")), &none, "3.11.2").is_empty());
        assert_eq!(Metadata::parse("Name: a\n\nVersion: 1\n"), None);
    }
}
