//! `docs/events.md`: the lines of `events.jsonl` and of `--format json`, described from the types' own source and from an example
//! of each event; and `docs/performance.md` and `docs/mutants-json.md`, in the same way. It is a test, so that no engine is built with
//! it.

mod document;
mod examples;
mod mutants;
mod performance;
mod source;
