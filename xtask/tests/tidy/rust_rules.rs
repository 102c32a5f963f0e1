//! Parts of Rust that the rules look at: who uses whom, who prints, what a mod.rs does, attributes.

use super::text_rules::host_paths;
use super::tokens::{Token, literals, tokens_and_literals};

/// Path that leads to a module of the engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    pub line: usize,
    /// `module`, or `module::part`.
    pub path: String,
    /// True in a `pub use`.
    pub is_public: bool,
}

impl Use {
    pub fn module(&self) -> &str {
        self.path.split("::").next().unwrap_or_default()
    }
}

/// The paths of [`host_paths`] in the literals of a Rust text, those of its unit tests left out.
pub fn host_paths_in_rust(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let in_literal = |literal: &Token<'_>| {
        let line = literal.line;
        host_paths(literal.text).into_iter().map(move |(offset, path)| (line + offset - 1, path)).collect::<Vec<_>>()
    };
    literals(code).iter().flat_map(in_literal).collect()
}

/// Every `crate::` path, and every path of `super::` that leads out of the module, in a file of this module.
pub fn uses(module: &[String], tokens: &[Token<'_>]) -> Vec<Use> {
    let mut found = Vec::new();
    let mut inline: Vec<i32> = Vec::new(); // the depth of braces at which each `mod name {` opened
    let (mut depth, mut use_is_public) = (0, None);
    let mut at = 0;
    while at < tokens.len() {
        let word = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
        match word(0) {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push(depth);
                }
            }
            "}" => {
                inline.retain(|opened| *opened != depth);
                depth -= 1;
            }
            ";" => use_is_public = None,
            "use" => use_is_public = Some(at > 0 && ["pub", ")"].contains(&tokens[at - 1].text)),
            "crate" if word(1) == "::" => {
                at = targets(tokens, at + 2, use_is_public == Some(true), &mut found);
                continue;
            }
            "super" if word(1) == "::" => {
                let ups = tokens[at..]
                    .chunks(2)
                    .take_while(|it| it.len() == 2 && it[0].text == "super" && it[1].text == "::")
                    .count();
                if ups >= module.len() + inline.len() {
                    at = targets(tokens, at + 2 * ups, use_is_public == Some(true), &mut found);
                } else {
                    at += 2 * ups;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The modules that a path, or a group of paths, below the crate's root names; the answer is where it goes on.
fn targets(tokens: &[Token<'_>], at: usize, is_public: bool, found: &mut Vec<Use>) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    if word(at) != "{" {
        let is_part = word(at + 1) == "::" && word(at + 2).starts_with(|c: char| c.is_lowercase());
        let path = if is_part { format!("{}::{}", word(at), word(at + 2)) } else { word(at).to_owned() };
        found.push(Use { line: tokens.get(at).map_or(0, |token| token.line), path, is_public });
        return at + 1;
    }
    let (mut at, mut depth) = (at + 1, 1);
    let mut starts = true;
    while depth > 0 && at < tokens.len() {
        if starts && depth == 1 && word(at) != "}" {
            targets(tokens, at, is_public, found);
        }
        depth += i32::from(word(at) == "{") - i32::from(word(at) == "}");
        starts = word(at) == ",";
        at += 1;
    }
    at
}

/// The line of the table that allows a module this path.
pub fn allowance<'t>(table: &[(&'t str, &[&'t str])], module: &str, path: &str) -> Option<(&'t str, &'t str)> {
    let (module, allowed) = table.iter().find(|(name, _)| *name == module)?;
    let allows = |allowed: &&&str| path == **allowed || path.starts_with(&format!("{allowed}::"));
    allowed.iter().find(allows).map(|allowed| (*module, *allowed))
}

pub fn row(module: &str, used: &[&str]) -> String {
    let used = if used.is_empty() { "nothing".to_owned() } else { used.join(", ") };
    format!("| `{module}` | {used} |")
}

/// Macros that print, and handles of the standard streams.
pub fn prints(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let word = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_macro = ["print", "println", "eprint", "eprintln"].contains(&token.text) && word(at + 1) == "!";
        let is_stream = ["stdout", "stderr"].contains(&token.text) && (word(at + 1), word(at + 2)) == ("(", ")");
        if is_macro || is_stream {
            found.push((token.line, format!("{}{}", token.text, if is_macro { "!" } else { "()" })));
        }
    }
    found
}

/// Constants that bound a wait by a time or a number instead of a `Deadline`, and deadlines that stand as numbers where they are used.
pub fn unscaled(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let word = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "mod" && word(at + 1) == "tests" {
            break; // a test may bound what it waits for as it likes
        }
        let name = word(at + 1);
        let bounds_a_wait = ["DEADLINE", "PATIENCE", "TIMEOUT"].iter().any(|part| name.contains(part));
        let is_time = ["Duration", "u32", "u64", "i64", "usize", "f64"].contains(&word(at + 3));
        if token.text == "const" && bounds_a_wait && word(at + 2) == ":" && is_time {
            found.push((token.line, format!("const {name}: {}", word(at + 3))));
        }
        let call = (word(at + 1), word(at + 2), word(at + 3));
        if token.text == "deadline" && call == ("(", "Duration", "::") && word(at + 4) != "ZERO" {
            found.push((token.line, format!("deadline(Duration::{}", word(at + 4))));
        }
    }
    found
}

/// Signs of text that another program reads: packet filters, `ip -batch`, units, LXC's configuration, accounts and scripts.
const FOREIGN: &[&str] = &[
    "iifname ",
    "oifname ",
    "type filter hook",
    "type nat hook",
    "counter drop",
    " -j ",
    "COMMIT\\n",
    "link add ",
    "link set ",
    "address add ",
    "route add ",
    "neigh add ",
    "[Service]",
    "[Unit]",
    "Environment=",
    "ExecStart",
    "lxc.idmap",
    "lxc.mount",
    "lxc.hook",
    "lxc.environment",
    "#!/bin/sh",
    "; do ",
    "2>&1",
    "</dev/null",
    "<<END",
    ":x:",
];

/// Strings that are composed of text for another program, and scripts that are handed to a shell, where neither is checked by its type.
pub fn composed(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let tokens = tokens_and_literals(code);
    let word = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    let end_of = |begin: usize| {
        let mut depth = 0;
        (begin..tokens.len()).find(|at| {
            depth += i32::from(["(", "["].contains(&word(*at))) - i32::from([")", "]"].contains(&word(*at)));
            depth <= 0
        })
    };
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_macro = ["format", "write", "writeln", "concat"].contains(&token.text) && word(at + 1) == "!";
        let opens = if is_macro { at + 2 } else { at + 1 };
        if (is_macro || token.text == "push_str") && word(opens) == "(" {
            let inside = &tokens[opens..end_of(opens).unwrap_or(opens)];
            let literals = inside.iter().filter(|it| it.text.ends_with(['"', '#']));
            let signs = literals.filter_map(|it| FOREIGN.iter().find(|sign| it.text.contains(**sign)));
            found.extend(signs.take(1).map(|sign| (token.line, format!("{} of `{}`", token.text, sign.trim()))));
        }
        let is_shell = ["\"sh\"", "\"/bin/sh\"", "\"bash\"", "\"/bin/bash\""].contains(&token.text);
        let flag = (at + 1..at + 8).find(|at| word(*at).starts_with('"'));
        if let Some(flag) = flag.filter(|flag| is_shell && ["\"-c\"", "\"-ec\""].contains(&word(*flag))) {
            let script = (flag..tokens.len()).find(|at| word(*at) == ",").map_or(flag, |comma| comma + 1);
            let script = script + usize::from(word(script) == "&");
            let is_constant = word(script).starts_with(['"', 'r'])
                || word(script).chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let end = (script..tokens.len()).find(|at| [",", "]"].contains(&word(*at))).unwrap_or(script);
            if !is_constant && !tokens[script..end].iter().any(|it| it.text == "as_script") {
                found.push((token.line, format!("a shell that is handed `{}`", word(script))));
            }
        }
    }
    found
}

/// Items of a mod.rs that are more than a list of what there is.
pub fn logic(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    let skip = |mut at: usize, open: &str, close: &str| {
        let mut depth = 0;
        while let Some(token) = tokens.get(at) {
            depth += i32::from(token.text == open) - i32::from(token.text == close);
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    };
    while let Some(token) = tokens.get(at) {
        match token.text {
            "#" => at = skip(at + 1 + usize::from(tokens.get(at + 1).is_some_and(|it| it.text == "!")), "[", "]"),
            "pub" => {
                at += 1;
                if tokens.get(at).is_some_and(|token| token.text == "(") {
                    at = skip(at, "(", ")");
                }
            }
            item => {
                let end = tokens[at..].iter().position(|token| token.text == ";").unwrap_or(tokens.len() - at);
                let brace = tokens[at..].iter().position(|token| token.text == "{").unwrap_or(usize::MAX);
                let is_list = match item {
                    "use" | "const" | "type" => true,
                    "mod" => end < brace,
                    _ => false,
                };
                if is_list {
                    at += end + 1;
                } else {
                    let name = tokens.get(at + 1).map_or("", |token| token.text);
                    found.push((token.line, format!("{item} {name}")));
                    at = if end < brace { at + end + 1 } else { skip(at + brace, "{", "}") };
                }
            }
        }
    }
    found
}

/// The lines of attributes that name this word.
pub fn attributes(tokens: &[Token<'_>], name: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text);
        let opens = token.text == "[" && (before(1) == "#" || (before(1) == "!" && before(2) == "#"));
        if opens || depth > 0 {
            depth += i32::from(token.text == "[") - i32::from(token.text == "]");
            if token.text == name {
                lines.push(token.line);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn module(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    fn expect_uses(module_path: &str, text: &str, expected: &[(usize, &str, bool)]) {
        let found = uses(&module(module_path), &tokens(text));
        let found: Vec<_> = found.iter().map(|it| (it.line, it.path.as_str(), it.is_public)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn paths_are_found_in_every_form() {
        expect_uses(
            "lab::up",
            "use crate::host::shell;\nfn f() { crate::error::Error }",
            &[(1, "host::shell", false), (2, "error", false)],
        );
        expect_uses(
            "lab::up",
            "use crate::{error::Error, host::{lxc, shell::{a, b}},\n plan};",
            &[(1, "error", false), (1, "host", false), (2, "plan", false)],
        );
        expect_uses("lab::up", "use super::super::host::lxc;\nuse super::network;", &[(1, "host::lxc", false)]);
        expect_uses("lab", "use super::{guard::Guard, host};", &[(1, "guard", false), (1, "host", false)]);
        expect_uses(
            "lab::up",
            "mod tests {\n use super::super::x;\n use super::super::super::plan;\n}\nuse super::super::run;",
            &[(3, "plan", false), (5, "run", false)],
        );
        expect_uses(
            "lab",
            "pub use crate::host::lxc;\npub(crate) use super::plan;\npub use up::Lab;",
            &[(1, "host::lxc", true), (2, "plan", true)],
        );
        expect_uses("lab", "pub(crate) fn f() { crate::plan::g() }", &[(1, "plan::g", false)]);
        let text = "// crate::plan\n/* a /* b */ crate::plan */ \"crate::plan\" r#\"crate::\"plan\"# 'c' b'\\'' 'a: crate::run";
        expect_uses("lab", text, &[(2, "run", false)]);
    }

    #[test]
    fn the_table_allows_what_it_says_and_no_more() {
        let table = [("record", &["error", "host::invoker"][..])];
        for (path, expected) in [
            ("error", Some(("record", "error"))),
            ("host::invoker", Some(("record", "host::invoker"))),
            ("host::shell", None),
            ("host", None),
            ("errors", None),
        ] {
            assert_eq!(allowance(&table, "record", path), expected, "{path}");
        }
        assert_eq!(allowance(&table, "lab", "error"), None, "a module without a row may use nothing");
        assert_eq!(row("lab", &["error", "host"]), "| `lab` | error, host |");
        assert_eq!(row("error", &[]), "| `error` | nothing |");
    }

    #[test]
    fn printing_is_seen() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> = prints(&tokens(text)).into_iter().map(|(_, what)| what).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("println!(\"x\"); eprint!(\"y\")", &["println!", "eprint!"]);
        check("writeln!(io::stderr(), \"x\")", &["stderr()"]);
        check("std::io::stdout().lock()", &["stdout()"]);
        check("command.stdout(Stdio::null()); let stderr = output.stderr; // println!()", &[]);
    }

    #[test]
    fn deadlines_that_no_slow_machine_meets_are_seen() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> = unscaled(&tokens(text)).into_iter().map(|(_, what)| what).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("const END_DEADLINE: Duration = Duration::from_secs(3);", &["const END_DEADLINE: Duration"]);
        check("pub const DEADLINE_SECONDS: u32 = 3;", &["const DEADLINE_SECONDS: u32"]);
        check(
            "const TIMEOUT_TEXT: &str = \"3s\"; const PATIENCE: Deadline = Deadline::from_secs(3); const POLL: Duration = Duration::from_secs(1);",
            &[],
        );
        check("Command::new(\"x\").deadline(Duration::from_secs(3)).run()", &["deadline(Duration::from_secs"]);
        check(
            "command.deadline(DEADLINE.scaled()); x.deadline(grace + SLACK.scaled()); fn deadline(it: Duration) {}",
            &[],
        );
        check("mod tests { const DEADLINE: Duration = Duration::ZERO; }", &[]);
    }

    #[test]
    fn text_for_other_programs_is_seen() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> = composed(text).into_iter().map(|(_, what)| what).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("format!(\"iifname \\\"{port}\\\" drop\")", &["format of `iifname`"]);
        check("writeln!(text, \"lxc.hook.x = {value}\")", &["writeln of `lxc.hook`"]);
        check("lines.push_str(&format!(\"neigh add {a}\\n\"))", &["push_str of `neigh add`", "format of `neigh add`"]);
        check("format!(\"[Service]\\n{}\", lines.concat())", &["format of `[Service]`"]);
        check("compose!(Nft, \"iifname {port} drop\", port = port); format!(\"it has no lxc\")", &[]);
        check("[\"/bin/sh\", \"-c\", &script, \"sh\"]", &["a shell that is handed `script`"]);
        check("run(\"sh\", &[\"-c\".to_owned(), guarded])", &["a shell that is handed `guarded`"]);
        check("[\"sh\", \"-c\", SCRIPT]; [\"sh\", \"-ec\", \"true\"]; [\"sh\", \"-c\", whole.as_script()]", &[]);
        check("[\"tail\", \"-c\", &bytes]", &[]);
        check("#[cfg(test)]\nmod tests { format!(\"oifname x\") }", &[]);
    }

    #[test]
    fn logic_in_a_module_file_is_seen() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> = logic(&tokens(text)).into_iter().map(|(_, what)| what).collect();
            assert_eq!(found, expected, "{text}");
        };
        check(
            "//! doc\nmod a;\n#[cfg(test)]\npub(crate) mod b;\npub use a::{X, Y};\npub const N: u32 = 1;\ntype T = u8;",
            &[],
        );
        check(
            "mod a;\n#[derive(Debug)]\npub struct S { x: u8 }\nimpl S { fn f() {} }\nuse b::c;",
            &["struct S", "impl S"],
        );
        check("mod tests { use super::*; }", &["mod tests"]);
        check("pub fn f() {}", &["fn f"]);
        check("static X: u8 = 1;", &["static X"]);
    }

    #[test]
    fn paths_of_the_host_are_seen_in_literals_outside_of_tests() {
        let text = "// /bin/a\nlet x = \"/bin/b\"; let y = r#\"\n  cp /etc/c d\n\"#; /bin/d;\n#[cfg(test)]\nmod tests { f(\"/bin/e\") }";
        assert_eq!(host_paths_in_rust(text), [(2, "/bin/b".to_owned()), (3, "/etc/c".to_owned())]);
    }

    #[test]
    fn attributes_are_seen_in_every_form() {
        let check = |text: &str, name: &str, expected: &[usize]| {
            assert_eq!(attributes(&tokens(text), name), expected, "{text}");
        };
        check("\n#[allow(dead_code)]", "allow", &[2]);
        check("#![allow(x)]\n#[cfg_attr(test, allow(y))]", "allow", &[1, 2]);
        check("#[test]\n#[ignore = \"slow\"]\nfn f() { let ignore = [1]; }", "ignore", &[2]);
        check("#[expect(x, reason = \"allow\")] fn allow() { allow[0] } // #[allow(x)]", "allow", &[]);
    }
}
