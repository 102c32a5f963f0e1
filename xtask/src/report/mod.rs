//! Reports of a run: one file or folder a format, each made from the record alone.

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
