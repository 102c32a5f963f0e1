//! Requests of a client that asks all the time (`fixtures/poller.py` on app), and the outages that they show.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use e2e::Container;
use serde::Deserialize;

/// Interval between two requests of [`poll`].
pub const INTERVAL: Duration = Duration::from_millis(50);
/// Number of good answers in a row that end an outage, so that one good answer between bad ones does not.
const RECOVERED: u32 = 5;
/// URL of the service, through nginx.
const SITE: &str = "http://app/";
const STOP_FILE: &str = "/tmp/poller.stop";
const POLLING_DEADLINE: Duration = Duration::from_secs(120);

/// One request of the client with its answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    url: String,
    /// Time of the request's start, in milliseconds since the first request.
    at_ms: u64,
    /// Time until the answer was complete, or the request was given up, in milliseconds.
    took_ms: u64,
    /// Version of the service that answered; `None` without a good answer.
    version: Option<u32>,
    host: Option<String>,
    site: Option<String>,
    status: Option<u16>,
    error: Option<String>,
}

/// Sends requests to nginx all the time until [`stop`]; returns all requests, in the order of their begins.
pub fn poll(app: &Container, output: &str) -> e2e::Result<Vec<Request>> {
    app.exec(["rm", "-f", STOP_FILE])?.success()?;
    run(app, INTERVAL, output, STOP_FILE, &[SITE])
}

/// Ends the requests of [`poll`].
pub fn stop(app: &Container) -> e2e::Result {
    app.write(STOP_FILE, "")
}

/// Returns the different answers that nginx and the two hosts give now, when asked in turn.
pub fn served(app: &Container) -> e2e::Result<Vec<String>> {
    let urls = [SITE, "http://db:8080/", "http://worker:8080/"];
    let requests = run(app, Duration::from_millis(10), "/tmp/served.jsonl", "9", &urls)?;
    Ok(requests.iter().map(Request::shown).collect::<BTreeSet<_>>().into_iter().collect())
}

fn run(app: &Container, interval: Duration, output: &str, end: &str, urls: &[&str]) -> e2e::Result<Vec<Request>> {
    let interval_ms = interval.as_millis().to_string();
    let program = ["python3", "/srv/deployment/poller.py", &interval_ms, output, end];
    app.command(program.iter().chain(urls).copied()).user("mancer").deadline(POLLING_DEADLINE).run()?.success()?;
    let text = String::from_utf8(app.get(output)?).with_context(|| format!("reading {output}"))?;
    let line = |line| serde_json::from_str(line).with_context(|| format!("reading {line:?} of {output}"));
    let mut requests = text.lines().map(line).collect::<e2e::Result<Vec<Request>>>()?;
    requests.sort_by_key(|request| request.at_ms);
    Ok(requests)
}

impl Request {
    fn shown(&self) -> String {
        let Self { url, version, host, site, status, error, .. } = self;
        match (version, host, site) {
            (Some(version), _, Some(site)) => format!("{url}: release {version}, site {site}"),
            (Some(version), Some(host), None) => format!("{url}: release {version} on {host}"),
            _ => format!("{url}: {}", error.clone().unwrap_or_else(|| format!("status {status:?}"))),
        }
    }
}

/// Figures of all requests, such as the longest outage.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub requests: usize,
    pub failed: usize,
    /// Longest time from the start of a failed request until [`RECOVERED`] good answers in a row have come.
    pub longest_outage: Duration,
    /// Longest time that a good answer took.
    pub slowest: Duration,
    /// Longest time without a start of a request, in which an outage would not have been seen.
    pub longest_gap: Duration,
    /// All versions that answered.
    pub versions: BTreeSet<u32>,
}

impl Seen {
    /// Computes the figures of requests, which are in the order of their begins.
    pub fn of(requests: &[Request]) -> Self {
        let (mut longest_outage_ms, mut down_since_ms, mut good_in_a_row) = (0, None, 0);
        for request in requests {
            if request.version.is_some() {
                good_in_a_row += 1;
            } else {
                good_in_a_row = 0;
                down_since_ms.get_or_insert(request.at_ms);
            }
            if let Some(since_ms) = down_since_ms {
                longest_outage_ms = longest_outage_ms.max(request.at_ms + request.took_ms - since_ms);
            }
            if good_in_a_row == RECOVERED {
                down_since_ms = None;
            }
        }
        let good = || requests.iter().filter(|request| request.version.is_some());
        let gaps_ms = requests.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms);
        Self {
            requests: requests.len(),
            failed: requests.len() - good().count(),
            longest_outage: Duration::from_millis(longest_outage_ms),
            slowest: Duration::from_millis(good().map(|request| request.took_ms).max().unwrap_or_default()),
            longest_gap: Duration::from_millis(gaps_ms.max().unwrap_or_default()),
            versions: requests.iter().filter_map(|request| request.version).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at_ms: u64, took_ms: u64, version: Option<u32>) -> Request {
        let url = SITE.to_owned();
        Request { url, at_ms, took_ms, version, host: None, site: None, status: None, error: None }
    }

    /// Makes requests every 50 ms that take 10 ms: `.` is a good answer, `x` a bad one.
    fn requests(answers: &str) -> Vec<Request> {
        let version = |answer| (answer == '.').then_some(1);
        answers.chars().zip(0..).map(|(answer, number)| request(number * 50, 10, version(answer))).collect()
    }

    #[test]
    fn an_outage_lasts_until_good_answers_stay() {
        let longest_ms = |answers| Seen::of(&requests(answers)).longest_outage.as_millis();
        assert_eq!(longest_ms(""), 0);
        assert_eq!(longest_ms("........"), 0);
        assert_eq!(longest_ms("..x......"), 260);
        assert_eq!(longest_ms("..xxx......"), 360);
        assert_eq!(longest_ms("x.x.x......"), 460);
        assert_eq!(longest_ms("x........xx"), 260);
        assert_eq!(longest_ms("x........xxxxxxx"), 310);
    }

    #[test]
    fn what_all_requests_say_together() {
        let mut requests = requests("..x...");
        requests.push(request(450, 90, Some(2)));
        let seen = Seen::of(&requests);
        assert_eq!((seen.requests, seen.failed), (7, 1));
        assert_eq!((seen.slowest.as_millis(), seen.longest_gap.as_millis()), (90, 200));
        assert_eq!(seen.versions, BTreeSet::from([1, 2]));
    }
}
