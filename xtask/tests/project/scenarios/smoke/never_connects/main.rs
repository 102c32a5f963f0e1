//! Program that ends without connecting to the engine.

fn main() {}
