//! Reports of a run. Each format has a file or folder here; all are made from the record alone.

pub mod annotations;
mod before;
pub mod files;
pub mod html;
mod junit;
#[cfg(test)]
mod moments;
mod next;
mod problem;
mod process;
mod summary;
pub mod terminal;
mod trace;
