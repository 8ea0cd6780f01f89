//! Restores into a PostgreSQL server.
