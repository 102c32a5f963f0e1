//! The JSON-RPC 2.0 envelope.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request from a scenario; `method` and `params` are those of [`crate::Method`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Request {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Number of the request, chosen by the scenario and unique among its open requests.
    pub id: u64,
    /// Name of the method, such as `exec`.
    pub method: String,
    /// Parameters of the method, an object.
    #[serde(default, deserialize_with = "crate::unique::value")]
    pub params: Value,
    /// Place in the scenario's code that makes the request, `file:line`: the author's own line, not one of the client. The engine shows
    /// it where it describes the request: at a deadline, and beside its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Request {
    #[must_use]
    pub fn new(id: u64, method: &str, params: Value) -> Self {
        Self { jsonrpc: "2.0".into(), id, method: method.into(), params, location: None }
    }
}

/// Answer of the engine: `result` or `error`, never both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Response {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Number of the request; null if the request's line could not be read.
    pub id: Option<u64>,
    /// Result of the method, see [`crate::Method::Answer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Error, where there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

impl Response {
    #[must_use]
    pub fn success(id: u64, result: Value) -> Self {
        Self { jsonrpc: "2.0".into(), id: Some(id), result: Some(result), error: None }
    }

    /// Makes an answer with an error; `id` is `None` if the request's line could not be read.
    #[must_use]
    pub fn failure(id: Option<u64>, error: RpcError) -> Self {
        Self { jsonrpc: "2.0".into(), id, result: None, error: Some(error) }
    }
}

/// Error in the form of JSON-RPC 2.0, with a code of [`ErrorCode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RpcError {
    /// Number of an [`ErrorCode`].
    pub code: i64,
    /// Message for people: what was tried, on what, and what happened.
    pub message: String,
}

impl RpcError {
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code as i64, message: message.into() }
    }
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RpcError {}

/// Error codes of the contract: those of JSON-RPC, and further ones from -32000 down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i64)]
pub enum ErrorCode {
    /// The line is not JSON.
    Parse = -32700,
    /// The JSON is not a request.
    InvalidRequest = -32600,
    /// The method does not exist.
    MethodNotFound = -32601,
    /// The parameters do not fit the method, or name something that does not exist.
    InvalidParams = -32602,
    /// The engine or the machine failed: never the product's fault.
    Infrastructure = -32000,
    /// A deadline passed, or the awaited condition cannot come true any more.
    Deadline = -32001,
    /// The run was interrupted.
    Interrupted = -32002,
    /// A fault has taken the container down or frozen it: expected, and over when the fault is healed.
    Unavailable = -32003,
    /// A container has ended by itself, and not because of a fault: the case has failed, unless the scenario expects this end.
    MachineEnded = -32004,
}
