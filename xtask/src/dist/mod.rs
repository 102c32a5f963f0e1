//! Release of the engine: its program, manual and completions, packed as an archive and as a Debian package. The command line that the
//! manual describes is an argument; this module knows no verb, project or lab.

mod debian;
mod program;
mod release;
mod tree;

pub use program::{Linkage, Profile};
pub use release::{Release, ReleaseFile, release};

/// File name of the program where it is installed.
pub const NAME: &str = "mancer-e2e";

/// Description of the program in one line.
const DESCRIPTION: &str = "Multi-machine end-to-end tests on LXC containers";
