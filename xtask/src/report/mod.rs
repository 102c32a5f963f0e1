//! Reports of a run: one file a format, each made from the record alone.

pub mod log_text;
pub mod terminal;
