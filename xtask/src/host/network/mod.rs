//! The network: namespaces, nftables, ports, captured packets.

pub mod capture;
pub mod forward;
pub mod iptables;
pub mod netns;
pub mod nft;
pub mod port_lock;
pub mod receive_buffer;
pub mod tc;
