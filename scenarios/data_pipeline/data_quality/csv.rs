//! CSV with one row per line, as RFC 4180 defines it.

/// Returns the fields of a line; `None` when a quote stays open, or text follows a closing quote.
#[must_use]
pub fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// Formats fields as a line, each in quotes.
#[must_use]
pub fn line(fields: &[impl AsRef<str>]) -> String {
    let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
    fields.iter().map(|field| quoted(field.as_ref())).collect::<Vec<_>>().join(",")
}

/// Splits a text at its closing quote into the text before it, with doubled quotes made single, and the text after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after_second) => {
                field.push('"');
                rest = after_second;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_plain_fields() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let found = fields(text);
            assert_eq!(found.as_deref().map(|it| it.iter().map(String::as_str).collect()), expected.map(<[_]>::to_vec));
        };
        check("", Some(&[""]));
        check("a,,b,", Some(&["a", "", "b", ""]));
        check(r#""a,b","3""",3/4,"#, Some(&["a,b", "3\"", "3/4", ""]));
        check(r#"3/4",x"#, Some(&["3/4\"", "x"]));
        check(r#""a,b"#, None);
        check(r#""a"b"#, None);
        assert_eq!(line(&["a", "3\"", ""]), r#""a","3""","""#);
    }
}
