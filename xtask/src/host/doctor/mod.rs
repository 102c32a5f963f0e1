//! Doctor: what this machine has and lacks for the engine, and the command that fixes each lack. `facts` gathers, `kernel_trial` tries
//! kernel parts in throw-away namespaces, `diagnosis` decides and is pure. Changes nothing on the host; knows nothing of the project but
//! where it lies and which ids its containers take.

mod accounts;
mod containers;
mod diagnosis;
mod facts;
mod finding;
mod kernel;
mod kernel_trial;
mod machine;
mod network;
mod optional;
mod permission;
mod resources;
mod surroundings;
mod tools;

pub use diagnosis::examine;
pub use facts::Subject;
pub use finding::{Finding, Group, Status};
pub use permission::registration;
pub use tools::is_static;
pub use tools::{MissingTool, require_tools, required_tools_missing, static_busybox};
