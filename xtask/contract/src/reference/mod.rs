//! The contract for authors of clients in other languages: `reference.json`, every message as JSON Schema, and
//! `docs/protocol.md`, the same in words and with examples. Both are made from the types, and are tests, so that neither engine
//! nor scenarios are ever built with what makes them.

mod document;
mod examples;
mod schema;
