//! Options of a recorded command line that a later command about the run needs too.

/// Options that select the project and the slot of a run.
pub const PLACE: [&str; 2] = ["--root", "--slot"];

/// Options of a run that a rerun of one of its cases needs too.
pub const RUN: [&str; 5] = ["--root", "--slot", "--set", "--timeout", "--e2e-containers"];

/// Returns the options of a command that have one of the given names, as they are typed, each with a blank before it.
#[must_use]
pub fn carried(command: &[String], names: &[&str]) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &str| text.push_str(&format!(" {name} {}", quoted(value)));
    let mut words = command.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((name, value)) if names.contains(&name) => add(name, value),
            _ if names.contains(&word.as_str()) => words.next().into_iter().for_each(|value| add(word, value)),
            _ => {}
        }
    }
    text
}

/// Quotes a word for a shell, where the word needs quotation marks.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_carried_however_they_were_written() {
        let command = ["--root", "a b", "e2e", "--timeout=5s", "--chaos", "--slot", "3", "x", "--", "--slot", "4"];
        let command = command.map(str::to_owned);
        assert_eq!(carried(&command, &RUN), " --root 'a b' --timeout 5s --slot 3");
        assert_eq!(carried(&command, &PLACE), " --root 'a b' --slot 3");
        assert_eq!(carried(&command[..1], &PLACE), "", "a value is missing");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
