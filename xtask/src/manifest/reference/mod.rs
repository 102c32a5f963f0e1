//! Reference pages `docs/templates.md`, `docs/scenarios.md`, `docs/mutants.md` and `docs/project.md`, made from the source of the
//! manifests' types, with examples that the real parser reads. Compiled for tests only.

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
