//! A reference page about one kind of manifest, and its test: the parser accepts the page's examples, knows the same keys, and
//! requires those that the page calls required.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::source::{Field, fields, variants};
use crate::manifest::range::words_of;

/// Environment variable that makes the test write the pages, whatever its value.
const WRITE_VARIABLE: &str = "E2E_WRITE_REFERENCE";
const COMMAND: &str = "E2E_WRITE_REFERENCE=1 cargo test -p xtask --lib manifest::reference";

/// Explanation of a size, a duration and a mode, on each page.
const WORDS: &str = "\
A **size** is text: a number with `k`, `M`, `G` or `T` for binary multiples, such as `\"512M\"`; without one it is bytes. A **duration** is
text such as `\"500ms\"`, `\"30s\"`, `\"2m\"` or `\"1h 30m\"`. A **mode** is text of octal digits from `\"0000\"` to `\"7777\"`, such as
`\"0644\"`. Both ends of a range belong to it. Whatever the file says that is not described here, or is out of its range, is an error with
its file, line and column.
";

/// Reference page of one kind of manifest.
pub struct Page {
    /// Path from the project's root.
    pub path: &'static str,
    pub title: &'static str,
    pub beginning: &'static str,
    /// Complete example files, each with the sentence before it on the page; together they have every key.
    pub examples: &'static [(&'static str, &'static str)],
    pub sections: &'static [Section],
    /// Types that are not tables, each with its description on the page.
    pub words: Vec<(&'static str, String)>,
    /// Default values of keys, by `HEADING KEY`.
    pub defaults: Vec<(&'static str, String)>,
    /// Runs the real parser on a project that has this manifest.
    pub parse: fn(&str) -> Result<(), String>,
}

/// Table of keys on a page.
pub struct Section {
    /// Heading, as a file writes it, such as `[[files]]`.
    pub heading: &'static str,
    pub about: &'static str,
    /// Path of the table in an example, key by key; `*` is any key, and a list stands for its first entry.
    pub place: &'static [&'static str],
    /// Text of the Rust source file that has the table's type.
    pub source: &'static str,
    pub rust_type: &'static str,
    /// The table's keys, where no Rust type has them as fields.
    pub keys: Option<fn() -> Vec<Field>>,
    /// Source of a key's default.
    pub missing: Missing,
    /// Treatment of a key that has no line in the table.
    pub others: Others,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A default for each key.
    ByKey,
    /// A default for the whole table: none of its keys is required.
    ByTable,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Refused,
    /// Any other key is taken as a parameter.
    Taken,
}

impl Page {
    pub fn text(&self) -> String {
        let mut text = format!("# {}\n\n{}\n", self.title, self.beginning);
        text.push_str(&format!("This page is made from the types in `xtask/src/manifest`: `{COMMAND}`.\n"));
        for (about, example) in self.examples {
            text.push_str(&format!("\n{about}\n\n```toml\n{}```\n", example.trim_start()));
        }
        text.push_str(&format!("\n{WORDS}"));
        for section in self.sections {
            text.push_str(&format!("\n## {}\n\n", section.heading));
            if !section.about.is_empty() {
                text.push_str(&format!("{}\n\n", section.about));
            }
            text.push_str("| key | type | if not given | meaning |\n|---|---|---|---|\n");
            for field in section.fields() {
                let key = if field.is_flat { "any other".to_owned() } else { format!("`{}`", field.name) };
                text.push_str(&format!(
                    "| {key} | {} | {} | {} |\n",
                    self.shown_type(section, &field),
                    self.missing(section, &field),
                    field.meaning.replace('|', "\\|")
                ));
            }
        }
        text
    }

    fn shown_type(&self, section: &Section, field: &Field) -> String {
        if let Some((before, rest)) = field.attributes.split_once("within::<") {
            let words = range(rest.split([',', '>']).next().unwrap_or_default());
            return if before.ends_with("each_") { format!("list, each {words}") } else { bare(&words) };
        }
        if field.attributes.contains("deserialize_with = \"optional_mode\"") {
            return "mode".to_owned();
        }
        if field.is_flat { "anything".to_owned() } else { self.shown(section, &field.rust_type) }
    }

    fn shown(&self, section: &Section, rust_type: &str) -> String {
        let inside = |wrapper: &str| rust_type.strip_prefix(wrapper)?.strip_suffix('>');
        if let Some(inner) = inside("Spanned<").or_else(|| inside("Option<")) {
            return self.shown(section, inner);
        }
        if let Some(inner) = inside("Within<") {
            return bare(&range(inner));
        }
        if let Some(inner) = inside("Vec<Within<") {
            return format!("list, each {}", range(inner.trim_end_matches('>')));
        }
        if let Some(inner) = inside("Vec<") {
            let of = self.shown(section, inner);
            return format!("list of {}", of.replace("[table](", "[tables]("));
        }
        if let Some(inner) = inside("BTreeMap<String, ") {
            return format!("table of {}", self.shown(section, inner).replace("[table](", "[tables]("));
        }
        if let Some((_, words)) = self.words.iter().find(|(name, _)| *name == rust_type) {
            return words.clone();
        }
        if let Some(of) = self.sections.iter().find(|section| section.rust_type == rust_type) {
            return format!("[table](#{})", anchor(of.heading));
        }
        match rust_type {
            "String" => "text".to_owned(),
            "PathBuf" => "path".to_owned(),
            "bool" => "true or false".to_owned(),
            named => {
                let names: Vec<String> = variants(section.source, named)
                    .iter()
                    .map(|one| format!("`\"{}\"`", one.name.to_lowercase()))
                    .collect();
                names.join(" or ")
            }
        }
    }

    fn missing(&self, section: &Section, field: &Field) -> String {
        let known = format!("{} {}", section.heading, field.name);
        if let Some((_, value)) = self.defaults.iter().find(|(key, _)| *key == known) {
            return format!("`{value}`");
        }
        if section.requires(field) {
            return "**required**".to_owned();
        }
        match field.rust_type.as_str() {
            "bool" => "`false`".to_owned(),
            it if it.starts_with("Option<")
                || it.starts_with("Vec<")
                || it.starts_with("BTreeMap<")
                || field.is_flat =>
            {
                "none".to_owned()
            }
            it if self.sections.iter().any(|section| section.rust_type == it) => "see there".to_owned(),
            it if self.words.iter().any(|(name, _)| *name == it) => "none".to_owned(),
            other => panic!("{known} ({other}) is something when it is not given: `defaults` has to say what"),
        }
    }

    /// Asserts that the page agrees with the parser and with its file, which is written first if [`WRITE_VARIABLE`] is set.
    pub fn hold(&self) {
        for (about, example) in self.examples {
            (self.parse)(example).unwrap_or_else(|error| panic!("{}: {about}: {error}", self.path));
        }
        for section in self.sections {
            self.hold_section(section);
        }
        for (key, _) in &self.defaults {
            let known = |section: &Section| {
                let name = key.strip_prefix(section.heading).and_then(|rest| rest.strip_prefix(' '));
                section.fields().iter().any(|field| Some(field.name.as_str()) == name)
            };
            assert!(self.sections.iter().any(known), "{}: there is no key {key} to have a default", self.path);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.path);
        let made = self.text();
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let differing = made.lines().zip(written.lines()).position(|(made, written)| made != written);
        let line = differing.unwrap_or_else(|| made.lines().count().min(written.lines().count())) + 1;
        assert!(made == written, "{}:{line}: the types say something else\n    help: {COMMAND}", self.path);
    }

    fn hold_section(&self, section: &Section) {
        let at = format!("{}: {}", self.path, section.heading);
        let keys: BTreeSet<String> =
            section.fields().into_iter().filter(|field| !field.is_flat).map(|field| field.name).collect();
        let mut shown = BTreeSet::new();
        let mut tried = BTreeSet::new();
        for (_, example) in self.examples {
            let document: Table = example.parse().expect("an example is TOML");
            shown.extend(tables(&document, section.place).iter().flat_map(|table| table.keys().cloned()));
            if tables(&document, section.place).is_empty() {
                continue;
            }
            if section.others == Others::Refused {
                let stray = changed(&document, section.place, |table| {
                    table.insert("no-such-key".to_owned(), Value::Boolean(true));
                });
                let error = (self.parse)(&stray).expect_err("a key that nobody knows is an error");
                assert_eq!(keys_in(&error), keys, "{at}: the parser knows other keys: {error}");
            }
            for field in section.fields().iter().filter(|field| section.requires(field)) {
                let without = changed(&document, section.place, |table| drop(table.remove(&field.name)));
                let error = (self.parse)(&without).expect_err("what is required is missed");
                let missed = error.contains(&format!("missing field `{}`", field.name));
                assert!(missed, "{at}: {} is not missed: {error}", field.name);
                tried.insert(field.name.clone());
            }
        }
        let required: BTreeSet<String> =
            section.fields().into_iter().filter(|field| section.requires(field)).map(|field| field.name).collect();
        assert_eq!(tried, required, "{at}: no example has this table");
        let unshown: Vec<_> = keys.difference(&shown).collect();
        assert!(unshown.is_empty(), "{at}: no example has {unshown:?}");
        for field in section.fields() {
            assert!(!field.meaning.is_empty(), "{at}: {} has no documentation", field.name);
        }
    }
}

impl Section {
    fn fields(&self) -> Vec<Field> {
        let found = self.keys.map(|keys| keys()).or_else(|| fields(self.source, self.rust_type));
        let found = found.unwrap_or_else(|| panic!("the source has no {}", self.rust_type));
        let flat = |field: Field| Field { is_flat: field.is_flat || field.rust_type == "AnyOther", ..field };
        found.into_iter().map(flat).collect()
    }

    fn requires(&self, field: &Field) -> bool {
        let optional = field.rust_type.starts_with("Option<") || field.attributes.contains("default") || field.is_flat;
        self.missing == Missing::ByKey && !optional
    }
}

/// Returns all tables of an example at a path of keys.
fn tables<'t>(document: &'t Table, place: &[&str]) -> Vec<&'t Table> {
    let Some((first, rest)) = place.split_first() else { return vec![document] };
    let found = document.iter().filter(|(key, _)| *first == "*" || key == first).map(|(_, value)| value);
    let inside = found.flat_map(|value| match value {
        Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
        one => one.as_table().into_iter().collect::<Vec<_>>(),
    });
    inside.flat_map(|table| tables(table, rest)).collect()
}

/// Returns the text of an example after a change of the first table at a path of keys.
fn changed(document: &Table, place: &[&str], change: impl FnOnce(&mut Table)) -> String {
    let mut document = document.clone();
    let mut table = &mut document;
    for key in place {
        let value = if *key == "*" { table.iter_mut().next().map(|(_, value)| value) } else { table.get_mut(*key) };
        table = match value.expect("the table is there") {
            Value::Array(list) => list[0].as_table_mut(),
            one => one.as_table_mut(),
        }
        .expect("a table");
    }
    change(table);
    toml::to_string(&document).expect("a document")
}

/// Returns the keys that the parser knows, from its message about an unknown key.
fn keys_in(error: &str) -> BTreeSet<String> {
    let expected =
        error.split("expected ").nth(1).unwrap_or_else(|| panic!("it does not say what it expects: {error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the description of a range by its type's name.
fn range(name: &str) -> String {
    words_of(name).unwrap_or_else(|| panic!("range.rs has no {name}"))
}

/// Removes the article of a description, for a cell of a table.
fn bare(words: &str) -> String {
    let bare = words.strip_prefix("a ").or_else(|| words.strip_prefix("an ")).or_else(|| words.strip_prefix("the "));
    bare.unwrap_or(words).to_owned()
}

/// Returns the anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| (c.is_alphanumeric() || c == '-' || c == '_').then(|| c.to_ascii_lowercase());
    heading.replace(' ', "-").chars().filter_map(kept).collect()
}

/// Formats a size in bytes as manifests write it: quoted, in MiB.
pub fn size(bytes: u64) -> String {
    format!("\"{}M\"", bytes >> 20)
}

/// Formats a duration as manifests write it.
pub fn duration(duration: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(duration))
}
