//! Connection to the engine: requests overlap, and a reader thread assigns the answers to requests by id.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use e2e_contract::{LINE_BYTES_MAX, Method, Request, Response, RpcError};
use serde_json::Value;

use crate::RequestError;

/// Connection of this process, for `check!` and the panic hook, which get no lab as an argument.
pub static OF_THIS_PROCESS: OnceLock<Arc<Connection>> = OnceLock::new();

/// Connection to the engine, which any number of threads may use.
#[derive(Debug)]
pub struct Connection {
    writer: Mutex<UnixStream>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: AtomicU64,
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, Sender<Result<Value, RpcError>>>,
    /// Reason why no more answers can come; `None` while the connection works.
    lost: Option<String>,
}

impl Connection {
    /// Starts the reader thread, which calls `on_lost` with the reason when the connection has failed.
    pub fn over(socket: UnixStream, on_lost: impl FnOnce(&str) + Send + 'static) -> std::io::Result<Self> {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let reader = BufReader::new(socket.try_clone()?);
        let shared = Arc::clone(&waiting);
        std::thread::Builder::new().name("e2e answers".into()).spawn(move || {
            let reason = deliver_answers(reader, &shared);
            let mut waiting = lock(&shared);
            waiting.lost = Some(reason.clone());
            waiting.answers.clear();
            drop(waiting);
            on_lost(&reason);
        })?;
        Ok(Self { writer: Mutex::new(socket), waiting, next_id: AtomicU64::new(1) })
    }

    /// Sends a request and waits for its answer. The wait ends when the connection fails; the engine limits it by the deadlines of the
    /// request and the case. The engine is told the place of the caller: all functions up to the scenario's are `#[track_caller]`.
    #[track_caller]
    pub fn call<M: Method>(&self, params: &M) -> Result<M::Answer, RequestError> {
        self.call_from(&shown(Location::caller()), params)
    }

    /// Sends a request and waits for its answer, as [`Self::call`] does, with a given place in the scenario instead of the
    /// caller's.
    pub fn call_from<M: Method>(&self, location: &str, params: &M) -> Result<M::Answer, RequestError> {
        let answered =
            self.send(params, Some(location)).and_then(|(_, answer)| self.understand::<M>(answer.recv().ok()));
        answered.map_err(|error| error.at(location))
    }

    /// Sends a request and waits for its answer, at most `patience`: for a dying process that must not wait for a slow engine.
    pub fn call_within<M: Method>(&self, params: &M, patience: Duration) -> Result<M::Answer, RequestError> {
        let (id, answer) = self.send(params, None)?;
        let received = answer.recv_timeout(patience);
        if lock(&self.waiting).answers.remove(&id).is_some() {
            return Err(RequestError::new(M::NAME, format!("no answer within {patience:?}")));
        }
        self.understand::<M>(received.ok())
    }

    fn send<M: Method>(
        &self,
        params: &M,
        location: Option<&str>,
    ) -> Result<(u64, Receiver<Result<Value, RpcError>>), RequestError> {
        let fail = |message: String| RequestError::new(M::NAME, message);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let params = serde_json::to_value(params).map_err(|error| fail(error.to_string()))?;
        let request = Request { location: location.map(str::to_owned), ..Request::new(id, M::NAME, params) };
        let mut line = serde_json::to_vec(&request).map_err(|error| fail(error.to_string()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            let length = line.len();
            return Err(fail(format!("the request has {length} bytes, a line has at most {LINE_BYTES_MAX}")));
        }
        let (sender, receiver) = channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(reason) = &waiting.lost {
                return Err(fail(reason.clone()));
            }
            waiting.answers.insert(id, sender);
        }
        let writer = lock(&self.writer);
        if (&*writer).write_all(&line).is_err() {
            // The engine often said why before it closed: the reader still gets that, then the end.
            let _ = writer.shutdown(Shutdown::Both);
        }
        Ok((id, receiver))
    }

    fn understand<M: Method>(&self, received: Option<Result<Value, RpcError>>) -> Result<M::Answer, RequestError> {
        match received {
            Some(Ok(result)) => serde_json::from_value(result).map_err(|error| {
                RequestError::new(M::NAME, format!("the engine's answer does not fit the method: {error}"))
            }),
            Some(Err(error)) => Err(RequestError::answered(M::NAME, error)),
            None => {
                let reason = lock(&self.waiting).lost.clone();
                Err(RequestError::new(M::NAME, reason.unwrap_or_else(|| "the engine gave no answer".into())))
            }
        }
    }
}

/// Formats a place in the scenario for a request: `file:line`.
pub fn shown(place: &Location<'_>) -> String {
    format!("{}:{}", place.file(), place.line())
}

/// Hands each answer to the request that waits for it, until the connection fails; returns the reason.
fn deliver_answers(mut reader: BufReader<UnixStream>, waiting: &Mutex<Waiting>) -> String {
    loop {
        let line = match read_line(&mut reader) {
            Ok(line) => line,
            Err(reason) => return reason,
        };
        let response: Response = match serde_json::from_slice(&line) {
            Ok(response) => response,
            Err(error) => return format!("the engine sent a line that is no answer: {error}"),
        };
        let result = match (response.result, response.error) {
            (_, Some(error)) => Err(error),
            (result, None) => Ok(result.unwrap_or(Value::Null)),
        };
        match (response.id, result) {
            // Nobody waits for it when `call_within` gave up.
            (Some(id), result) => {
                if let Some(sender) = lock(waiting).answers.remove(&id) {
                    let _ = sender.send(result);
                }
            }
            (None, Err(error)) => return format!("the engine could not read a request: {error}"),
            (None, Ok(_)) => return "the engine sent an answer without an id".into(),
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    match reader.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line) {
        Ok(0) => Err("the engine closed the connection".into()),
        Ok(_) if line.ends_with(b"\n") => Ok(line),
        Ok(LINE_BYTES_MAX) => Err(format!("the engine sent a line of more than {LINE_BYTES_MAX} bytes")),
        Ok(_) => Err("the engine closed the connection in the middle of a line".into()),
        Err(error) => Err(format!("reading from the engine: {error}")),
    }
}

/// Locks a mutex, even if a thread panicked while it held the lock: each locked section is one insertion or removal, so nothing is half
/// done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use e2e_contract::{ErrorCode, Log};

    use super::*;

    fn log(message: impl Into<String>) -> Log {
        Log { level: e2e_contract::Level::Info, message: message.into() }
    }

    fn pair() -> (Arc<Connection>, BufReader<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Arc::new(Connection::over(ours, |_| {}).unwrap()), BufReader::new(theirs))
    }

    fn next_request(peer: &mut BufReader<UnixStream>) -> Request {
        serde_json::from_slice(&read_line(peer).unwrap()).unwrap()
    }

    fn answer(peer: &mut BufReader<UnixStream>, response: &Response) {
        let line = serde_json::to_string(response).unwrap() + "\n";
        peer.get_mut().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn answers_in_any_order_reach_who_asked() {
        let (connection, mut peer) = pair();
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|number: u64| {
                    let connection = &connection;
                    scope.spawn(move || (number, connection.call(&log(number.to_string()))))
                })
                .collect();
            let mut requests: Vec<Request> = (0..8).map(|_| next_request(&mut peer)).collect();
            requests.sort_by_key(|request| std::cmp::Reverse(request.id));
            for request in requests {
                let message = request.params["message"].as_str().unwrap();
                let response = if message == "5" {
                    Response::failure(Some(request.id), RpcError::new(ErrorCode::Deadline, "five"))
                } else {
                    Response::success(request.id, serde_json::json!({}))
                };
                answer(&mut peer, &response);
            }
            for thread in asking {
                let (number, result) = thread.join().unwrap();
                assert_eq!(result.is_err(), number == 5, "{number}: {result:?}");
                if let Err(error) = result {
                    assert_eq!(error.to_string(), "log: five");
                    assert!(error.is_deadline());
                }
            }
        });
    }

    #[test]
    fn a_server_that_closes_fails_every_open_request_and_every_later_one() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (lost, was_lost) = mpsc::channel();
        let connection = Connection::over(ours, move |reason| lost.send(reason.to_owned()).unwrap()).unwrap();
        let mut peer = BufReader::new(theirs);
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| connection.call(&log("x")))).collect();
            for _ in 0..3 {
                next_request(&mut peer);
            }
            peer.get_mut().write_all(br#"{"jsonrpc":"2.0","#).unwrap();
            drop(peer);
            for thread in asking {
                let error = thread.join().unwrap().unwrap_err();
                assert!(error.to_string().contains("in the middle of a line"), "{error}");
            }
        });
        assert!(was_lost.recv().unwrap().contains("in the middle of a line"));
        assert!(connection.call(&log("x")).unwrap_err().to_string().contains("in the middle of a line"));
    }

    #[test]
    fn the_reason_the_engine_gave_before_it_closed_is_the_error() {
        let (connection, mut peer) = pair();
        answer(&mut peer, &Response::failure(None, RpcError::new(ErrorCode::Parse, "no JSON")));
        drop(peer);
        let error = connection.call(&log("x".repeat(1 << 20))).unwrap_err();
        assert_eq!(error.to_string(), "log: the engine could not read a request: no JSON");
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        for (line, expected) in
            [("garbage\n", "no answer"), ("{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}\n", "without an id")]
        {
            let (connection, mut peer) = pair();
            peer.get_mut().write_all(line.as_bytes()).unwrap();
            let error = connection.call(&log("x")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_the_error_of_one_request() {
        let (connection, mut peer) = pair();
        let serving = std::thread::spawn(move || {
            for result in [serde_json::json!("no object"), serde_json::json!({})] {
                let request = next_request(&mut peer);
                answer(&mut peer, &Response::success(request.id, result));
            }
        });
        assert!(connection.call(&log("x")).unwrap_err().to_string().contains("does not fit the method"));
        connection.call(&log("x")).unwrap();
        serving.join().unwrap();
    }

    #[test]
    fn a_line_over_the_limit_is_refused_in_both_directions() {
        let (connection, mut peer) = pair();
        let error = connection.call(&log("x".repeat(LINE_BYTES_MAX))).unwrap_err();
        assert!(error.to_string().contains("a line has at most"), "{error}");

        let flooding = std::thread::spawn(move || {
            next_request(&mut peer);
            let block = vec![b'x'; 1 << 20];
            while peer.get_mut().write_all(&block).is_ok() {}
        });
        let error = connection.call(&log("x")).unwrap_err();
        assert!(error.to_string().contains("sent a line of more than"), "{error}");
        drop(connection);
        flooding.join().unwrap();
    }

    #[test]
    fn patience_ends() {
        let (connection, mut peer) = pair();
        let error = connection.call_within(&log("x"), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
        let late = next_request(&mut peer);
        answer(&mut peer, &Response::success(late.id, serde_json::json!({})));
        let serving = std::thread::spawn(move || {
            let request = next_request(&mut peer);
            answer(&mut peer, &Response::success(request.id, serde_json::json!({})));
        });
        connection.call(&log("y")).unwrap();
        serving.join().unwrap();
    }
}
