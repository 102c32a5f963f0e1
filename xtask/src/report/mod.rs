//! Reports of a run: one file a format, each made from the record alone.

pub mod terminal;
