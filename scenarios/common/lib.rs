//! What Mancer's scenarios have in common.

pub mod calendar;
pub mod mancer;
pub mod postgres;
