//! What Mancer's scenarios have in common.

pub mod calendar;
pub mod http;
pub mod mancer;
pub mod postgres;
pub mod threads;
