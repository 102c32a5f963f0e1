//! Symbolic links of a bundle, followed as if all of them were unpacked: a link alone may stay inside, and yet lead out through another
//! link.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use crate::host::disk::tar_entries::{require_bounded, shown};

/// Maximum links that the resolution of one link may pass through, as in the kernel.
const PASSED_MAX: usize = 40;

/// Maximum work of following all links of a bundle, in bytes of the paths that are looked up. This suffices for some hundred thousand
/// lookups; a project needs about a thousand.
const LOOKED_UP_BYTES_MAX: usize = 128 << 20;

/// Bytes that a lookup costs in addition to the length of its path.
const LOOK_BYTES: usize = 128;

/// Remaining work of following links, in the unit of [`LOOKED_UP_BYTES_MAX`].
#[derive(Debug)]
pub struct Work(usize);

impl Work {
    /// Returns the bound for packing: half of the bound for unpacking, because paths are longer in the archive.
    #[must_use]
    pub const fn of_packing() -> Self {
        Self(LOOKED_UP_BYTES_MAX / 2)
    }

    #[must_use]
    pub const fn of_unpacking() -> Self {
        Self(LOOKED_UP_BYTES_MAX)
    }

    /// Subtracts a lookup from the remaining work; returns false if not enough is left.
    const fn look(&mut self, path_bytes: usize) -> bool {
        match self.0.checked_sub(path_bytes.saturating_add(LOOK_BYTES)) {
            Some(left) => self.0 = left,
            None => return false,
        }
        true
    }
}

/// Symbolic links below a folder: the path of each link, relative to the folder, and the link's target.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<PathBuf, PathBuf>);

impl Links {
    pub fn add(&mut self, at: PathBuf, to: PathBuf) {
        self.0.insert(at, to);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
        self.0.iter()
    }

    /// Returns the first reason to reject the links, given all paths of the folder: a link leads out, directly or through other links; a
    /// path lies behind a link, which would lead to another place; or following the links takes too long.
    #[must_use]
    pub fn problem(&self, paths: &BTreeSet<PathBuf>, work: &mut Work) -> Option<String> {
        for at in self.0.keys() {
            if let Some(problem) = self.problem_of(at, work) {
                return Some(format!("{} {problem}", shown(at)));
            }
            // Paths are in the order of their parts: whatever lies behind the link comes right after it.
            let next = paths.range::<Path, _>((Bound::Excluded(at.as_path()), Bound::Unbounded)).next();
            if let Some(other) = next.filter(|other| other.starts_with(at)) {
                return Some(format!("{} lies behind the link {}", shown(other), shown(at)));
            }
        }
        None
    }

    /// Returns the reason to reject one link, without regard to paths behind it. A path that is no link counts as a folder, whether it
    /// exists or not.
    #[must_use]
    pub fn problem_of(&self, at: &Path, work: &mut Work) -> Option<String> {
        let to = self.0.get(at)?;
        if let Err(error) = require_bounded(to) {
            return Some(format!("leads to {error}"));
        }
        let out = || Some(format!("leads out of the bundle, to {}", shown(to)));
        let mut place = at.parent().unwrap_or(Path::new("")).to_owned();
        let mut steps = Steps::default();
        steps.add(to);
        let mut passed = 0;
        while let Some(step) = steps.0.pop() {
            match step {
                Step::Top => return out(),
                Step::Up if !place.pop() => return out(),
                Step::Up => {}
                Step::Into(name) => {
                    place.push(name);
                    if !work.look(place.as_os_str().len()) {
                        return Some("is one of too many links: following them takes too long".to_owned());
                    }
                    if let Some(to) = self.0.get(&place) {
                        passed += 1;
                        if passed > PASSED_MAX {
                            return Some(format!("passes more than {PASSED_MAX} links"));
                        }
                        place.pop();
                        steps.add(to);
                    }
                }
            }
        }
        None
    }
}

/// Component of a path that is being resolved.
enum Step {
    /// Root of the file system.
    Top,
    Up,
    Into(OsString),
}

/// Path components that are still to be resolved; the next one is the last element.
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

    /// Checks the problem of the last link in a set of links.
    fn check(links: &[(&str, &str)], expected: Option<&str>) {
        let mut all = Links::default();
        links.iter().for_each(|(at, to)| all.add(at.into(), to.into()));
        let problem = all.problem_of(Path::new(links.last().unwrap().0), &mut Work::of_unpacking());
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
            check(&[(at, to)], (!stays).then_some("leads out of the bundle, to "));
        }
    }

    #[test]
    fn a_link_is_followed_through_others() {
        let out = Some("leads out of the bundle, to ");
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

    #[test]
    fn what_lies_behind_a_link_is_found_among_its_neighbors() {
        let problem = |links: &[&str], files: &[&str]| {
            let mut all = Links::default();
            links.iter().for_each(|at| all.add(at.into(), "to".into()));
            all.problem(&links.iter().chain(files).map(PathBuf::from).collect(), &mut Work::of_unpacking())
        };
        assert_eq!(problem(&["a", "b/a"], &["a.b", "a b", "a-", "aa/x", "b/a!", "b/aa"]), None);
        for behind in ["a/x", "a/x/y", "a/a"] {
            let found = problem(&["a"], &["a ", "a-b", "a.c", "a/", "aa", behind]);
            assert_eq!(found, Some(format!("{behind} lies behind the link a")));
        }
        assert_eq!(problem(&["a", "a/b"], &[]), Some("a/b lies behind the link a".to_owned()));
    }

    #[test]
    fn twenty_thousand_links_take_a_part_of_the_work_and_hostile_ones_are_refused() {
        let problem = |links: usize, to: &str, work: &mut Work| {
            let mut all = Links::default();
            (0..links).for_each(|place| all.add(format!("some/folder/link-{place}").into(), to.into()));
            all.problem(&all.iter().map(|(at, _)| at.clone()).collect(), work)
        };
        let mut work = Work::of_packing();
        assert_eq!(problem(20_000, "../other/file", &mut work), None);
        assert!(work.0 > LOOKED_UP_BYTES_MAX / 4, "{work:?}");
        let mut work = Work(1 << 20);
        let found = problem(20_000, &"link-0/../".repeat(20), &mut work).unwrap();
        assert!(found.contains("passes more than 40 links"), "{found}");
        let found = problem(20_000, &"folder/../".repeat(100), &mut work).unwrap();
        assert!(found.contains("is one of too many links: following them takes too long"), "{found}");
        let found = problem(1, &"folder/../".repeat(200), &mut work).unwrap();
        assert!(found.contains("a path of more than 256 parts"), "{found}");
    }
}
