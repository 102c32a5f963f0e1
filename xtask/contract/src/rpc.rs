//! The JSON-RPC 2.0 envelope.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request from a scenario; `method` and `params` are those of [`crate::Method`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Request {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Chosen by the scenario, unique among its open requests.
    pub id: u64,
    /// Name of the method, such as `exec`.
    pub method: String,
    /// The method's parameters, an object.
    #[serde(default, deserialize_with = "crate::unique::value")]
    pub params: Value,
    /// Place in the scenario's code that asks, `file:line`: its author's own line, not one of the client. The engine shows it where
    /// it tells of the request: at a deadline, and beside its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Request {
    /// Returns a request with the envelope filled in.
    #[must_use]
    pub fn new(id: u64, method: &str, params: Value) -> Self {
        Self { jsonrpc: "2.0".into(), id, method: method.into(), params, location: None }
    }

    /// Returns the same request, made at this `file:line` of the scenario.
    #[must_use]
    pub fn at(self, location: impl Into<String>) -> Self {
        Self { location: Some(location.into()), ..self }
    }
}

/// The engine's answer: `result` or `error`, never both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Response {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// The request's id; none if the request's line could not be read.
    pub id: Option<u64>,
    /// Result of the method, see [`crate::Method::Answer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Reason why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

impl Response {
    /// Returns a successful answer.
    #[must_use]
    pub fn success(id: u64, result: Value) -> Self {
        Self { jsonrpc: "2.0".into(), id: Some(id), result: Some(result), error: None }
    }

    /// Returns an answer that says why there is no result.
    #[must_use]
    pub fn failure(id: Option<u64>, error: RpcError) -> Self {
        Self { jsonrpc: "2.0".into(), id, result: None, error: Some(error) }
    }
}

/// An error as JSON-RPC 2.0 carries it. Codes: see [`ErrorCode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RpcError {
    /// Number of an [`ErrorCode`].
    pub code: i64,
    /// Message for people: what was tried, on what, what happened.
    pub message: String,
}

impl RpcError {
    /// Returns an error with one of the contract's codes.
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

/// The codes of the contract: JSON-RPC's own and ours from -32000 down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i64)]
pub enum ErrorCode {
    /// The line is no JSON.
    Parse = -32700,
    /// The JSON is no request.
    InvalidRequest = -32600,
    /// No such method.
    MethodNotFound = -32601,
    /// The parameters do not fit the method, or name something that does not exist.
    InvalidParams = -32602,
    /// The engine or the machine failed: never the product's fault.
    Infrastructure = -32000,
    /// A deadline passed, or what was waited for cannot come true any more.
    Deadline = -32001,
    /// The run was interrupted.
    Interrupted = -32002,
    /// A fault has taken the container down or frozen it: expected, and over when the fault is healed.
    Unavailable = -32003,
    /// A container has ended by itself, and no fault has done that: the case has failed, or the scenario expects it.
    MachineEnded = -32004,
}
