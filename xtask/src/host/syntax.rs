//! Text that other programs read: configuration, rules and scripts, composed only of literals and checked words.
//!
//! Each language has a type, and `compose!` fills a literal pattern with words of that language only: numbers, addresses, constants of the
//! code, and values that were checked for it when they were made. A string from elsewhere is none of these, so it cannot bring in a line, a
//! quote or a space of its own. `tidy.rs` finds such text outside of this file.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::exec::shell::quote;

/// Language of text that another program reads.
pub trait Language: fmt::Debug + Clone + PartialEq + Eq {}

macro_rules! languages {
    ($($(#[$about:meta])* $name:ident,)+) => {
        $($(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name;

        impl Language for $name {})+
    };
}

languages! {
    /// Body of a table of nftables.
    Nft,
    /// Rules of `iptables`, and scripts of `iptables-restore`.
    Iptables,
    /// Lines of `ip -batch`.
    IpBatch,
    /// Script of a POSIX shell.
    Shell,
    /// Unit of systemd.
    Unit,
    /// Lines of `/etc/hosts`.
    Hosts,
    /// Lines of OpenSSH's `known_hosts`.
    KnownHosts,
    /// Lines of `/etc/passwd`, `/etc/group` and `/etc/shadow`.
    Accounts,
    /// Rules of a browser's `--host-resolver-rules`.
    ResolverRules,
}

/// Value that can be written into a text of a language.
pub trait Word<L: Language> {
    /// Returns the value as it is written there, with its quotes and escapes.
    fn word(&self) -> String;
}

/// Makes a checked type a word of languages that write it without quotes or escapes.
macro_rules! written_as_it_is {
    ($word:ty: $($language:ty),+) => {
        $(impl Word<$language> for $word {
            fn word(&self) -> String {
                self.0.clone()
            }
        })+
    };
}

macro_rules! words_of_every_language {
    ($($type:ty),+) => {
        $(impl<L: Language> Word<L> for $type {
            fn word(&self) -> String {
                self.to_string()
            }
        })+
    };
}

// Nothing of what these show has a meaning of its own in any of the languages. A literal of the code is the code's own.
words_of_every_language!(u8, u16, u32, u64, usize, i32, Ipv4Addr, Ipv6Addr, MacAddress, &'static str);

/// Text of a language, composed of checked words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<L> {
    text: String,
    #[serde(skip)]
    language: PhantomData<L>,
}

impl<L: Language> Text<L> {
    /// Wraps text that was filled with words: only for `compose!`.
    pub fn of_checked_words(text: String) -> Self {
        Self { text, language: PhantomData }
    }

    /// Takes a text that a person wrote as a whole on purpose, such as a line of a template for its shell.
    pub fn as_written(text: impl Into<String>) -> Self {
        Self::of_checked_words(text.into())
    }

    #[must_use]
    pub fn into_string(self) -> String {
        self.text
    }
}

impl Text<Shell> {
    /// Returns the text as the argument after a shell's `-c`.
    #[must_use]
    pub fn as_script(&self) -> &str {
        &self.text
    }
}

impl<L: Language> Word<L> for Text<L> {
    fn word(&self) -> String {
        self.text.clone()
    }
}

impl<L> Deref for Text<L> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl<L> fmt::Display for Text<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<L: Language> FromIterator<Self> for Text<L> {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self::of_checked_words(parts.into_iter().map(|part| part.text).collect())
    }
}

impl<L: Language> std::ops::Add for Text<L> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::of_checked_words(self.text + &other.text)
    }
}

/// Fills a pattern with words of a language: `compose!(Nft, "oifname {port} counter drop\n", port = port)`. Variables are not captured:
/// each is named, and is a [`Word`] of that language.
macro_rules! compose {
    ($language:ident, $pattern:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::host::syntax::Text::<$crate::host::syntax::$language>::of_checked_words(format!(
            concat!($pattern, "")
            $(, $name = $crate::host::syntax::Word::<$crate::host::syntax::$language>::word(&$value))*
        ))
    };
}
pub(crate) use compose;

/// Error of a value that a language cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} cannot be written into {into}: {reason}")]
pub struct Unwritable {
    /// Refused value.
    pub value: String,
    /// Description of the text that the value was meant for.
    pub into: &'static str,
    /// Rule of the language that the value breaks.
    pub reason: &'static str,
}

fn check(value: &str, into: &'static str, reason: &'static str, fits: bool) -> Result<(), Unwritable> {
    if fits { Ok(()) } else { Err(Unwritable { value: value.to_owned(), into, reason }) }
}

/// Hardware address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName(Cow<'static, str>);

impl DeviceName {
    /// Name of the loopback device.
    pub const LOOPBACK: Self = Self(Cow::Borrowed("lo"));

    /// Returns the name of a port on a lab's bridge, by the last octet of its machine's address.
    #[must_use]
    pub fn port(octet: u8) -> Self {
        Self(format!("port{octet}").into())
    }
}

impl Deref for DeviceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word<Nft> for DeviceName {
    fn word(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Word<Iptables> for DeviceName {
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Word<Shell> for DeviceName {
    fn word(&self) -> String {
        self.to_string()
    }
}

/// Name of a machine, which is a single word in each language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Checks that a name has only the characters of host names.
    pub fn new(name: &str) -> Result<Self, Unwritable> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=253).contains(&name.len()) && !name.starts_with(['-', '.']) && name.chars().all(good);
        check(name, "a list of hosts", "a host's name has letters, digits, '-', '_' and '.' only", fits)?;
        Ok(Self(name.to_owned()))
    }
}

written_as_it_is!(HostName: Hosts, KnownHosts, Shell, ResolverRules);

/// Public key with its comment, as `ssh-keygen` writes it: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLine(String);

impl KeyLine {
    /// Checks that a key is one line.
    pub fn new(line: &str) -> Result<Self, Unwritable> {
        let line = line.trim_end_matches('\n');
        check(line, "a list of keys", "a key is one line", !line.is_empty() && !line.contains(char::is_control))?;
        Ok(Self(line.to_owned()))
    }
}

written_as_it_is!(KeyLine: KnownHosts);

/// Word of a shell: any text that a program's argument can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellWord(String);

impl ShellWord {
    /// Quotes a word; fails for one with a zero byte.
    pub fn new(word: &str) -> Result<Self, Unwritable> {
        check(word, "a script of a shell", "a word has no zero byte in it", !word.contains('\0'))?;
        Ok(Self(quote(word)))
    }

    /// Quotes a path; fails for one that is no UTF-8.
    pub fn path(path: &Path) -> Result<Self, Unwritable> {
        Self::new(text_of("a script of a shell", path)?)
    }
}

written_as_it_is!(ShellWord: Shell);

fn text_of<'a>(into: &'static str, path: &'a Path) -> Result<&'a str, Unwritable> {
    path.to_str().ok_or_else(|| Unwritable {
        value: path.display().to_string(),
        into,
        reason: "the path is no text in UTF-8",
    })
}

/// Value of a setting in a unit of systemd, which reads `%` as the start of a specifier, and spaces, quotes and backslashes as in command
/// lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitWord(String);

impl UnitWord {
    /// Quotes a value; fails for one with a control character.
    pub fn new(word: &str) -> Result<Self, Unwritable> {
        check(word, "a unit of systemd", "a setting is one line", !word.contains(char::is_control))?;
        let escaped = word.replace('\\', r"\\").replace('"', r#"\""#).replace('%', "%%");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        Ok(Self(if escaped.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }))
    }
}

written_as_it_is!(UnitWord: Unit);

/// Field of a line in a list of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountField(String);

impl AccountField {
    /// Checks that a field has no colon and no control character.
    pub fn new(field: &str) -> Result<Self, Unwritable> {
        let fits = !field.contains(|c: char| c == ':' || c.is_control());
        check(field, "a list of accounts", "a field has no ':' and no line's end in it", fits)?;
        Ok(Self(field.to_owned()))
    }
}

written_as_it_is!(AccountField: Accounts);

/// Rule that iptables has listed, in its own words, to be handed back to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule(String);

impl ListedRule {
    /// Takes a line of `iptables -S` without its `-A`; fails for any other text.
    pub fn new(line: &str) -> Result<Self, Unwritable> {
        let rule = line.strip_prefix("-A ").filter(|rule| !rule.contains(char::is_control));
        check(line, "a script of iptables-restore", "the line is no rule as iptables lists them", rule.is_some())?;
        Ok(Self(rule.unwrap_or_default().to_owned()))
    }
}

written_as_it_is!(ListedRule: Iptables);

/// Name of a table or chain of packet filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainName(String);

impl ChainName {
    /// Checks that a name has only letters, digits and `_`.
    pub fn new(name: &str) -> Result<Self, Unwritable> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(good);
        check(name, "rules of a packet filter", "a name has letters, digits and '_' only", fits)?;
        Ok(Self(name.to_owned()))
    }
}

written_as_it_is!(ChainName: Nft, Iptables);

/// Configuration of a container of LXC.
///
/// LXC 5 and 6 read it line by line: spaces around a value are lost, and so is a pair of quotes around all of it; no character can be
/// escaped; an empty value removes earlier values of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LxcConfig(String);

/// Name of [`LxcConfig`] in errors.
const LXC_CONFIG: &str = "the configuration of LXC";

impl LxcConfig {
    /// Adds a line that sets a key; fails for a value that LXC would not read back as it is.
    pub fn set(&mut self, key: &'static str, value: &str) -> Result<(), Unwritable> {
        let quoted = ['"', '\''].iter().any(|q| value.len() > 1 && value.starts_with(*q) && value.ends_with(*q));
        for (reason, fits) in [
            ("a value is one line without control characters", !value.contains(char::is_control)),
            ("LXC drops the blanks at the ends of a value", value.trim() == value),
            ("LXC drops the quotes around a value", !quoted),
            ("LXC takes an empty value for none", !value.is_empty()),
        ] {
            check(value, LXC_CONFIG, reason, fits)?;
        }
        self.0.extend([key, " = ", value, "\n"]);
        Ok(())
    }

    /// Adds a line that sets a key to a path; fails for a path that is no UTF-8, too.
    pub fn set_path(&mut self, key: &'static str, path: &Path) -> Result<(), Unwritable> {
        self.set(key, text_of(LXC_CONFIG, path)?)
    }

    /// Adds a line that sets a key to a folder of the host which is a root filesystem.
    pub fn set_folder(&mut self, key: &'static str, path: &Path) -> Result<(), Unwritable> {
        self.set(key, &["dir:", text_of(LXC_CONFIG, path)?].concat())
    }

    /// Adds a line that sets a key of LXC's hooks to a command, which LXC gives to a shell.
    pub fn set_script(&mut self, key: &'static str, script: &Text<Shell>) -> Result<(), Unwritable> {
        self.set(key, script)
    }

    /// Adds a line that sets a key to a program with its arguments, which LXC splits at spaces without regard to quotes: an empty word, or
    /// one with a space, is refused.
    pub fn set_words(&mut self, key: &'static str, words: &[String]) -> Result<(), Unwritable> {
        for word in words {
            check(word, LXC_CONFIG, "LXC splits a command at blanks and knows no quotes", is_init_word(word))?;
        }
        self.set(key, &words.join(" "))
    }

    /// Adds a variable to the environment of the container's first process.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<(), Unwritable> {
        let fits = !name.is_empty() && !name.contains('=');
        check(name, LXC_CONFIG, "the name of a variable is not empty and has no '='", fits)?;
        self.set("lxc.environment", &[name, "=", value].concat())
    }

    /// Adds a bind mount of a folder of the host in the container, as a line of fstab.
    pub fn bind(&mut self, source: &Path, target: &str) -> Result<(), Unwritable> {
        let fields = [&fstab_field(text_of(LXC_CONFIG, source)?), &fstab_field(target), "none bind,create=dir 0 0"];
        self.set("lxc.mount.entry", &fields.join(" "))
    }

    /// Returns the text of the configuration file.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Tells whether LXC hands this word of a command to the program as it is.
#[must_use]
pub fn is_init_word(word: &str) -> bool {
    !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Escapes a field of a line of fstab as the kernel and libc do.
fn fstab_field(field: &str) -> String {
    field.replace('\\', r"\134").replace(' ', r"\040").replace('\t', r"\011").replace('\n', r"\012")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a configuration as LXC does (`parse_line` of its confile.c).
    fn read_back(config: &str) -> Vec<(String, String)> {
        let gone = [' ', '\t', '\0'];
        let line = |line: &str| {
            let (key, value) = line.split_once('=')?;
            let mut value = value.trim_matches(gone);
            if let Some(quote) = value.chars().next().filter(|c| ['"', '\''].contains(c))
                && value.len() > 1
                && value.ends_with(quote)
            {
                value = &value[1..value.len() - 1];
            }
            Some((key.trim_matches(gone).to_owned(), value.to_owned()))
        };
        config
            .split('\n')
            .filter(|text| !text.trim_start_matches([' ', '\t']).starts_with('#'))
            .filter_map(line)
            .collect()
    }

    /// Generates strings of characters that some language reads in its own way, and of any others.
    fn odd() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            3 => prop::sample::select("\n\r\t\0 \"'\\#=%$`;{}<>|&*?:,[]()\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{202e}\u{feff}é漢".chars().collect::<Vec<_>>()),
            1 => any::<char>(),
        ];
        prop::collection::vec(character, 0..12).prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lxc_reads_each_value_back_as_it_was_or_it_is_refused(values in prop::collection::vec(odd(), 1..4)) {
            let mut config = LxcConfig::default();
            let mut expected = Vec::new();
            for value in &values {
                if config.set("lxc.test", value).is_ok() {
                    expected.push(("lxc.test".to_owned(), value.clone()));
                }
                if config.set_variable("NAME", value).is_ok() {
                    expected.push(("lxc.environment".to_owned(), format!("NAME={value}")));
                }
                if config.set_words("lxc.init.cmd", &["/init".to_owned(), value.clone()]).is_ok() {
                    let back = format!("/init {value}");
                    let words: Vec<&str> = back.split(' ').collect();
                    prop_assert_eq!(words, ["/init", value]);
                    expected.push(("lxc.init.cmd".to_owned(), back));
                }
            }
            prop_assert_eq!(read_back(&config.into_string()), expected);
        }

        #[test]
        fn a_bind_has_its_two_paths_and_no_other_field(source in odd(), target in odd()) {
            let mut config = LxcConfig::default();
            if config.bind(Path::new(&source), &target).is_ok() {
                let lines = read_back(&config.into_string());
                prop_assert_eq!(lines.len(), 1);
                let decoded = |field: &str| {
                    field.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", "\\")
                };
                let fields: Vec<String> = lines[0].1.split(' ').map(decoded).collect();
                prop_assert_eq!(&fields[..2], &[source, target][..]);
                prop_assert_eq!(fields.len(), 6);
            }
        }

        #[test]
        fn words_of_other_languages_stay_one_word(text in odd()) {
            for word in [HostName::new(&text).map(|it| it.0), ChainName::new(&text).map(|it| it.0)].into_iter().flatten() {
                prop_assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{word:?}");
            }
            for line in [
                KeyLine::new(&text).map(|it| it.0),
                UnitWord::new(&text).map(|it| it.0),
                AccountField::new(&text).map(|it| it.0),
                ListedRule::new(&text).map(|it| it.0),
            ].into_iter().flatten() {
                prop_assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
            }
            if let Ok(field) = AccountField::new(&text) {
                prop_assert!(!field.0.contains(':'));
            }
        }
    }

    #[test]
    fn what_lxc_can_carry_is_written_and_the_rest_is_named() {
        let set = |value: &str| LxcConfig::default().set_variable("A", value).map_err(|error| error.reason);
        for value in ["a b", "\"a\"", "'", "# no comment", "a=b=c", "%n", "ü€", "\\n", "$HOME `id`", ""] {
            assert_eq!(set(value), Ok(()), "{value:?}");
        }
        assert_eq!(set("x\nlxc.hook.pre-start = /bin/x"), Err("a value is one line without control characters"));
        assert_eq!(set("x "), Err("LXC drops the blanks at the ends of a value"));
        assert_eq!(
            LxcConfig::default().set("lxc.test", "'a'").unwrap_err().reason,
            "LXC drops the quotes around a value"
        );
    }

    #[test]
    fn a_shell_reads_each_word_back() {
        use crate::host::exec::shell::Command;
        for text in ["a b", "'", "\"$HOME\"", "`id`", "a\nb", "*", "\\", "-n", "é"] {
            let script = compose!(Shell, "printf %s {word}", word = ShellWord::new(text).unwrap());
            let said = Command::new("sh").arg("-c").arg(&*script).run().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), text, "{script}");
        }
        assert!(ShellWord::new("a\0b").is_err());
    }

    #[test]
    fn a_unit_reads_specifiers_and_quotes_as_they_are() {
        let word = |text: &str| UnitWord::new(text).unwrap().0;
        assert_eq!(word("LD_PRELOAD=/usr/lib/x.so"), "LD_PRELOAD=/usr/lib/x.so");
        assert_eq!(word("A=%n b\"c\\"), r#""A=%%n b\"c\\""#);
        assert!(UnitWord::new("A=x\nExecStartPre=/bin/x").is_err());
    }
}
