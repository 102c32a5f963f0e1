//! Masking of declared secrets in all that is written of a run: texts, streams, values in events, files.

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
