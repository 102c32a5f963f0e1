//! Scenario without the SDK that breaks the protocol in the way that its case names, and exits with 0 all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};
use e2e_contract::{
    Check, Edge, Hello, LINE_BYTES_MAX, MeasureBegin, Method, PROTOCOL_VERSION, Request, Response, SOCKET_VARIABLE,
    Step, Welcome,
};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let socket = std::env::var_os(SOCKET_VARIABLE)
        .context("the variable of the engine's socket is not set: the engine has to start this program")?;
    let mut engine = BufReader::new(UnixStream::connect(socket)?);
    let welcome: Welcome = serde_json::from_value(ask(&mut engine, 1, &Hello { protocol: PROTOCOL_VERSION })?)?;
    match welcome.case.as_str() {
        "garbage" => engine.get_mut().write_all(b"this is no JSON\n")?,
        "closes" => {
            // Two ends are missing when the socket closes.
            ask(&mut engine, 2, &Step { name: "never ends".into(), edge: Edge::Begin })?;
            ask(&mut engine, 3, &MeasureBegin { operation: "never_ends".into(), repetitions: 1 })?;
        }
        // A failed check counts although nobody waits for its answer.
        "does_not_wait" => return tell(&mut engine, 2, Check::NAME, failed_check()?),
        "waits_for_nothing" => {
            // The engine reads no more while so many requests are under way.
            for id in 2..2 + 64 {
                let sleeps = json!({"container": "a", "argv": ["sleep", "30"], "deadline_ms": 60_000});
                tell(&mut engine, id, "exec", sleeps)?;
            }
            tell(&mut engine, 1000, "exec", json!({"container": "a", "argv": ["true"], "deadline_ms": 60_000}))?;
            return tell(&mut engine, 1001, Check::NAME, failed_check()?);
        }
        "misspells" => return tell(&mut engine, 2, "chekc", failed_check()?),
        "adds_a_parameter" => {
            let mut check = failed_check()?;
            check["extra"] = json!(1);
            return tell(&mut engine, 2, Check::NAME, check);
        }
        "says_it_twice" => {
            let check = failed_check()?.to_string().replace("\"passed\":false", "\"passed\":false,\"passed\":true");
            let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"check\",\"params\":{check}}}\n");
            engine.get_mut().write_all(line.as_bytes())?;
            return Ok(());
        }
        "floods" => {
            let block = vec![b'x'; 1 << 20];
            let mut sent = 0;
            while sent <= LINE_BYTES_MAX && engine.get_mut().write_all(&block).is_ok() {
                sent += block.len();
            }
        }
        other => bail!("there is no case {other}"),
    }
    if welcome.case != "closes" {
        print_last_words(&mut engine);
    }
    Ok(())
}

/// Prints what the engine sends before it closes the socket: a line, or nothing.
fn print_last_words(engine: &mut BufReader<UnixStream>) {
    let mut line = String::new();
    let read = engine.read_line(&mut line);
    #[expect(clippy::print_stdout, reason = "stdout is the scenario's log")]
    {
        println!("the engine's last words ({read:?}): {line}");
    }
}

fn failed_check() -> Result<Value> {
    let check = Check {
        passed: false,
        condition: "rows == 1".into(),
        values: "rows = 0".into(),
        message: None,
        file: file!().into(),
        line: line!(),
    };
    Ok(serde_json::to_value(check)?)
}

/// Sends a request without waiting for the answer.
fn tell(engine: &mut BufReader<UnixStream>, id: u64, method: &str, params: Value) -> Result<()> {
    let mut line = serde_json::to_vec(&Request::new(id, method, params))?;
    line.push(b'\n');
    Ok(engine.get_mut().write_all(&line)?)
}

fn ask<M: Method>(engine: &mut BufReader<UnixStream>, id: u64, params: &M) -> Result<Value> {
    let mut line = serde_json::to_vec(&Request::new(id, M::NAME, serde_json::to_value(params)?))?;
    line.push(b'\n');
    engine.get_mut().write_all(&line)?;
    let mut answer = String::new();
    engine.read_line(&mut answer)?;
    let response: Response = serde_json::from_str(&answer)?;
    response.result.with_context(|| format!("the request {} was refused: {answer}", M::NAME))
}
