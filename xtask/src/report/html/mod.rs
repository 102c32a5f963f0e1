//! `report.html`: one page that explains a run, and one that shows two runs side by side. Each is one file that asks no
//! network for anything, and all there is to read is there without its script. Knows the record; nothing of how it came.

mod attempt;
mod chaos;
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
