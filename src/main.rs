//! The worker, step by step.

fn main() {}
