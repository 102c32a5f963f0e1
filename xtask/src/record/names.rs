//! Names of cases, and of files in a record. Names of files come from scenarios and from machines, and are shown in terminals, pages and
//! reports.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plain_text::is_visible;

/// Name of one case: `category/scenario:case`, with `#2` for a second repetition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseId(pub String);

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CaseId {
    /// Suffix of a case's name for the baseline side of a duet.
    pub const BASELINE_SIDE: &str = "@baseline";

    /// Tells whether the name is that of the baseline side of a duet, which is no case of the run.
    #[must_use]
    pub fn is_baseline_side(&self) -> bool {
        self.0.ends_with(Self::BASELINE_SIDE)
    }
}

/// Maximum length of a file's name, in bytes: below that of file systems, since a file has a longer name while it is written.
const BYTES_MAX: usize = 200;

/// Tells whether a name is allowed for a file in a record: visible, in one line, and without a path.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let ends = name.starts_with(['.', ' ']) || name.ends_with(' ');
    (1..=BYTES_MAX).contains(&name.len()) && !ends && name.chars().all(is_plain)
}

/// Tells whether a name that a user's own program gave to a file can be kept: it has no path that leads out of its folder, and no
/// invisible characters.
#[must_use]
pub fn is_harmless_name(name: &str) -> bool {
    !["", ".", ".."].contains(&name) && name.chars().all(is_plain)
}

fn is_plain(character: char) -> bool {
    is_visible(character.encode_utf8(&mut [0; 4])) && !matches!(character, '/' | '\n' | '\t' | '\u{2028}' | '\u{2029}')
}

/// Turns a name into one that is allowed for a file in a record; an allowed name stays as it is.
#[must_use]
pub fn as_file_name(name: &str) -> String {
    if is_file_name(name) {
        return name.to_owned();
    }
    let shown: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    // Names differ at their ends more often than where they begin.
    let begin = shown.ceil_char_boundary(shown.len().saturating_sub(BYTES_MAX));
    let mut made = shown[begin..].to_owned();
    if made.is_empty() || made.starts_with(['.', ' ']) {
        made.replace_range(..made.len().min(1), "_");
    }
    if made.ends_with(' ') {
        made.replace_range(made.len() - 1.., "_");
    }
    made
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_or_hide_are_none() {
        for good in ["a", "report.html", "a b", "ü漢", "a..b", "-x", "x.new"] {
            assert!(is_file_name(good), "{good:?}");
            assert_eq!(as_file_name(good), good);
        }
        let long = "x".repeat(201);
        for (bad, instead) in [
            ("", "_"),
            (".", "_"),
            ("..", "_."),
            (".hidden", "_hidden"),
            ("a/b", "a_b"),
            ("../x", "_._x"),
            ("a\nb", "a_b"),
            ("a\u{1b}[31mb", "a_[31mb"),
            ("a\u{202e}b", "a_b"),
            ("a\u{2028}b", "a_b"),
            ("a\0b", "a_b"),
            (" a", "_a"),
        ] {
            assert!(!is_file_name(bad), "{bad:?}");
            assert_eq!(as_file_name(bad), instead, "{bad:?}");
        }
        for (name, harmless) in [(".coverage", true), ("..", false), ("", false), ("a\nb", false), ("a/b", false)] {
            assert_eq!(is_harmless_name(name), harmless, "{name:?}");
        }
        assert!(!is_file_name(&long));
        assert_eq!(as_file_name(&long).len(), 200);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_it_was_it_is_a_name_then(name in any::<String>()) {
            let made = as_file_name(&name);
            prop_assert!(is_file_name(&made), "{made:?}");
        }
    }
}
