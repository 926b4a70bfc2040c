//! A program that runs inside pods and prints or does what it is told.
fn main() {}
