//! Reference pages `docs/events.md`, `docs/performance.md`, `docs/coverage-json.md` and `docs/mutants-json.md`, made from the source
//! of the types and from an example of each event. Compiled for tests only.

mod coverage;
mod document;
mod examples;
mod mutants;
mod performance;
mod source;
