//! Operations of Mancer on app whose time is measured, in a program that has started before: `operations.py` says how.

use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{Container, Lab, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mancer;

/// Script for bash, which starts sooner than Python, that sends `$1` to the port of `operations.py` and prints the answer.
const REQUEST: &str = r#"exec 3<> /dev/tcp/127.0.0.1/7070 && printf '%s\n' "$1" >&3 && exec cat <&3"#;

/// Deadline of an operation, which takes less than a second on an idle machine; the rest is headroom for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Program with the scenario's operations, waiting for requests.
#[derive(Debug)]
pub struct Operations<'a> {
    app: &'a Container,
}

impl<'a> Operations<'a> {
    /// Copies the scenario's `measured.py`, and what it needs, into this folder of app; starts it, and waits until it is ready.
    ///
    /// # Errors
    /// When the program ends before it is ready: its own words are in the journal of app.
    pub fn start(lab: &Lab, app: &'a Container, folder: &str, arguments: &[&str]) -> Result<Self> {
        let program = Self::install(lab, app, folder)?;
        mancer::start_ready(app, "measured", &[&[program.as_str()], arguments].concat())?;
        Ok(Self { app })
    }

    /// Returns the program as the scenario has started it itself, from a folder with what [`Self::start`] copies.
    #[must_use]
    pub fn of(app: &'a Container) -> Self {
        Self { app }
    }

    /// Copies the scenario's `measured.py`, and what it needs, into this folder of app; returns its path.
    pub fn install(lab: &Lab, app: &Container, folder: &str) -> Result<String> {
        app.write(format!("{folder}/operations.py"), include_str!("operations.py"))?;
        let program = format!("{folder}/measured.py");
        app.put(lab.fixture("measured.py"), &program)?;
        Ok(program)
    }

    /// Ends the program, with all its connections.
    pub fn stop(self) -> Result {
        self.app.exec(["systemctl", "stop", "measured.service"])?.success()?;
        Ok(())
    }

    /// Performs an operation, and returns what it returned.
    ///
    /// # Errors
    /// When the operation fails, or returns something else.
    pub fn perform<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.perform_with(name, &[] as &[&str])
    }

    /// Performs an operation with arguments, as [`Self::perform`] does without any.
    pub fn perform_with<T: DeserializeOwned>(&self, name: &str, arguments: &[impl Serialize]) -> Result<T> {
        self.perform_within(DEADLINE, name, arguments)
    }

    /// Performs an operation with arguments as [`Self::perform_with`] does, within another deadline.
    pub fn perform_within<T: DeserializeOwned>(
        &self,
        deadline: Duration,
        name: &str,
        arguments: &[impl Serialize],
    ) -> Result<T> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Answer<T> {
            Returned(T),
            Failed(String),
        }
        let mut request = vec![serde_json::Value::from(name)];
        for argument in arguments {
            request.push(serde_json::to_value(argument)?);
        }
        let request = serde_json::to_string(&request)?;
        let ask = self.app.command(["bash", "-c", REQUEST, "bash", &request]).deadline(deadline);
        let answer = ask.run()?.success()?;
        match serde_json::from_slice(answer.stdout()) {
            Ok(Answer::Returned(returned)) => Ok(returned),
            Ok(Answer::Failed(failure)) => bail!("the operation {name} failed on app: {failure}"),
            Err(error) => Err(error).with_context(|| {
                let text = String::from_utf8_lossy(answer.stdout()).chars().take(300).collect::<String>();
                format!("reading what the operation {name} returned on app: {text:?}")
            }),
        }
    }
}
