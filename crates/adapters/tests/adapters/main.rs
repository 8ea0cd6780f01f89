//! The adapters as the engine uses them: through their ports.

mod files;
mod mariadb;
mod pkcs11;
mod postgresql;
mod postgresql_server;
mod secrets;
mod throwaway;
