//! Messages between the engine and a scenario.
//!
//! A scenario is a child process of the engine. It connects to the Unix socket named by [`SOCKET_VARIABLE`]
//! and speaks JSON-RPC 2.0, one message a line. Requests may overlap: answers are matched by `id`.
//! The first request is `hello`. This crate holds types only: it does no I/O.

mod fault;
mod method;
mod range;
#[cfg(test)]
mod reference;
mod rpc;
mod stream;
mod unique;

pub use fault::{Direction, Fault, Partition};
pub use method::*;
pub use range::{ParameterRange, check_name, is_absolute_path};
pub use rpc::*;
pub use stream::Stream;

/// Environment variable that names the engine's socket.
pub const SOCKET_VARIABLE: &str = "E2E_SOCKET";

/// Environment variable with the factor by which the engine multiplies the deadlines of requests.
pub const PATIENCE_VARIABLE: &str = "E2E_PATIENCE";

/// Version of the protocol: the scenario sends it with `hello`, the engine refuses another one.
pub const PROTOCOL_VERSION: u32 = 1;

/// Maximum length of a line, in bytes. A longer line ends the session with an error.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// Maximum size of a stream that a message holds, in bytes; a longer stream goes to a file, see [`Stream::File`].
pub const STREAM_BYTES_MAX: usize = 16 << 20;

/// Exit status of a Rust program that panicked.
pub const PANIC_EXIT_STATUS: i32 = 101;
