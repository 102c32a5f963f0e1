//! JSON for files that people read and compare: short values and rows of numbers stand in one line.

use serde::Serialize;
use serde_json::Value;

/// Maximum length of a line that holds several values, in characters.
const LINE_CHARS_MAX: usize = 120;

/// Formats a value as JSON. Lists and objects of numbers stand in one line however long they are, others where they fit; whole numbers have
/// no decimal point.
///
/// # Errors
/// When the value has no form in JSON, such as a map whose keys are no text.
pub fn readable_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    write(&serde_json::to_value(value)?, 0, 0, &mut text)?;
    text.push('\n');
    Ok(text)
}

/// Writes a value at the end of `text`; `depth` is the level of its indentation, and `before` the number of characters before it in its
/// line, without the indentation.
fn write(value: &Value, depth: usize, before: usize, text: &mut String) -> serde_json::Result<()> {
    let line = in_one_line(value)?;
    let is_number = |item: &Value| item.is_number() || item.is_null();
    let is_row = match value {
        Value::Array(list) => list.iter().all(is_number),
        Value::Object(map) => map.values().all(is_number),
        _ => false,
    };
    if is_row || !(value.is_array() || value.is_object()) || 2 * depth + before + line.len() < LINE_CHARS_MAX {
        text.push_str(&line);
        return Ok(());
    }
    let inside = "  ".repeat(depth + 1);
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    text.push(open);
    let mut separator = "\n";
    for item in value.as_array().into_iter().flatten() {
        text.push_str(separator);
        text.push_str(&inside);
        write(item, depth + 1, 0, text)?;
        separator = ",\n";
    }
    for (name, item) in value.as_object().into_iter().flatten() {
        let name = serde_json::to_string(name)?;
        text.push_str(separator);
        text.push_str(&format!("{inside}{name}: "));
        write(item, depth + 1, name.len() + 2, text)?;
        separator = ",\n";
    }
    text.push_str(&format!("\n{}{close}", "  ".repeat(depth)));
    Ok(())
}

fn in_one_line(value: &Value) -> serde_json::Result<String> {
    Ok(match value {
        Value::Array(list) => {
            let items = list.iter().map(in_one_line).collect::<serde_json::Result<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let item = |(name, item): (&String, &Value)| -> serde_json::Result<String> {
                Ok(format!("{}: {}", serde_json::to_string(name)?, in_one_line(item)?))
            };
            format!("{{{}}}", map.iter().map(item).collect::<serde_json::Result<Vec<_>>>()?.join(", "))
        }
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
        }
        other => serde_json::to_string(other)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_stands_in_one_line_and_rows_of_numbers_always_do() {
        let row: Vec<f64> = (0..60).map(f64::from).collect();
        let long = "x".repeat(70);
        let named: serde_json::Map<String, Value> =
            (10..50).map(|number| (format!("n{number}"), number.into())).collect();
        let value =
            json!({"a": {"b": 1.0, "c": [1.5, null]}, "row": row, "named": named, "list": [long, long], "empty": {}});
        let text = readable_json(&value).unwrap();
        let expected = format!(
            "{{\n  \"a\": {{\"b\": 1, \"c\": [1.5, null]}},\n  \"row\": [{}],\n  \"named\": {{{}}},\n  \"list\": [\n    \"{long}\",\n    \
             \"{long}\"\n  ],\n  \"empty\": {{}}\n}}\n",
            (0..60).map(|number| number.to_string()).collect::<Vec<_>>().join(", "),
            (10..50).map(|number| format!("\"n{number}\": {number}")).collect::<Vec<_>>().join(", ")
        );
        assert_eq!(text, expected);
        let again: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again["a"]["b"].as_f64(), Some(1.0));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(readable_json(&json!({"a\"b": "c\nd"})).unwrap(), "{\"a\\\"b\": \"c\\nd\"}\n");
    }
}
