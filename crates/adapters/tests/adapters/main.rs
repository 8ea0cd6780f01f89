//! The adapters as the engine uses them: through their ports.

mod files;
mod mariadb;
mod postgresql;
mod postgresql_server;
mod secrets;
mod throwaway;
