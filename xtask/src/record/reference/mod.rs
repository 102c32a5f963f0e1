//! Reference pages `docs/events.md`, `docs/performance.md`, `docs/mutants-json.md`, `docs/defects-json.md` and `docs/coverage-json.md`, made
//! from the source of the types and from an example of each event. Compiled for tests only.

mod coverage;
mod defects;
mod document;
mod examples;
mod mutants;
mod performance;
mod source;
