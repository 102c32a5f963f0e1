//! Tests that need the whole host: kills whose traces are looked for everywhere, builds of layers, and verdicts on times.
//! Nothing runs beside them.

mod comparisons;
mod crashes;
mod doctor;
mod image;
mod page;
mod settled;
