//! Reference of the protocol for authors of clients in other languages: `reference.json`, every message as JSON Schema, and
//! `docs/protocol.md`, the same in words and with examples. Both are made from the types by tests, so no engine and no scenario is built
//! with the code that makes them.

mod document;
mod examples;
mod schema;
