//! Masking of declared secrets in all files of a run: texts, streams, and values in events.

mod decoding;
mod file;
mod finder;
mod forms;
mod json;
mod stream;
mod values;
mod view;

pub use file::is_binary;
pub use stream::MaskedStream;
pub use values::{MARK, Masks};
