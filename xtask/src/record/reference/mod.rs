//! Reference pages `docs/events.md`, `docs/performance.md`, `docs/mutants-json.md` and `docs/defects-json.md`, made from the source of the
//! types and from an example of each event. Compiled for tests only.

mod defects;
mod document;
mod examples;
mod mutants;
mod performance;
mod source;
