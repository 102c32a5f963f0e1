//! `docs/templates.md`, `docs/scenarios.md`, `docs/mutants.md` and `docs/project.md`: the manifests, described from their types'
//! own source, with examples that are read by the real parser. It is a test, so that no engine is built with it.

mod document;
mod mutants;
mod project;
mod scenarios;
#[expect(
    clippy::duplicate_mod,
    reason = "what reads the source of the record's types reads these too, and neither module may use the other"
)]
#[path = "../../record/reference/source.rs"]
mod source;
mod templates;
