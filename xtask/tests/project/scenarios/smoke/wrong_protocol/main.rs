//! Scenario that says hello in a version of the protocol that does not exist, prints the refusal, and exits with 0 all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use e2e_contract::{Hello, Method as _, Request, Response, SOCKET_VARIABLE};

fn main() -> Result<()> {
    let socket = std::env::var_os(SOCKET_VARIABLE)
        .context("the variable of the engine's socket is not set: the engine has to start this program")?;
    let mut engine = BufReader::new(UnixStream::connect(socket)?);
    let hello = Request::new(1, Hello::NAME, serde_json::to_value(Hello { protocol: 999 })?);
    let line = serde_json::to_string(&hello)? + "\n";
    engine.get_mut().write_all(line.as_bytes())?;
    let mut answer = String::new();
    engine.read_line(&mut answer)?;
    let refusal = serde_json::from_str::<Response>(&answer)?.error;
    ensure!(refusal.is_some(), "protocol 999 was accepted: {answer}");
    #[expect(clippy::print_stdout, reason = "stdout is the scenario's log")]
    {
        println!("refused: {answer}");
    }
    Ok(())
}
