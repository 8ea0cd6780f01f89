//! p
#[expect(dead_code, unused_imports, reason = "wired by the commands")]
mod config;
#[expect(dead_code, reason = "wired by the commands")]
mod environment;
#[expect(dead_code, unused_imports, reason = "wired by the commands")]
mod identity;

fn main() {}
