//! `allow` in a `template.toml`: parts of the kernel that machines reach only when their template asks for them.

use toml::Spanned;

use super::parse::{Source, nearest};
use crate::error::Error;
use crate::host::seccomp::Part;

/// Reads a list of names, each once.
pub(super) fn check_allowances(names: &[Spanned<String>], source: &Source) -> Result<Vec<Part>, Error> {
    let mut found = Vec::new();
    for place in names {
        let name = place.get_ref();
        let Some((part, _)) = Part::ALL.iter().find(|(_, each)| each == name) else {
            let all = Part::ALL.map(|(_, name)| name);
            let hint = nearest(name, all)
                .map_or_else(|| format!("they are {}", all.join(", ")), |near| format!("did you mean {near:?}?"));
            let message = format!("there is no part {name:?} of the kernel to allow: {hint}");
            return Err(source.error_at(place, message));
        };
        if found.contains(part) {
            return Err(source.error_at(place, format!("{name:?} is listed twice")));
        }
        found.push(*part);
    }
    Ok(found)
}
