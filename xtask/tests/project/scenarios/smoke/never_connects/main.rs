//! No scenario at all.

fn main() {}
