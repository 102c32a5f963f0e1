//! Code that several of Mancer's scenarios share.

pub mod calendar;
pub mod differences;
pub mod files;
pub mod http;
pub mod jobs;
pub mod load;
pub mod mancer;
pub mod measured;
pub mod postgres;
pub mod round;
pub mod threads;
