//! Bundle: a run in one file, to be repeated elsewhere. It has the project as it is, the record without secrets, and hashes of all files.
//! Does not know how a run is repeated.

mod archive;
mod contents;
mod links;
mod manifest;
mod redaction;
mod shapes;
mod stage;
mod unpack;

pub use archive::{Packed, pack};
pub use manifest::{BUNDLE_VERSION, Bundle, BundledFile, Redaction};
pub use stage::Reports;
pub use unpack::{Unpacked, unpack};
