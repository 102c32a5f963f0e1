//! Connection of a guard to one engine.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::protocol::{Message, Request};

/// Role of the engine that a guard is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Engine that started the guard: if it disconnects without keeping the lab, the guard takes the lab down.
    Engine,
    /// Engine that attached to a kept lab later and may disconnect at any time.
    Visitor,
}

/// Connection to an engine, with the received part of an unfinished message.
pub(super) struct Link {
    socket: UnixStream,
    side: Side,
    input: Vec<u8>,
    alive: bool,
}

impl Link {
    pub fn new(socket: UnixStream, side: Side) -> Self {
        Self { socket, side, input: Vec::new(), alive: true }
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// Tells whether the engine is still connected.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    pub fn send(&mut self, message: &Message) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        if self.alive && self.socket.write_all(&line).is_err() {
            self.alive = false;
        }
    }

    /// Reads the available bytes, and returns the requests that are complete.
    pub fn receive(&mut self) -> Vec<Request> {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.alive = false,
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.alive = false,
        }
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => self.alive = false, // the engine never writes such a line: treat it as gone
            }
        }
        requests
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
