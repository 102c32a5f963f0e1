//! A release of the engine: its program, manual and completions, packed as an archive and as a Debian package.
//! Is given the command line that it describes; knows no verb, project or lab.

mod debian;
mod program;
mod release;
mod tree;

pub use program::{Linkage, Profile};
pub use release::{Release, ReleaseFile, release};

/// The installed program's name.
pub const NAME: &str = "mancer-e2e";

/// Description of the program, in a line.
const DESCRIPTION: &str = "Multi-machine end-to-end tests on LXC containers";
