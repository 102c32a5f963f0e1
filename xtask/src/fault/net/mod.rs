//! The container's link: cut, narrow, slow. Each is done at its port on the lab's bridge, and observed by those who send
//! to it: the bridge's own machine, and another container where there is one.

mod delay;
mod filter;
mod helper;
mod isolate;
mod peer;
mod rate;

pub use delay::Delay;
pub use isolate::Isolate;
pub use rate::Rate;
