//! `report.html`: a page that explains a run, and a page that compares two runs. Each is one file that loads nothing from a network, and is
//! readable without its script. Both are made from the record alone.

mod attempt;
mod chaos;
mod coverage;
mod curves;
mod densities;
mod environment;
mod failure;
mod history;
mod log;
mod page;
mod performance;
mod pictures;
mod plot;
mod side_by_side;
mod story;
mod timeline;
mod words;

pub use page::{FILE, page};
pub use side_by_side::side_by_side;
