//! Parts of other texts that the rules look at: names of machines, lists and tables.

use std::collections::{BTreeMap, BTreeSet};

/// Absolute paths of a machine that somebody worked on, and hosts of package registries. Each pattern is put together
/// here, so that this file has none.
pub fn machine_names(text: &str) -> Vec<(usize, String)> {
    let paths = [["/wo", "rk/"], ["/Us", "ers/"], ["/ro", "ot/."], ["/tmp/w", "t-"], ["/bash_", "jobs"]];
    let hosts = [
        ["debian", ".org"],
        ["ubuntu", ".com"],
        ["crates", ".io"],
        ["pypi", ".org"],
        ["pythonhosted", ".org"],
        ["npmjs", ".org"],
        ["golang", ".org"],
        ["nixos", ".org"],
        ["docker", ".io"],
    ];
    // Cargo's own name for its registry, in the lock file that it writes.
    let cargo = format!("crates{}-index", ".io");
    // What a distribution itself keeps there, in every container.
    let inside = format!("/ro{}cache", "ot/.");
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.replace(&cargo, "").replace(&inside, "");
        let patterns = paths.iter().chain(&hosts).map(|halves| halves.concat());
        found.extend(patterns.filter(|pattern| line.contains(pattern.as_str())).map(|pattern| (number + 1, pattern)));
    }
    found
}

/// Words that gave way to one of the field, each with that one. Each is put together here, so that this file has none.
const RETIRED_WORDS: [([&str; 2], &str); 9] = [
    (["cu", "re"], "help"),
    (["bi", "te"], "take effect"),
    (["bi", "ting"], "in effect"),
    (["end", "ure"], "tolerate"),
    (["vol", "ley"], "probe packets"),
    (["bal", "last"], "filler"),
    (["col", "our"], "color"),
    (["neigh", "bour"], "neighbor"),
    (["behav", "iour"], "behavior"),
];

/// Names with a retired word that stay: keys of formats, and a variable of a test of the product.
const KEPT_NAMES: [[&str; 2]; 3] = [["\"bi", "tes\""], ["bi", "tes_after_ms"], ["COL", "OUR"]];

/// The retired words in a text, each with its line and the word that stands for it now.
pub fn retired_words(text: &str) -> Vec<(usize, String, &'static str)> {
    let words = RETIRED_WORDS.map(|(halves, now)| (halves.concat(), now));
    let text = KEPT_NAMES.iter().fold(text.to_owned(), |text, halves| text.replace(&halves.concat(), ""));
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in lower.split(|c: char| !c.is_ascii_alphanumeric()) {
            let is_it = |retired: &str| word == retired || word.strip_suffix('s') == Some(retired);
            let retired = words.iter().filter(|(retired, _)| is_it(retired));
            found.extend(retired.map(|(retired, now)| (number + 1, retired.clone(), *now)));
        }
    }
    found
}

/// The paths into a system's folders of programs and settings that a text names, each with its line; what names the interpreter of a
/// script is none.
pub fn host_paths(text: &str) -> Vec<(usize, String)> {
    const FOLDERS: [&str; 6] = ["/usr", "/bin", "/sbin", "/etc", "/lib", "/opt"];
    let in_path = |c: char| c.is_ascii_alphanumeric() || "/._-+*".contains(c);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut at = 0;
        while let Some(start) = line[at..].find('/').map(|offset| at + offset) {
            let end = line[start..].find(|c| !in_path(c)).map_or(line.len(), |length| start + length);
            let path = &line[start..end];
            // Behind a letter or a brace it is the rest of another path; behind `!` the interpreter of a script.
            let before = line[..start].chars().next_back();
            let begins = before.is_none_or(|c| !(c.is_alphanumeric() || "/._-+*}~)$!<".contains(c)));
            let is_inside = |rest: &str| rest.is_empty() || rest.starts_with('/');
            if begins && FOLDERS.iter().any(|folder| path.strip_prefix(folder).is_some_and(is_inside)) {
                found.push((number + 1, path.to_owned()));
            }
            at = end;
        }
    }
    found
}

/// Names and paths of the programs that a Cargo.toml lists.
pub fn listed_programs(manifest: &str) -> BTreeMap<String, String> {
    let document: toml::Table = manifest.parse().expect("a Cargo.toml");
    let programs = document.get("bin").and_then(|bin| bin.as_array()).cloned().unwrap_or_default();
    let text = |program: &toml::Value, key: &str| program.get(key).and_then(|it| it.as_str()).unwrap_or("").to_owned();
    programs.iter().map(|program| (text(program, "name"), text(program, "path"))).collect()
}

/// Tells whether a scenario.toml names a command, so that Cargo has nothing to build.
pub fn has_command(scenario: &str) -> bool {
    scenario.parse::<toml::Table>().expect("a scenario.toml").contains_key("command")
}

/// The words of a list in a manifest; none where it has no such list.
pub fn words(manifest: &str, list: &str) -> Vec<String> {
    let document: toml::Table = manifest.parse().expect("a manifest");
    let list = document.get(list).and_then(|list| list.as_array()).cloned().unwrap_or_default();
    list.iter().map(|word| word.as_str().expect("a list of words").to_owned()).collect()
}

/// The headings of the second level, each with those of the third level below it; none of them is inside a fenced block.
pub fn headings(text: &str) -> Vec<(String, Vec<String>)> {
    let blocks = text.split("\n```").step_by(2); // every other piece is inside a fence
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if let Some(heading) = line.strip_prefix("## ") {
            found.push((heading.trim().to_owned(), Vec::new()));
        } else if let (Some(heading), Some((_, below))) = (line.strip_prefix("### "), found.last_mut()) {
            below.push(heading.trim().to_owned());
        }
    }
    found
}

/// Returns the targets of a text's links, each with its line; those to other sites are left out, and what stands in a
/// fence.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        inside ^= line.starts_with("```");
        let prose: String = line.split('`').step_by(2).collect(); // every other piece is code
        let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
        found.extend(targets.filter(|_| !inside).filter(|it| !it.contains("://")).map(|target| (number + 1, target)));
    }
    found
}

/// The anchors that GitHub makes of a text's headings.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let blocks = text.split("\n```").step_by(2);
    let headings = blocks.flat_map(str::lines).filter(|line| line.starts_with('#'));
    let kept = |c: char| (c.is_alphanumeric() || "-_".contains(c)).then(|| c.to_lowercase().to_string());
    headings
        .map(|line| line.trim_start_matches('#').trim().replace(' ', "-").chars().filter_map(kept).collect())
        .collect()
}

/// The headings of the third level with the text below each, up to the next heading of any level.
pub fn sections(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            found.push((name.trim().to_owned(), String::new()));
            inside = true;
        } else if line.starts_with('#') {
            inside = false;
        } else if let Some((_, body)) = found.last_mut().filter(|_| inside) {
            body.push_str(line);
            body.push('\n');
        }
    }
    found
}

/// The words that a section explains: list items that begin with one in backticks.
pub fn explained(section: &str) -> BTreeSet<String> {
    let item = |line: &str| Some(line.strip_prefix("- `")?.split_once("`: ")?.0.to_owned());
    section.lines().filter_map(item).collect()
}

/// The public structs of a source, each with its line and what is written above it.
pub fn documented_structs(source: &str) -> Vec<(usize, String, String)> {
    let mut above = String::new();
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            found.push((number + 1, name.to_owned(), std::mem::take(&mut above)));
        } else if line.starts_with("///") || line.starts_with("#[") {
            above.push_str(line);
            above.push('\n');
        } else {
            above.clear();
        }
    }
    found
}

/// The names that an attribute set of this name has in a file of Nix, one a line, each in quotation marks.
pub fn nix_names(text: &str, set: &str) -> Vec<String> {
    let opening = format!("{set} = {{");
    let lines = text.lines().map(str::trim).skip_while(|line| *line != opening).skip(1);
    let names = lines.take_while(|line| *line != "};");
    names.filter_map(|line| Some(line.strip_prefix('"')?.split_once("\" = ")?.0.to_owned())).collect()
}

/// Dependencies of a workspace with a comment directly above, and the lines of comments above nothing. Comments that a blank line
/// follows are for the whole section.
pub fn reasons(manifest: &str) -> (BTreeSet<String>, Vec<usize>) {
    let lines = manifest.lines().enumerate().skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1);
    let section: Vec<(usize, &str)> = lines.take_while(|(_, line)| !line.starts_with('[')).collect();
    let (mut reasoned, mut loose, mut above) = (BTreeSet::new(), Vec::new(), None);
    for (number, line) in section {
        if line.starts_with('#') {
            above = above.or(Some(number + 1));
        } else if let Some((name, value)) = line.split_once(" = ") {
            match above.take() {
                Some(comment) if value.contains("path = ") => loose.push(comment),
                Some(_) => drop(reasoned.insert(name.to_owned())),
                None => {}
            }
        } else {
            above = None;
        }
    }
    loose.extend(above);
    (reasoned, loose)
}

/// Paths of this repository's own code and pages that a text names in backticks, each with its line. Names with a placeholder, such
/// as `NAME` or `*`, and command lines are none.
pub fn named_paths(text: &str) -> Vec<(usize, String)> {
    const BELOW: [&str; 4] = ["xtask/", "docs/", ".ci/", ".github/"];
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split('`').skip(1).step_by(2);
        let paths = code.filter(|word| BELOW.iter().any(|below| word.starts_with(below)) && word.chars().all(plain));
        found.extend(paths.map(|path| (number + 1, path.to_owned())));
    }
    found
}

/// Rows of the table below the heading Code map: the modules of each, and the files that it names.
pub fn code_map(architecture: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let section = architecture.split("\n## ").find(|section| section.starts_with("Code map\n")).unwrap_or("");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    rows.map(|(modules, files)| {
        let files = quoted(files).into_iter().filter(|word| word.ends_with(".rs") || word.ends_with('/'));
        (quoted(&format!("`{modules}")), files.collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines_are_seen() {
        let host = ["deb.debian", ".org"].concat();
        let path = ["/wo", "rk/main"].concat();
        let index = ["registry+https://github.com/rust-lang/crates", ".io-index"].concat();
        assert_eq!(machine_names(&format!("a\nget {host}\n{path}")).iter().map(|it| it.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(machine_names(&format!("{index}\n/root /home/mancer /var/lib/mancer-e2e\n")), []);
    }

    #[test]
    fn retired_words_are_found_whole_and_in_names() {
        let word = ["cu", "re"].concat();
        let found = retired_words(&format!("se{word} help\nlet {word} = no_{word}s;\n"));
        assert_eq!(found.iter().map(|(line, ..)| *line).collect::<Vec<_>>(), [2, 2]);
        let word = ["bi", "te"].concat();
        let found = retired_words(&format!("row[\"{word}s\"] {word}s_after_ms fault {word}s\n"));
        assert_eq!(found, [(1, word, "take effect")]);
    }

    #[test]
    fn paths_of_the_host_are_seen_wherever_they_begin() {
        let found = |text: &str| host_paths(text).into_iter().map(|(_, path)| path).collect::<Vec<_>>();
        assert_eq!(found("exec /usr/bin/lxc-start -n a"), ["/usr/bin/lxc-start"]);
        assert_eq!(found("PATH=/usr/sbin:/sbin lxc"), ["/usr/sbin", "/sbin"]);
        assert_eq!(found("run \"/bin/sh\", '/etc/os-release'"), ["/bin/sh", "/etc/os-release"]);
        assert_eq!(
            found("#!/bin/sh\n$out/bin/x ${a}/bin ../usr/lib /home/etc /usrlocal /library https://x/etc"),
            [""; 0]
        );
        assert_eq!(host_paths("a\n/opt/x"), [(2, "/opt/x".to_owned())]);
    }

    #[test]
    fn programs_are_listed_by_name_and_path() {
        let listed = listed_programs("[package]\nname = 'x'\n[[bin]]\nname = 'a'\npath = 'c/a/main.rs'\n");
        assert_eq!(listed, BTreeMap::from([("a".to_owned(), "c/a/main.rs".to_owned())]));
        assert!(listed_programs("[package]\nname = 'x'\n").is_empty());
        assert!(has_command("command = ['python3', 'main.py']\n[containers.a]\n"));
        assert!(!has_command("description = 'a command'\n[containers.command]\n"));
    }

    #[test]
    fn lists_and_headings_are_read() {
        assert_eq!(words("tags = ['slow', 'b']\n", "tags"), ["slow", "b"]);
        assert!(words("description = 'x'\n", "tags").is_empty());
        let text = "# A\n## one\n### x-1/a\nwords\n```python\n## no heading\n### none\n```\n### x-1/b \n## two\n";
        let below =
            |heading: &str, names: &[&str]| (heading.to_owned(), names.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(headings(text), [below("one", &["x-1/a", "x-1/b"]), below("two", &[])]);
    }

    #[test]
    fn sections_and_what_they_explain_are_read() {
        let text = "# A\n- `x`: no\n### a.b\nwords `c`\n- `d_ms`: e\n- Needs: f\n## B\n- `y`: no\n### c\n";
        let sections = sections(text);
        let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.b", "c"]);
        assert_eq!(explained(&sections[0].1), BTreeSet::from(["d_ms".to_owned()]));
    }

    #[test]
    fn links_and_what_they_lead_to_are_read() {
        let text = "# A b.c: `d`?\n[x](y.md#z) and [`x`](#a-bc-d), `[no](code)`\n```\n# no\n[no](fence)\n```\n[no](https://x)\n";
        assert_eq!(links(text), [(2, "y.md#z".to_owned()), (2, "#a-bc-d".to_owned())]);
        assert_eq!(anchors(text), BTreeSet::from(["a-bc-d".to_owned()]));
    }

    #[test]
    fn structs_are_found_with_what_is_written_above_them() {
        let text = "/// A.\n/// ```\n#[derive(Debug)]\npub struct A<'a> {\n}\n\n/// B.\npub struct B(u8);\n/// c\nfn c() {}\npub struct D;\n";
        let found = documented_structs(text);
        let names: Vec<(usize, &str, bool)> =
            found.iter().map(|(line, name, docs)| (*line, name.as_str(), docs.contains("```"))).collect();
        assert_eq!(names, [(4, "A", true), (8, "B", false), (11, "D", false)]);
    }

    #[test]
    fn names_in_files_of_nix_are_read() {
        let text = "let\n  x = { };\nin\n{\n  a = {\n    \"b.c\" = pkgs.d;\n    \"e\" = f;\n  };\n  g = {\n    \"h\" = i;\n  };\n}\n";
        assert_eq!(nix_names(text, "a"), ["b.c", "e"]);
        assert_eq!(nix_names(text, "g"), ["h"]);
        assert!(nix_names(text, "j").is_empty());
    }

    #[test]
    fn reasons_stand_directly_above_their_dependencies() {
        let text = "# x\nz = 1\n[workspace.dependencies]\n# For all.\n\n# Why,\n# twice.\na = \"1\"\nb = \"2\"\n# Own.\nc = { path = \"c\" }\n# Of none.\n[d]\n# No.\ne = 1\n";
        assert_eq!(reasons(text), (BTreeSet::from(["a".to_owned()]), vec![10, 12]));
        assert_eq!(reasons("no table"), (BTreeSet::new(), Vec::new()));
    }

    #[test]
    fn paths_in_backticks_are_read_unless_they_have_a_placeholder() {
        let text =
            "a `xtask/src/a.rs` and xtask/no.rs, `docs/`\n`xtask/NAME/x` `docs/*.md` `other/a.rs` `.ci/run --fast`";
        assert_eq!(named_paths(text), [(1, "xtask/src/a.rs".to_owned()), (1, "docs/".to_owned())]);
    }

    #[test]
    fn the_code_map_is_read_row_by_row() {
        let text = "## A\n| `x` | `no.rs` |\n\n## Code map\n\n| module | files |\n|---|---|\n| `a` | `b.rs` c; `d/`, `e f` |\n| `g`, `h` | i |\n\n## B\n| `x` | `no.rs` |\n";
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let expected = [(owned(&["a"]), owned(&["b.rs", "d/"])), (owned(&["g", "h"]), Vec::new())];
        assert_eq!(code_map(text), expected);
    }
}
