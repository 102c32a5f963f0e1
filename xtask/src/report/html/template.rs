//! The template engine with the page's templates, its style sheet and its script.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::record::{is_visible, visible_text};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Every template, by the name that others include it under.
const TEMPLATES: [(&str, &str); 7] = [
    ("attempt.html", include_str!("attempt.html")),
    ("failure.html", include_str!("failure.html")),
    ("frame.html", include_str!("frame.html")),
    ("page.html", include_str!("page.html")),
    ("parts.html", include_str!("parts.html")),
    ("side_by_side.html", include_str!("side_by_side.html")),
    ("timeline.html", include_str!("timeline.html")),
];

/// A template filled with these values. All of them are escaped, but what a template itself calls safe: the drawings, the
/// style sheet and the script, which hold no text of others.
///
/// # Errors
/// When a template asks for something that is not there.
pub fn filled(template: &str, values: impl Serialize) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    environment.add_global("style", STYLE);
    environment.add_global("script", SCRIPT);
    // A browser runs the script with this hash and no other, whatever has come into the page.
    environment.add_global("script_hash", format!("sha256-{}", STANDARD.encode(Sha256::digest(SCRIPT))));
    let page = environment.get_template(template)?.render(Value::from_serialize(values))?;
    // What comes from programs under test comes by many ways: here is the one that all of them take.
    Ok(if is_visible(&page) { page } else { visible_text(&page) })
}
