//! Symbolic links of a bundle, followed as they lead once all of them are laid out: each alone may stay inside, and lead out through
//! another one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The most links that one may pass, as for the kernel.
const PASSED_MAX: usize = 40;

/// Links below a folder, by their paths there, with where they lead.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<PathBuf, PathBuf>);

impl Links {
    /// Adds one.
    pub fn add(&mut self, at: PathBuf, to: PathBuf) {
        self.0.insert(at, to);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
        self.0.iter()
    }

    /// Returns the reason why a link is none of the folder's own: it leads out, by its words or through other links. What is no link
    /// counts as a folder, whether it is there or not.
    #[must_use]
    pub fn problem(&self, at: &Path) -> Option<String> {
        let to = self.0.get(at)?;
        let out = || Some(format!("leads out of it, to {}", to.display()));
        let mut place = at.parent().unwrap_or(Path::new("")).to_owned();
        let mut left = Steps::default();
        left.add(to);
        let mut passed = 0;
        while let Some(step) = left.0.pop() {
            match step {
                Step::Top => return out(),
                Step::Up if !place.pop() => return out(),
                Step::Up => {}
                Step::Into(name) => {
                    place.push(name);
                    if let Some(to) = self.0.get(&place) {
                        passed += 1;
                        if passed > PASSED_MAX {
                            return Some(format!("passes more than {PASSED_MAX} links"));
                        }
                        place.pop();
                        left.add(to);
                    }
                }
            }
        }
        None
    }
}

/// Part of a path.
enum Step {
    /// To the top of the file system.
    Top,
    Up,
    Into(OsString),
}

/// Steps that are still to be made, the next one last.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, path: &Path) {
        let steps = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(Step::Into(name.to_owned())),
            Component::CurDir => None,
            Component::ParentDir => Some(Step::Up),
            Component::RootDir | Component::Prefix(_) => Some(Step::Top),
        });
        let steps: Vec<Step> = steps.collect();
        self.0.extend(steps.into_iter().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the last link of a set.
    fn check(links: &[(&str, &str)], expected: Option<&str>) {
        let mut all = Links::default();
        links.iter().for_each(|(at, to)| all.add(at.into(), to.into()));
        let problem = all.problem(Path::new(links.last().unwrap().0));
        let is_as_expected = match (&problem, expected) {
            (None, None) => true,
            (Some(problem), Some(part)) => problem.contains(part),
            _ => false,
        };
        assert!(is_as_expected, "{links:?}: {problem:?}");
        // The kernel agrees: with these links on a disk, the last one leads out of their folder or not.
        let home = tempfile::tempdir().unwrap();
        let top = home.path().canonicalize().unwrap().join("outside/top");
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        for (at, to) in links {
            std::fs::create_dir_all(top.join(at).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, top.join(at)).unwrap();
        }
        if let Ok(led) = top.join(links.last().unwrap().0).canonicalize() {
            assert_eq!(led.starts_with(&top), expected.is_none(), "{links:?}: {}", led.display());
        }
    }

    #[test]
    fn a_link_is_followed_by_its_own_words() {
        for (at, to, stays) in [
            ("a/b/link", "../c", true),
            ("a/b/link", "../../a", true),
            ("a/b/link", "../../../x", false),
            ("link", "a/../a", true),
            ("link", "a/..", true),
            ("link", "..", false),
            ("a/link", "/etc/passwd", false),
            ("a/link", "b/../../../x", false),
            ("a/link", "./b/./c", true),
        ] {
            check(&[(at, to)], (!stays).then_some("leads out of it, to "));
        }
    }

    #[test]
    fn a_link_is_followed_through_others() {
        let out = Some("leads out of it, to ");
        // Each stays inside by its own words.
        check(&[("a/b/up", "../.."), ("x", "a/b/up/..")], out);
        check(&[("a/b/up", "../.."), ("x", "a/b/up/../etc/passwd")], out);
        check(&[("a/b/up", ".."), ("a/y", "b/up/.."), ("x", "a/y/..")], out);
        check(&[("a/b/c/up", "../../.."), ("y", "a/b/c/up"), ("a/x", "../y/../..")], out);
        check(&[("down", "a/b/c"), ("x", "down/../../..")], None);
        check(&[("down", "a/b/c"), ("x", "down/../../../..")], out);
        check(&[("lib.so.1", "lib.so.1.2"), ("lib.so", "lib.so.1")], None);
        check(&[("a/b/up", ".."), ("x", "a/b/up/b")], None);
        check(&[("out", "/etc"), ("x", "out/passwd")], out);
        check(&[("x", "y"), ("y", "x")], Some("passes more than 40 links"));
        check(&[("x", "x/..")], Some("passes more than 40 links"));
    }
}
