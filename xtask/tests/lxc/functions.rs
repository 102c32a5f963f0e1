//! `scenarios/FUNCTIONS.md`: the program of each cause shows that its functions cannot work, and each function is one of Mancer's.

use super::common::repository;
use super::defects::{entries, problems};

/// Looks for the functions in the package as it is installed, as a program of an entry does: it ends with status 1 when all are there.
const SEARCH: &str = r#"
import ast
import pathlib

import mancer

ROOT = pathlib.Path(mancer.__file__).parent
listed, found = set(LISTED), set()


def search(node, prefix, module):
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        inner = prefix
        if is_function or isinstance(child, ast.ClassDef):
            inner = f"{prefix}{child.name}{'.<locals>' * is_function}."
        if is_function:
            found.add(f"{module}:{prefix}{child.name}")
        search(child, inner, module)


for path in ROOT.rglob("*.py"):
    search(ast.parse(path.read_text()), "", ".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
missing = listed - found
print(f"not in the package: {sorted(missing)}" if missing else f"{len(listed)} of {len(found)} functions")
raise SystemExit(0 if missing else 1)
"#;

/// The functions that an item of the list names, as `module:function`.
fn functions(item: &str) -> Vec<String> {
    let mut names = item.split('`').skip(1).step_by(2);
    let module = names.next().unwrap_or_default();
    names.map(|name| format!("{module}:{name}")).collect()
}

#[test]
fn every_function_that_cannot_work_is_shown_by_the_program_of_its_cause() {
    let text = std::fs::read_to_string(repository().join("scenarios/FUNCTIONS.md")).unwrap();
    let mut entries = entries(&text, "##");
    let mut listed = Vec::new();
    for (section, (cause, _)) in text.split("\n## ").skip(1).zip(&entries) {
        let list = section.split("\n```").next().unwrap_or_default().replace("\n  ", " ");
        let own: Vec<String> = list.lines().filter_map(|line| line.strip_prefix("- ")).flat_map(functions).collect();
        let row = format!("| {cause} | {} |", own.len());
        assert!(text.lines().any(|line| line == row), "the table lacks {row}");
        listed.extend(own);
    }
    let sum = format!("{} of the 659 functions", listed.len());
    assert!(text.contains(&sum), "the page does not begin with {sum:?}");
    entries.push(("the functions that are listed".to_owned(), SEARCH.replace("LISTED", &format!("{listed:?}"))));
    let problems = problems(&entries);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
