//! Parser of the Rust source of types: variants and fields with their doc comments, as rustfmt lays them out.

/// A field of a struct or of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub rust_type: String,
    pub meaning: String,
    /// True if serde flattens the field into its struct.
    pub is_flat: bool,
    /// True if JSON leaves the field out when it is empty.
    pub may_be_missing: bool,
    /// Attributes of the field, as the source has them.
    pub attributes: String,
}

/// Variant of an enum with its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    pub name: String,
    pub meaning: String,
    pub fields: Vec<Field>,
    /// Type that a tuple variant holds; `None` for a variant with fields.
    pub inner: Option<String>,
}

/// Returns the variants of an enum, in order.
pub fn variants(source: &str, name: &str) -> Vec<Shape> {
    let mut found: Vec<Shape> = Vec::new();
    let mut noted = Noted::default();
    for line in body(source, "enum", name).unwrap_or_default() {
        let depth = line.len() - line.trim_start().len();
        let text = line.trim();
        if noted.takes(text) || text.starts_with('}') {
            continue;
        }
        if depth == 4 {
            let (name, rest) = text.split_at(text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len()));
            let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inner, _)| inner.to_owned());
            let meaning = noted.take().meaning;
            found.push(Shape { name: name.to_owned(), meaning, fields: Vec::new(), inner });
        } else if let Some(variant) = found.last_mut() {
            variant.fields.extend(noted.take().field(text));
        }
    }
    assert!(!found.is_empty(), "the source has no enum {name}");
    found
}

/// Returns the fields of a struct; `None` if the source has no such struct.
pub fn fields(source: &str, name: &str) -> Option<Vec<Field>> {
    let mut noted = Noted::default();
    let mut field = |line: &str| {
        let text = line.trim();
        if noted.takes(text) { None } else { noted.take().field(text.trim_start_matches("pub ")) }
    };
    Some(body(source, "struct", name)?.into_iter().filter_map(&mut field).collect())
}

/// Returns the lines between the first line of a type and its closing brace, whatever its visibility.
fn body<'s>(source: &'s str, kind: &str, name: &str) -> Option<Vec<&'s str>> {
    let headers = ["pub ", "pub(super) ", ""].map(|seen_by| format!("{seen_by}{kind} {name} {{"));
    let mut lines = source.lines().skip_while(|line| !headers.iter().any(|header| header == line));
    lines.next()?;
    Some(lines.take_while(|line| *line != "}").filter(|line| !line.trim().is_empty()).collect())
}

/// Doc comment and attributes before the next item.
#[derive(Default)]
struct Noted {
    meaning: String,
    attributes: String,
}

impl Noted {
    fn takes(&mut self, text: &str) -> bool {
        if let Some(words) = text.strip_prefix("///") {
            let separator = if self.meaning.is_empty() { "" } else { " " };
            self.meaning.push_str(separator);
            self.meaning.push_str(words.trim());
            return true;
        }
        if text.starts_with("#[") {
            self.attributes.push_str(text);
            return true;
        }
        false
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn field(self, text: &str) -> Option<Field> {
        let (name, rust_type) = text.trim_end_matches(',').split_once(": ")?;
        let renamed = self.attributes.split_once("rename = \"").and_then(|(_, rest)| rest.split_once('"'));
        Some(Field {
            name: renamed.map_or(name, |(renamed, _)| renamed).to_owned(),
            rust_type: rust_type.to_owned(),
            meaning: self.meaning,
            is_flat: self.attributes.contains("flatten"),
            may_be_missing: self.attributes.contains("skip_serializing_if"),
            attributes: self.attributes,
        })
    }
}

#[test]
fn a_type_is_read_as_rustfmt_lays_it_out() {
    let source = "/// An enum.\npub enum Thing {\n    /// One\n    /// of them.\n    One {\n        /// A field.\n        \
                  #[serde(flatten)]\n        all: Other,\n        /// Or not.\n        \
                  #[serde(default, skip_serializing_if = \"Option::is_none\")]\n        some: Option<u32>,\n    },\n    \
                  /// Holds.\n    Two(Held),\n    /// Plain.\n    Three,\n}\n\npub struct Held {\n    /// The name.\n    \
                  pub name: String,\n}\n";
    let found = variants(source, "Thing");
    assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["One", "Two", "Three"]);
    assert_eq!(found[0].meaning, "One of them.");
    assert_eq!(found[1].inner.as_deref(), Some("Held"));
    assert!(found[0].fields[0].is_flat && found[0].fields[1].may_be_missing);
    let held = fields(source, "Held").unwrap();
    assert_eq!(
        (held[0].name.as_str(), held[0].rust_type.as_str(), held[0].meaning.as_str()),
        ("name", "String", "The name.")
    );
    assert_eq!(fields(source, "Thing"), None);
    let renamed = fields("struct Own {\n    #[serde(default, rename = \"a\")]\n    _a: String,\n}\n", "Own").unwrap();
    assert_eq!(renamed[0].name, "a");
    let private = fields("struct Own {\n    #[serde(default)]\n    list: Vec<String>,\n}\n", "Own").unwrap();
    assert_eq!((private[0].rust_type.as_str(), private[0].attributes.as_str()), ("Vec<String>", "#[serde(default)]"));
}
