//! Search for the records of shards, and the check that they are one whole suite.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;
use crate::record::event_reader::EVENTS_FILE;
use crate::record::{PastRun, RECORD_FILE, RecordedPart};

/// Depth below a given folder to which records are looked for: a folder of artifacts for each shard, with `target/e2e` in it.
const DEPTH_MAX: usize = 4;

/// Records of the shards of one suite.
#[derive(Debug)]
pub struct Shards {
    /// Records, sorted by the number of the shard.
    pub(super) runs: Vec<PastRun>,
    /// Every case of the suite.
    pub(super) suite: Vec<String>,
    /// Numbers of the shards without a record.
    pub(super) missing: Vec<u32>,
    /// Number of shards that the suite was split into.
    pub(super) of: u32,
}

impl Shards {
    /// Finds the records of shards in these folders and below them.
    ///
    /// # Errors
    /// [`Error::Usage`] where a folder holds no record, a record is not that of a shard, two are of the same shard, or they are of
    /// different suites; [`Error::BadFile`] for a damaged record.
    pub fn find(folders: &[PathBuf]) -> anyhow::Result<Self> {
        let mut runs: Vec<PastRun> = Vec::new();
        for folder in folders {
            let mut found = Vec::new();
            look(folder, DEPTH_MAX, &mut found)
                .with_context(|| format!("looking for records in {}", folder.display()))?;
            if found.is_empty() {
                let message = format!(
                    "{} holds no record of a run: there is no run.json and no events.jsonl in it or below",
                    folder.display()
                );
                return Err(Error::Usage(message).into());
            }
            for run in found {
                if !runs.iter().any(|other| other.folder == run) {
                    runs.push(PastRun::read(run)?);
                }
            }
        }
        Ok(Self::of(runs)?)
    }

    fn of(mut runs: Vec<PastRun>) -> Result<Self, Error> {
        let none = |run: &PastRun| {
            let folder = run.folder.display();
            Error::Usage(format!("{folder} is not the record of a shard: it was not run with --shard K/N"))
        };
        if let Some(whole) = runs.iter().find(|run| run.record.part.is_none()) {
            return Err(none(whole));
        }
        if let Some(running) = runs.iter().find(|run| run.record.unfinished.as_ref().is_some_and(|end| end.still_runs))
        {
            let message = format!("{} still runs: join the shards when all have ended", running.folder.display());
            return Err(Error::Usage(message));
        }
        let number = |run: &PastRun| run.record.part.as_ref().map_or(0, |part| part.shard);
        runs.sort_by_key(number);
        let Some(RecordedPart { of, suite, .. }) = runs.first().and_then(|run| run.record.part.clone()) else {
            return Err(Error::Usage("there is no record to join".into()));
        };
        for pair in runs.windows(2) {
            let folders = format!("{} and {}", pair[0].folder.display(), pair[1].folder.display());
            let parts = [&pair[0], &pair[1]].map(|run| run.record.part.as_ref());
            let same = |get: fn(&RecordedPart) -> (u32, &[String])| parts[0].map(get) == parts[1].map(get);
            if !same(|part| (part.of, &part.suite)) {
                let help = "give the shards of one run, made with the same filters, options and number of shards";
                return Err(Error::Usage(format!("{folders} are shards of different suites: {help}")));
            }
            if number(&pair[0]) == number(&pair[1]) {
                let message = format!("{folders} are both shard {}/{of}: leave one of them out", number(&pair[0]));
                return Err(Error::Usage(message));
            }
        }
        let missing: Vec<u32> = (1..=of).filter(|shard| !runs.iter().any(|run| number(run) == *shard)).collect();
        let shards = Self { runs, suite, missing, of };
        shards.covers_once()?;
        Ok(shards)
    }

    /// Checks that each case of the suite is in one record, unless a shard is missing, and that no record has another case.
    fn covers_once(&self) -> Result<(), Error> {
        let mut times: HashMap<&str, usize> = HashMap::new();
        for result in self.runs.iter().flat_map(|run| &run.record.cases) {
            *times.entry(result.case.0.as_str()).or_default() += 1;
        }
        for case in &self.suite {
            let times = times.remove(case.as_str()).unwrap_or_default();
            if times > 1 {
                let help = "did all machines have the same scenarios/durations.toml?";
                return Err(Error::Usage(format!("{times} of the shards have run {case}: {help}")));
            }
            if times == 0 && self.missing.is_empty() {
                let help = "did all machines have the same scenarios/durations.toml?";
                return Err(Error::Usage(format!("no shard has run {case}: {help}")));
            }
        }
        match times.keys().min() {
            Some(case) => Err(Error::Usage(format!("a shard has run {case}, which is not in the suite"))),
            None => Ok(()),
        }
    }
}

/// Finds the folders that hold the record of a run, or the events of a killed one: this folder, and those up to `depth` levels below it.
/// Links are not followed.
fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if folder.join(RECORD_FILE).is_file() || folder.join(EVENTS_FILE).is_file() {
        found.push(folder.canonicalize()?);
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let mut below: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    below.sort_by_key(std::fs::DirEntry::file_name);
    for entry in below {
        if entry.file_type()?.is_dir() {
            look(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::outcome::tests::record;
    use crate::record::{CaseId, CaseResult, RunRecord, Verdict};

    /// Makes a run with this name, of shard `shard` of `of` shards of a suite, in which the cases of `ran` ended with these verdicts.
    pub fn shard(name: &str, (shard, of, suite): (u32, u32, &[&str]), ran: &[(&str, Verdict)]) -> PastRun {
        let case = |(case, verdict): &(&str, Verdict)| CaseResult {
            case: CaseId((*case).to_owned()),
            verdict: *verdict,
            attempts: Vec::new(),
        };
        let suite = suite.iter().map(|case| (*case).to_owned()).collect();
        let record = RunRecord {
            run_id: name.to_owned(),
            cases: ran.iter().map(case).collect(),
            part: Some(RecordedPart { shard, of, suite }),
            ..record()
        };
        PastRun { folder: name.into(), record }
    }

    const SUITE: &[&str] = &["a", "b", "c"];

    fn check(runs: Vec<PastRun>, expected: Result<&[u32], &str>) {
        match (Shards::of(runs), expected) {
            (Ok(shards), Ok(missing)) => assert_eq!(shards.missing, missing),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn they_cover_the_suite_once() {
        use Verdict::{Failed, Passed};
        let one = || shard("r1", (1, 2, SUITE), &[("a", Passed), ("c", Failed)]);
        let two = || shard("r2", (2, 2, SUITE), &[("b", Passed)]);
        check(vec![two(), one()], Ok(&[]));
        check(vec![two()], Ok(&[1]));
        check(vec![one(), one(), two()], Err("r1 and r1 are both shard 1/2: leave one of them out"));
        check(vec![one(), shard("r3", (2, 3, SUITE), &[("b", Passed)])], Err("shards of different suites"));
        check(vec![one(), shard("r3", (2, 2, &["a", "b"]), &[("b", Passed)])], Err("shards of different suites"));
        check(
            vec![one(), shard("r3", (2, 2, SUITE), &[("a", Passed), ("b", Passed)])],
            Err("2 of the shards have run a"),
        );
        check(vec![one(), shard("r3", (2, 2, SUITE), &[])], Err("no shard has run b"));
        check(vec![one(), shard("r3", (2, 2, SUITE), &[("b", Passed), ("x", Passed)])], Err("not in the suite"));
        let whole = PastRun { folder: "whole".into(), record: record() };
        check(vec![one(), whole], Err("whole is not the record of a shard"));
        check(Vec::new(), Err("no record to join"));
    }

    #[test]
    fn records_are_found_below_a_folder_of_artifacts() {
        let top = tempfile::tempdir().unwrap();
        for (name, number) in [("shard-1", 1), ("shard-2", 2)] {
            let folder = top.path().join(name).join("20260101-000000-1");
            std::fs::create_dir_all(&folder).unwrap();
            let case = if number == 1 { "a" } else { "b" };
            let run = shard("r", (number, 2, &["a", "b"]), &[(case, Verdict::Passed)]);
            std::fs::write(folder.join("run.json"), serde_json::to_vec(&run.record).unwrap()).unwrap();
            std::os::unix::fs::symlink("20260101-000000-1", top.path().join(name).join("latest")).unwrap();
        }
        let shards = Shards::find(&[top.path().to_owned()]).unwrap();
        assert_eq!((shards.runs.len(), shards.missing.len()), (2, 0));
        let same = Shards::find(&[top.path().join("shard-1"), top.path().join("shard-1/20260101-000000-1")]).unwrap();
        assert_eq!(same.missing, [2]);
        let error = Shards::find(&[top.path().join("shard-1/20260101-000000-1/nothing")]).unwrap_err();
        assert!(format!("{error:#}").contains("nothing"), "{error:#}");
        std::fs::create_dir(top.path().join("empty")).unwrap();
        let error = Shards::find(&[top.path().join("empty")]).unwrap_err().to_string();
        assert!(error.contains("holds no record of a run"), "{error}");
    }
}
