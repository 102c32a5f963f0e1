//! Record of the client, and the check of each answer in it.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use e2e::Result;
use serde::Deserialize;

use crate::jobs;
use crate::outage::Outage;

/// Kind of question that the client asks; see `fixtures/client.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Health,
    Known,
    New,
    Jobs,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Health, Self::Known, Self::New, Self::Jobs];

    /// Returns the part of the system without which the service cannot answer this question.
    fn needs(self) -> Option<&'static str> {
        match self {
            Self::Health | Self::Known => None,
            Self::New => Some("postgresql"),
            Self::Jobs => Some("redis"),
        }
    }
}

/// Answer of the service; its status is 0 where no answer came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub kind: Kind,
    pub id: Option<u64>,
    pub began: SystemTime,
    pub took: Duration,
    pub status: u16,
    body: Body,
}

#[derive(Debug, Clone, Deserialize)]
struct Body {
    degraded: Vec<String>,
    digest: Option<String>,
    needs: Option<String>,
}

/// Parses the record; a last line that is still being written is left out.
pub fn read(record: &[u8]) -> Result<Vec<Answer>> {
    #[derive(Deserialize)]
    struct Line {
        kind: Kind,
        id: Option<u64>,
        began: f64,
        took_ms: u64,
        status: u16,
        body: Body,
    }
    let text = std::str::from_utf8(record)?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            let Line { kind, id, began, took_ms, status, body } =
                serde_json::from_str(line).with_context(|| format!("parsing a line of the client's record: {line}"))?;
            let began = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(began);
            Ok(Answer { kind, id, began, took: Duration::from_millis(took_ms), status, body })
        })
        .collect()
}

/// Lists problems of these answers, a line each.
pub fn complaints(answers: &[Answer], outages: &[Outage]) -> Vec<String> {
    let mut complaints = Vec::new();
    for answer in answers {
        let when = outages.iter().find(|outage| answer.touches(outage));
        let complaint = answer.fault(when);
        complaints.extend(complaint.map(|complaint| {
            let Answer { kind, id, status, .. } = answer;
            let name = when.map_or("no outage", |outage| outage.name);
            format!("{name}: {kind:?} {}: {status}: {complaint}", id.unwrap_or_default())
        }));
    }
    complaints
}

impl Answer {
    /// Returns the parts that the answer reports as degraded, sorted.
    pub fn degraded(&self) -> &[String] {
        &self.body.degraded
    }

    /// Tells whether the answer may be missing, or come late: see [`Outage::silent`].
    pub fn may_be_missing(&self, outages: &[Outage]) -> bool {
        outages.iter().any(|outage| outage.silent && self.touches(outage))
    }

    /// Tells whether the outage overlaps the time from the question to the answer.
    fn touches(&self, outage: &Outage) -> bool {
        self.began < outage.over && self.began + self.took > outage.began
    }

    /// Tells whether the time from the question to the answer is between the moment at which the outage was noticed and the start of the
    /// healing.
    fn is_within(&self, outage: &Outage) -> bool {
        self.began >= outage.noticed && self.began + self.took <= outage.mended
    }

    fn fault(&self, outage: Option<&Outage>) -> Option<String> {
        let broken = outage.map_or(&[][..], |outage| &outage.degraded);
        // A service that was started anew does not remember what it was asked before.
        let forgot = outage.is_some_and(|outage| outage.silent) && self.kind == Kind::Known;
        let needed = if forgot { Kind::New.needs() } else { self.kind.needs() };
        let lacks = |part: Option<&str>| part.is_some_and(|part| broken.iter().any(|broken| broken == part));
        let said = &self.body.degraded;
        if let Some(stray) = said.iter().find(|part| !broken.contains(part)) {
            return Some(format!("says that {stray} is degraded, and it is not"));
        }
        match self.status {
            200 | 202 => {
                let digest = self.body.digest.as_deref();
                let is_lookup = matches!(self.kind, Kind::Known | Kind::New);
                if is_lookup && digest != self.id.map(|id| jobs::expected(1, id).digest).as_deref() {
                    return Some(format!("the result is {digest:?}"));
                }
            }
            503 if !lacks(needed) || self.body.needs.as_deref() != needed => {
                return Some(format!("refused for want of {:?}", self.body.needs));
            }
            503 if !said.iter().any(|part| Some(part.as_str()) == needed) => {
                return Some(format!("refused, and says that {said:?} is degraded"));
            }
            503 => {}
            0 if outage.is_some_and(|outage| outage.silent) => {}
            _ => return Some("no such answer is known".into()),
        }
        let within = outage.filter(|outage| self.is_within(outage))?;
        if *said != within.degraded {
            return Some(format!("says that {said:?} is degraded and not {:?}", within.degraded));
        }
        (lacks(needed) && self.status != 503).then(|| format!("done without {needed:?}"))
    }
}
