//! Connection of a scenario: reads requests as lines, executes them in parallel, and writes the answers as lines.

use std::any::Any;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use e2e_contract::{ErrorCode, LINE_BYTES_MAX, Request, Response, RpcError};

use super::state::Session;

/// Maximum requests that are executed at once; the next line is read when one has ended.
const REQUESTS_MAX: usize = 64;

/// Interval at which a wait checks whether the session is over.
const CLOSED_POLL: Duration = Duration::from_millis(20);

/// Serves the scenario's only connection until it closes; returns when the last request has ended.
pub fn serve(listener: &UnixListener, session: &Arc<Session>) {
    let Ok((stream, _)) = listener.accept() else { return };
    if session.is_closed() {
        return;
    }
    let Ok(output) = stream.try_clone() else { return };
    session.keep_connection(stream.try_clone().ok());
    session.note_driver(&stream);
    if session.is_closed() {
        return; // closed in between: nobody would shut this connection any more
    }
    let output = Arc::new(Mutex::new(output));
    let places = Arc::new((Mutex::new(0_usize), Condvar::new()));
    serve_lines(BufReader::new(stream), &output, session, &places);
    drain(&places);
}

fn serve_lines(
    mut input: BufReader<UnixStream>,
    output: &Arc<Mutex<UnixStream>>,
    session: &Arc<Session>,
    places: &Arc<(Mutex<usize>, Condvar)>,
) {
    loop {
        let mut line = Vec::new();
        match input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.len() > LINE_BYTES_MAX {
            return break_off(session, output, &format!("a line of more than {LINE_BYTES_MAX} bytes"));
        }
        let request: Request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let shown: String = String::from_utf8_lossy(&line).chars().take(80).collect();
                return break_off(session, output, &format!("{shown:?} is no request: {error}"));
            }
        };
        if !take_place(session, places) {
            // Behind others that were under way until the session's end there may still be what the scenario has stated.
            send(output, &answer(session, request));
            continue;
        }
        let (session, output, places) = (Arc::clone(session), Arc::clone(output), Arc::clone(places));
        let id = request.id;
        let (ended, answers, freed) = (Arc::clone(&session), Arc::clone(&output), Arc::clone(&places));
        let served = std::thread::Builder::new().name(format!("request {id}")).spawn(move || {
            send(&output, &answer(&session, request));
            free_place(&places);
        });
        if let Err(error) = served {
            let error = anyhow::Error::new(error).context("starting a thread of the engine for a request");
            send(&answers, &Response::failure(Some(id), ended.answer_to(error)));
            free_place(&freed);
        }
    }
}

fn answer(session: &Session, request: Request) -> Response {
    let (id, method) = (request.id, request.method.clone());
    let carry_out = AssertUnwindSafe(|| session.answer(&request.method, request.params, request.location.as_deref()));
    // A thread that panics would leave its request without an answer, and the scenario waiting for its deadline.
    let answer = std::panic::catch_unwind(carry_out)
        .unwrap_or_else(|panic| Err(session.answer_to(panicked(&method, panic.as_ref()))));
    match answer {
        Ok(result) => Response::success(id, result),
        Err(error) => Response::failure(Some(id), error),
    }
}

fn panicked(method: &str, panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow::anyhow!("the engine panicked in a request `{method}`: {}", text.unwrap_or("no message"))
}

/// Ends a [`serve`] that still waits for a connection.
pub fn release(socket: &Path) {
    let _ = UnixStream::connect(socket);
}

fn break_off(session: &Session, output: &Mutex<UnixStream>, violation: &str) {
    session.break_off(violation);
    send(output, &Response::failure(None, RpcError::new(ErrorCode::Parse, violation)));
}

fn send(output: &Mutex<UnixStream>, response: &Response) {
    let Ok(mut line) = serde_json::to_vec(response) else { return };
    line.push(b'\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = output.write_all(&line); // the scenario may have ended in between
}

/// Waits until fewer than the maximum requests are executed, and takes a place among them; returns false if the session ends first.
fn take_place(session: &Session, places: &(Mutex<usize>, Condvar)) -> bool {
    let mut taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken >= REQUESTS_MAX {
        if session.is_closed() {
            return false;
        }
        taken = places.1.wait_timeout(taken, CLOSED_POLL).unwrap_or_else(PoisonError::into_inner).0;
    }
    *taken += 1;
    true
}

/// Waits until all running requests have ended: each has a deadline, and those of a closed session end at once.
fn drain(places: &(Mutex<usize>, Condvar)) {
    let taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(places.1.wait_while(taken, |taken| *taken > 0));
}

fn free_place(places: &(Mutex<usize>, Condvar)) {
    *places.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    places.1.notify_all();
}

#[test]
fn the_protocols_page_says_how_many_requests_overlap() {
    let page = include_str!("../../../docs/protocol.md").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&format!("Up to {REQUESTS_MAX} requests may be under way at once")), "docs/protocol.md");
}
