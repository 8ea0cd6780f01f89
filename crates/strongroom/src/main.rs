//! p
#[cfg_attr(not(test), expect(dead_code, reason = "wired by the commands"))]
mod demo;

fn main() {}
