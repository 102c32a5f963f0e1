//! Masking of declared secrets in JSON, and in Rust values that are written as JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::values::Masks;

/// Step on the path to a part of a JSON document.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Place(usize),
}

impl Masks {
    /// Returns a document with secrets masked in its strings and keys, and with numbers masked that are a secret.
    #[must_use]
    pub fn value(&self, value: &Value) -> Value {
        self.walked(value, true)
    }

    /// Returns one of the engine's own documents with secrets masked in its strings and keys; its numbers stay.
    #[must_use]
    pub fn words(&self, value: &Value) -> Value {
        self.walked(value, false)
    }

    fn walked(&self, value: &Value, with_numbers: bool) -> Value {
        let walked = |item: &Value| self.walked(item, with_numbers);
        match value {
            Value::String(text) => Value::String(self.text(text).into_owned()),
            Value::Number(number) if with_numbers => match self.text(&number.to_string()) {
                Cow::Borrowed(_) => value.clone(),
                Cow::Owned(masked) => Value::String(masked),
            },
            Value::Array(list) => list.iter().map(walked).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, item)| (self.text(key).into_owned(), walked(item))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Returns `thing` with secrets masked. Words of its type, such as the names of its fields and variants, stay even where a secret
    /// equals one. `None` where it holds a secret and cannot be read back from its masked form.
    #[must_use]
    pub fn typed<T: Serialize + DeserializeOwned>(&self, thing: T) -> Option<T> {
        if self.is_empty() {
            return Some(thing);
        }
        let whole = serde_json::to_value(&thing).ok()?;
        let masked = self.value(&whole);
        if masked == whole {
            return Some(thing);
        }
        if let Some(read) = read_back(&masked) {
            return Some(read);
        }
        // A value that is one of the type's own words: each part by itself.
        let mut document = whole;
        let _: T = read_back(&document)?;
        let mut places = Vec::new();
        places_in(&document, &mut Vec::new(), &mut places);
        for place in places {
            let Some(part) = part_at(&mut document, &place) else { continue };
            let (before, after) = (part.clone(), self.leaf(part));
            if after == before {
                continue;
            }
            *part = after;
            if read_back::<T>(&document).is_none()
                && let Some(part) = part_at(&mut document, &place)
            {
                *part = before;
            }
        }
        read_back(&document)
    }

    /// Masks a string, a number, or the keys of an object.
    fn leaf(&self, value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, item)| (self.text(key).into_owned(), item.clone())).collect())
            }
            Value::Array(_) => value.clone(),
            leaf => self.value(leaf),
        }
    }
}

/// Reads a Rust value from a document; `None` unless the value serializes to the same document again.
fn read_back<T: Serialize + DeserializeOwned>(document: &Value) -> Option<T> {
    let read: T = serde_json::from_value(document.clone()).ok()?;
    (serde_json::to_value(&read).ok()? == *document).then_some(read)
}

/// Collects the paths to all parts of a document, inner parts first: masking a key changes the paths to the parts below it.
fn places_in(value: &Value, here: &mut Vec<Step>, places: &mut Vec<Vec<Step>>) {
    let mut below = |step: Step, item: &Value| {
        here.push(step);
        places_in(item, here, places);
        here.pop();
    };
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(place, item)| below(Step::Place(place), item)),
        Value::Object(map) => map.iter().for_each(|(key, item)| below(Step::Key(key.clone()), item)),
        _ => {}
    }
    places.push(here.clone());
}

fn part_at<'a>(document: &'a mut Value, place: &[Step]) -> Option<&'a mut Value> {
    place.iter().try_fold(document, |part, step| match step {
        Step::Key(key) => part.get_mut(key),
        Step::Place(place) => part.get_mut(place),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{CaseId, Event, Stamped, Verdict};

    #[test]
    fn a_document_has_no_value_in_strings_keys_and_numbers() {
        let masks = Masks::new(["hunter22", "12345678"]).unwrap();
        let document = json!({"a": ["x hunter22", 12_345_678, 1.5, null], "of hunter22": {"b": "12345678"}});
        let expected = json!({"a": ["x [redacted]", "[redacted]", 1.5, null], "of [redacted]": {"b": "[redacted]"}});
        assert_eq!(masks.value(&document), expected);
    }

    fn check(value: &str, event: Event, expected: &Value) {
        let masks = Masks::new([value]).unwrap();
        let masked = masks.typed(Stamped { at_ms: 1.25, event }).unwrap();
        let shown = serde_json::to_value(&masked).unwrap();
        for (key, expected) in expected.as_object().unwrap() {
            assert_eq!(&shown[key], expected, "{value}: {shown}");
        }
    }

    #[test]
    fn words_of_the_events_own_stay_although_they_are_a_value() {
        let warning = |message: &str| Event::Warning { message: message.into() };
        check("hunter22", warning("say hunter22"), &json!({"event": "warning", "message": "say [redacted]"}));
        check("warning", warning("a warning"), &json!({"event": "warning", "message": "a [redacted]"}));
        check("message", warning("a message"), &json!({"event": "warning", "message": "a [redacted]"}));
        let judged = Event::CaseJudged { case: CaseId("passed/x".into()), verdict: Verdict::Passed };
        check("passed", judged, &json!({"event": "case_judged", "case": "[redacted]/x", "verdict": "passed"}));
        let down = Event::LabDown { case: CaseId("a 123456".into()), duration_ms: 123_456.0 };
        check("123456", down, &json!({"case": "a [redacted]", "duration_ms": 123_456.0}));
    }
}
