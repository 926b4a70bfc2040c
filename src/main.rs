//! The command `podrun`.
fn main() {}
