//! Process that builds one layer: it runs as root in a mount namespace of its own and may be killed at any time. All programs of a template
//! run inside the containers' user namespace, in a network of the build's own. Knows a recipe and a staging folder; nothing of the store,
//! of other builds or of the project.

mod accounts;
mod clean;
mod debian;
mod files;
mod installed;
mod layer;
mod network;
mod python;
mod sandbox;
mod spec;
mod users;

pub use layer::{REFUSED, STEP_MARK, build_layer};
pub use network::TUN;
pub use spec::BuildSpec;
