//! Reports of a run: one file or folder a format, each made from the record alone.

pub mod html;
pub mod terminal;
