//! What fails, and what is said then.
