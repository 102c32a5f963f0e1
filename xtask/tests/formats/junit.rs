//! Holds a junit.xml to what its readers take: `data/junit.toml`, and the counts to what is there.

use std::collections::BTreeMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    must: BTreeMap<String, Kind>,
    may: BTreeMap<String, Kind>,
    children: Vec<String>,
    sequence: Vec<String>,
    text: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Text,
    Count,
    Seconds,
    Time,
}

impl Kind {
    fn takes(self, value: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Text => true,
            Self::Count => digits(value),
            Self::Seconds => value.split_once('.').map_or(digits(value), |(whole, part)| digits(whole) && digits(part)),
            Self::Time => value.split_once('T').is_some_and(|(day, time)| day.len() == 10 && time.len() >= 8),
        }
    }
}

/// An element that was read.
#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub children: Vec<Element>,
    pub text: String,
}

impl Element {
    /// Returns all elements of a name, however deep.
    pub fn all<'a>(&'a self, name: &str) -> Vec<&'a Element> {
        let mut found: Vec<&Element> = self.children.iter().filter(|child| child.name == name).collect();
        found.extend(self.children.iter().flat_map(|child| child.all(name)));
        found
    }
}

/// Reads a junit.xml, and says what its readers would not take.
pub fn check(text: &str) -> Result<Element, String> {
    let rules: BTreeMap<String, Rule> = toml::from_str(include_str!("../data/junit.toml")).expect("the rules");
    let valid = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if let Some(wrong) = text.chars().find(|c| !valid(*c)) {
        return Err(format!("{wrong:?} cannot stand in XML"));
    }
    let root = read(text)?;
    if root.name != "testsuites" && root.name != "testsuite" {
        return Err(format!("<{}> at the top", root.name));
    }
    hold(&root, &rules)?;
    for suite in root.all("testsuite").into_iter().chain([&root]) {
        for (attribute, element) in
            [("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]
        {
            let counted = suite.all(element).len().to_string();
            if suite.attributes.get(attribute).is_some_and(|told| *told != counted) {
                return Err(format!(
                    "<{}> says {attribute}={}, and has {counted}",
                    suite.name, suite.attributes[attribute]
                ));
            }
        }
    }
    Ok(root)
}

fn hold(element: &Element, rules: &BTreeMap<String, Rule>) -> Result<(), String> {
    let name = &element.name;
    let rule = rules.get(name).ok_or_else(|| format!("nobody knows <{name}>"))?;
    if let Some(missing) = rule.must.keys().find(|key| !element.attributes.contains_key(*key)) {
        return Err(format!("<{name}> lacks {missing}"));
    }
    for (key, value) in &element.attributes {
        let kind =
            rule.must.get(key).or_else(|| rule.may.get(key)).ok_or_else(|| format!("<{name}> takes no {key}"))?;
        if !kind.takes(value) {
            return Err(format!("<{name}> {key}={value:?} is no {kind:?}"));
        }
    }
    if !rule.text && !element.text.trim().is_empty() {
        return Err(format!("<{name}> takes no text"));
    }
    let mut place = 0;
    for (index, child) in element.children.iter().enumerate() {
        let many = rule.children.contains(&format!("{}...", child.name));
        let first = !element.children[..index].iter().any(|before| before.name == child.name);
        let one = rule.children.contains(&child.name) && first;
        let next = rule.sequence.iter().skip(place).position(|name| *name == child.name);
        place += next.map_or(0, |next| next + 1);
        if !many && !one && next.is_none() {
            return Err(format!("<{name}> takes no <{}> here", child.name));
        }
        hold(child, rules)?;
    }
    Ok(())
}

fn read(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::Start(start) => open.push(element(&start)?),
            Event::Empty(start) => {
                let element = element(&start)?;
                open.last_mut().ok_or("more ends than begins")?.children.push(element);
            }
            Event::End(_) => {
                let element = open.pop().ok_or("more ends than begins")?;
                open.last_mut().ok_or("more ends than begins")?.children.push(element);
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|error| error.to_string())?;
                open.last_mut().ok_or("text after the end")?.text.push_str(&text);
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| error.to_string())?;
                let known = match name.as_ref() {
                    "lt" => "<",
                    "gt" => ">",
                    "amp" => "&",
                    "quot" => "\"",
                    "apos" => "'",
                    number if number.starts_with('#') => "?",
                    other => return Err(format!("nobody knows &{other};")),
                };
                open.last_mut().ok_or("text after the end")?.text.push_str(known);
            }
            Event::Eof => break,
            Event::Decl(_) => {}
            other => return Err(format!("{other:?} is not expected")),
        }
    }
    let [top] = open.as_mut_slice() else { return Err("an element without an end".into()) };
    match top.children.len() {
        1 => Ok(top.children.remove(0)),
        count => Err(format!("{count} elements at the top")),
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut attributes = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|error| error.to_string())?;
        attributes.insert(String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value.into_owned());
    }
    Ok(Element { name, attributes, ..Element::default() })
}
