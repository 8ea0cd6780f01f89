//! The source `postgresql` on a real server.

mod session;
