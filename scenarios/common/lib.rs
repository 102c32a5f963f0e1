//! What Mancer's scenarios have in common.

pub mod mancer;
