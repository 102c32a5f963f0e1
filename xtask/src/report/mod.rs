//! Reports of a run: one file a format, each made from the record alone.

pub mod annotations;
mod attempt;
pub mod files;
mod junit;
mod lanes;
mod problem;
mod process;
mod summary;
pub mod terminal;
mod trace;
