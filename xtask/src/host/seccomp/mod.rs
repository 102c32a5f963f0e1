//! Seccomp: the system calls that programs of a machine may make.
//!
//! Each of these programs has two filters. The engine installs its own on everything that it starts for a machine (`filter`): a list of
//! allowed calls, so that a call of a newer kernel is refused until somebody has reviewed it. LXC installs the other one (`policy`): it
//! refuses the calls that LXC itself needs to start a machine, and those that a person's own `lxc-attach` must not allow. LXC's policy
//! alone would do, but libseccomp compiles it anew at each start of a program: 300 allowed calls took 12 ms of a processor there, and this
//! engine's filter takes less than 0.5 ms.

mod calls;
mod filter;

pub use calls::Part;
pub use calls::policy;
pub use filter::{Filter, Occasion, is_supported};
