//! Reads recorded timings: CSV without a header, in one of two layouts, told apart line by line.
//!
//! The first has 20 fields: session, background, round, workload, position in the round, variant, start (s), wall time (s), user CPU time
//! (s), system CPU time (s), eight that are not read, calibration wall time (s) and calibration CPU time (s). The second has 12: `seq`,
//! background, round, position, variant, one that is not read, wall time (s), CPU time (s), time waited for a processor (s), and three that
//! are not read; its workload is `py`. Lines that begin with `par` are of variants that ran at the same time; they are skipped, because no
//! rule judges them.
//!
//! The variants `A0` and `A1` are identical work, `p10` is 10 % more of it. Each variant runs once a round.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;

/// The workload of the layout that does not name one.
const UNNAMED_WORKLOAD: &str = "py";

/// Recorded timings of one file, with a track for each workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    pub(super) tracks: Vec<Track>,
    /// Number of lines that were skipped: those of variants that ran at the same time.
    pub passed_over: usize,
}

/// The rounds of one workload, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    pub workload: String,
    pub rounds: Vec<Round>,
}

/// Round that has each variant once.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Round {
    /// Run of the variant `A0`.
    pub baseline: Option<Run>,
    /// Runs of the other variants, by their additional work in percent; `A1` is 0.
    pub candidates: BTreeMap<u32, Run>,
    /// Wall time and CPU time of the calibration's fixed work, in seconds.
    pub calibration: Option<(f64, f64)>,
}

/// Run of one variant; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    pub position: u32,
    pub wall: f64,
    pub cpu: f64,
    pub wait: Option<f64>,
}

/// Parsed line.
struct Line<'a> {
    session: &'a str,
    background: &'a str,
    round: u32,
    workload: &'a str,
    variant: Variant,
    run: Run,
    calibration: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
enum Variant {
    Baseline,
    Candidate(u32),
}

impl Recording {
    /// Parses the text of a recording; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a line of neither layout, a field that cannot be parsed, a variant twice in a round, or a file without
    /// timings.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut tracks: Vec<Track> = Vec::new();
        let mut places: BTreeMap<String, (String, u32)> = BTreeMap::new();
        let (mut passed_over, mut offset) = (0, 0);
        for line in text.split_inclusive('\n') {
            let begin = offset;
            offset += line.len();
            let line = line.trim_end_matches(['\n', '\r']);
            if line.trim().is_empty() {
                continue;
            }
            if line.starts_with("par,") {
                passed_over += 1;
                continue;
            }
            let at = |field: usize, message: String| {
                let within = line.split(',').take(field).map(|field| field.len() + 1).sum::<usize>();
                Error::bad_file(path, text, begin + within.min(line.len()), message)
            };
            let read = Line::read(line).map_err(|(field, message)| at(field, message))?;
            let track = match tracks.iter().position(|track| track.workload == read.workload) {
                Some(place) => place,
                None => {
                    tracks.push(Track { workload: read.workload.to_owned(), rounds: Vec::new() });
                    tracks.len() - 1
                }
            };
            // A round goes on as long as session, background and number stay; a layout without sessions begins the next one
            // where the number falls.
            let place = (format!("{},{}", read.session, read.background), read.round);
            let rounds = &mut tracks[track].rounds;
            if places.insert(read.workload.to_owned(), place.clone()) != Some(place) {
                rounds.push(Round::default());
            }
            let Some(round) = rounds.last_mut() else { continue };
            round.calibration = round.calibration.or(read.calibration);
            let twice = match read.variant {
                Variant::Baseline => round.baseline.replace(read.run).is_some(),
                Variant::Candidate(percent) => round.candidates.insert(percent, read.run).is_some(),
            };
            if twice {
                return Err(at(0, "the same variant twice in one round: each runs once a round".into()));
            }
        }
        if tracks.is_empty() {
            return Err(Error::bad_file(
                path,
                text,
                0,
                "it holds no timings: lines of 20 or of 12 fields are expected",
            ));
        }
        Ok(Self { tracks, passed_over })
    }
}

type Complaint = (usize, String);

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Result<Self, Complaint> {
        let fields: Vec<&str> = line.split(',').collect();
        match (fields.len(), fields[0]) {
            (12, "seq") => Self::read_short(&fields),
            (20, _) => Self::read_long(&fields),
            (count, first) => {
                let hint = "20 fields are expected, or 12 that begin with `seq` or `par`";
                Err((0, format!("a line of {count} fields that begins with {first:?}: {hint}, and no header")))
            }
        }
    }

    fn read_long(fields: &[&'a str]) -> Result<Self, Complaint> {
        let cpu = seconds(fields, 8)? + seconds(fields, 9)?;
        Ok(Self {
            session: fields[0],
            background: fields[1],
            round: count(fields, 2)?,
            workload: fields[3],
            variant: variant(fields, 5)?,
            run: Run { position: count(fields, 4)?, wall: seconds(fields, 7)?, cpu, wait: None },
            calibration: Some((seconds(fields, 18)?, seconds(fields, 19)?)),
        })
    }

    fn read_short(fields: &[&'a str]) -> Result<Self, Complaint> {
        let (wall, cpu, wait) = (seconds(fields, 6)?, seconds(fields, 7)?, Some(seconds(fields, 8)?));
        Ok(Self {
            session: "",
            background: fields[1],
            round: count(fields, 2)?,
            workload: UNNAMED_WORKLOAD,
            variant: variant(fields, 4)?,
            run: Run { position: count(fields, 3)?, wall, cpu, wait },
            calibration: None,
        })
    }
}

fn count(fields: &[&str], field: usize) -> Result<u32, Complaint> {
    let number = fields[field].trim().parse();
    number.map_err(|_| (field, format!("{:?} is no whole number", fields[field])))
}

fn seconds(fields: &[&str], field: usize) -> Result<f64, Complaint> {
    let number = fields[field].trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| (field, format!("{:?} is no time in seconds: a finite number from 0 on", fields[field])))
}

fn variant(fields: &[&str], field: usize) -> Result<Variant, Complaint> {
    let percent = |text: &str| text.strip_prefix('p')?.parse().ok().filter(|percent| (1..=1000).contains(percent));
    match fields[field] {
        "A0" => Ok(Variant::Baseline),
        "A1" => Ok(Variant::Candidate(0)),
        other => percent(other).map(Variant::Candidate).ok_or_else(|| {
            (field, format!("{other:?} is no variant: A0, A1, or p and the percent of additional work, such as p10"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "1,quiet,0,pipe,0,A0,772.4,0.05,0.04,0.004,5588,284,0,173,199,0,16448,0.011,0.013,0.006";
    const SHORT: &str = "seq,quiet,0,2,A0,,0.04,0.03,0.001,,,";

    fn parse(text: &str) -> Result<Recording, Error> {
        Recording::parse(Path::new("x.csv"), text)
    }

    #[test]
    fn both_layouts() {
        let text =
            [LONG, &LONG.replace("A0", "p10").replace(",0,pipe,0", ",0,pipe,1"), SHORT, "par,and,so,on", ""].join("\n");
        let recording = parse(&text).unwrap();
        let workloads: Vec<&str> = recording.tracks.iter().map(|track| track.workload.as_str()).collect();
        assert_eq!((workloads, recording.passed_over), (vec!["pipe", "py"], 1));
        let round = &recording.tracks[0].rounds[0];
        let baseline = round.baseline.unwrap();
        assert_eq!((baseline.wall, baseline.position, baseline.wait), (0.05, 0, None));
        assert!((baseline.cpu - 0.044).abs() < 1e-12, "user and system");
        assert_eq!((round.candidates[&10].position, round.calibration), (1, Some((0.013, 0.006))));
        assert_eq!(recording.tracks[1].rounds[0].baseline.unwrap().wait, Some(0.001));
    }

    #[test]
    fn a_round_ends_where_its_number_its_background_or_its_session_does() {
        let line =
            |background: &str, round: u32, variant: &str| format!("seq,{background},{round},0,{variant},,1,1,0,,,");
        let lines = [("quiet", 0, "A0"), ("quiet", 0, "A1"), ("quiet", 1, "A0"), ("quiet", 0, "A0"), ("cpu1", 0, "A0")];
        let text = lines.map(|(background, round, variant)| line(background, round, variant)).join("\n");
        assert_eq!(parse(&text).unwrap().tracks[0].rounds.len(), 4);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |text: &str, expected: &str| {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}\n  expected {expected}");
        };
        check("", "x.csv:1:1: it holds no timings: lines of 20 or of 12 fields");
        check("par,x\n", "x.csv:1:1: it holds no timings");
        check(
            "session,background\n",
            "x.csv:1:1: a line of 2 fields that begins with \"session\": 20 fields are expected",
        );
        check(&format!("{LONG}\n{LONG}"), "x.csv:2:1: the same variant twice in one round");
        let second = |line: String| format!("{SHORT}\n{line}");
        check(&second(LONG.replace("A0", "B7")), "x.csv:2:18: \"B7\" is no variant: A0, A1, or p");
        check(&second(LONG.replace("0.05", "soon")), "x.csv:2:27: \"soon\" is no time in seconds");
        check(&second(LONG.replace("0.05", "NaN")), "x.csv:2:27: \"NaN\" is no time");
        check(&second(LONG.replace("0.05", "-1")), "x.csv:2:27: \"-1\" is no time");
        check(&second(SHORT.replace(",0,2,", ",x,2,")), "x.csv:2:11: \"x\" is no whole number");
        check(&second(LONG[..LONG.len() - 6].to_owned()), "x.csv:2:1: a line of 19 fields");
    }
}
