//! The host's browser, driven over a pipe by Chrome's own protocol: no port, no driver beside it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command_fds::{CommandFdExt as _, FdMapping};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use xtask::host::tools::packages::Item;

/// Deadline for any answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Page of a browser that is there for it alone.
pub struct Page {
    browser: Child,
    to: File,
    from: File,
    buffer: Vec<u8>,
    session: Option<String>,
    number: u64,
    /// Events that nobody waited for.
    events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Starts a browser; fails, and does not pass, where there is none.
    #[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test talks with it")]
    pub fn start() -> Self {
        let program =
            Item::named("chromium").program().expect("no browser: `cargo xtask setup --optional` installs one");
        let profile = tempfile::tempdir().unwrap();
        let (its_input, to) = std::io::pipe().unwrap();
        let (from, its_output) = std::io::pipe().unwrap();
        let mut command = std::process::Command::new(program);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]);
        command.args(["--disable-dev-shm-usage", "--hide-scrollbars", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.env("HOME", profile.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mapping = |parent_fd: OwnedFd, child_fd| FdMapping { parent_fd, child_fd };
        command.fd_mappings(vec![mapping(its_input.into(), 3), mapping(its_output.into(), 4)]).unwrap();
        let browser = command.spawn().unwrap();
        let (to, from) = (File::from(OwnedFd::from(to)), File::from(OwnedFd::from(from)));
        let mut page = Self {
            browser,
            to,
            from,
            buffer: Vec::new(),
            session: None,
            number: 0,
            events: VecDeque::new(),
            _profile: profile,
        };
        let target = page.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = page.ask("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.ask(&format!("{domain}.enable"), &json!({}));
        }
        page.ask("Performance.enable", &json!({ "timeDomain": "threadTicks" }));
        page
    }

    /// Opens a file, and waits until it is loaded.
    pub fn open(&mut self, path: &Path) {
        self.ask("Page.navigate", &json!({ "url": format!("file://{}", path.display()) }));
        self.wait_for("Page.loadEventFired");
    }

    /// Returns the processor time of the page's own thread, in milliseconds: what else goes on here is not in it.
    pub fn busy_ms(&mut self) -> f64 {
        let metrics = self.ask("Performance.getMetrics", &json!({}));
        let busy =
            metrics["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == "TaskDuration").unwrap();
        busy["value"].as_f64().unwrap() * 1000.0
    }

    /// The value of an expression; a promise is waited for.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", &asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer:#}");
        answer["result"]["value"].clone()
    }

    /// The text of an element.
    pub fn text(&mut self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({selector:?})?.textContent ?? ''"));
        found.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait_until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != true {
            assert!(begun.elapsed() < DEADLINE, "it never came true: {expression}");
            std::thread::sleep(Duration::from_millis(10)); // the page has no sign of its own for this
        }
    }

    /// Makes the window so large and the colors `light` or `dark`, and takes a picture of what is in sight.
    pub fn picture(&mut self, (width, height): (u32, u32), colors: &str) -> Vec<u8> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": colors }] });
        self.ask("Emulation.setEmulatedMedia", &scheme);
        let picture = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// Returns the problems of the page so far: exceptions, what its policy has refused, requests to anywhere.
    pub fn complaints(&mut self) -> Vec<String> {
        self.value("1"); // what came before this answer has come
        let bad = |event: &Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Network.requestWillBeSent") => {
                let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
                !url.starts_with("file://") && !url.starts_with("data:")
            }
            _ => false,
        };
        self.events.iter().filter(|event| bad(event)).map(Value::to_string).collect()
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let number = self.number;
        let mut message = json!({ "id": number, "method": method });
        message["params"] = params.clone();
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let begun = Instant::now();
        loop {
            let message = self.next(begun, method);
            if message["id"] == number {
                assert!(message.get("error").is_none(), "{method}: {message:#}");
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    fn wait_for(&mut self, event: &str) {
        let begun = Instant::now();
        if let Some(place) = self.events.iter().position(|seen| seen["method"] == event) {
            self.events.remove(place);
            return;
        }
        loop {
            let message = self.next(begun, event);
            if message["method"] == event {
                return;
            }
            self.events.push_back(message);
        }
    }

    fn next(&mut self, begun: Instant, what: &str) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let ready = poll(&mut [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
            assert!(ready > 0, "the browser does not answer: {what}");
            let mut chunk = [0; 1 << 16];
            let count = self.from.read(&mut chunk).unwrap();
            assert!(count > 0, "the browser has ended: {what}");
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
