//! The test databases, as SQL scripts for the stock clients `psql` and `mariadb`.
//!
//! Their content follows from row numbers alone: the same script makes the same rows. They name no real deployment;
//! tables and columns are those that docs speak of. Passwords in them begin with [`PLANTED`].

/// How the passwords in the scripts begin: what a test looks for in output where no secret may be.
pub const PLANTED: &str = "planted-";

/// How many certificates tests use that do not ask for a large database.
pub const FEW: u32 = 2_000;

/// How many certificates the large test database has.
pub const MANY: u32 = 300_000;

/// certctl on PostgreSQL: 15 tables, roles, an audit table that only grows.
const POSTGRESQL_CERTCTL: &str = include_str!("../fixtures/postgresql/certctl.sql");

/// akamu on PostgreSQL.
const POSTGRESQL_AKAMU: &str = include_str!("../fixtures/postgresql/akamu.sql");

/// Every shape of a PostgreSQL database that a backup could trip over; needs an empty UTF-8 database.
pub const POSTGRESQL_SHAPES: &str = include_str!("../fixtures/postgresql/shapes.sql");

/// Text outside of ASCII in a database that is not UTF-8; needs one made by [`POSTGRESQL_LATIN1_DATABASE`].
pub const POSTGRESQL_LATIN1: &str = include_str!("../fixtures/postgresql/latin1.sql");

/// Makes the database `old_ca` for [`POSTGRESQL_LATIN1`].
pub const POSTGRESQL_LATIN1_DATABASE: &str =
    "CREATE DATABASE old_ca ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;\n";

/// akamu on MariaDB.
const MARIADB_AKAMU: &str = include_str!("../fixtures/mariadb/akamu.sql");

/// The tables of certctl on MariaDB.
const MARIADB_CERTCTL: &str = include_str!("../fixtures/mariadb/certctl.sql");

/// Every shape of a MariaDB database that a backup could trip over; needs an empty utf8mb4 database.
pub const MARIADB_SHAPES: &str = include_str!("../fixtures/mariadb/shapes.sql");

/// The script for `psql` that makes a certctl database with this many certificates, at least 20.
pub fn postgresql_certctl(certificates: u32) -> String {
    for_psql(POSTGRESQL_CERTCTL, certificates)
}

/// The script for `psql` that makes an akamu database with this many certificates, at least 20.
pub fn postgresql_akamu(certificates: u32) -> String {
    for_psql(POSTGRESQL_AKAMU, certificates)
}

/// The script for `mariadb` that makes an akamu database with this many certificates, at least 20.
pub fn mariadb_akamu(certificates: u32) -> String {
    for_mariadb(MARIADB_AKAMU, certificates)
}

/// The script for `mariadb` that makes a certctl database with this many certificates, at least 20.
pub fn mariadb_certctl(certificates: u32) -> String {
    for_mariadb(MARIADB_CERTCTL, certificates)
}

fn for_psql(script: &str, certificates: u32) -> String {
    format!("\\set certificates {certificates}\n{script}")
}

fn for_mariadb(script: &str, certificates: u32) -> String {
    format!("SET @certificates = {certificates};\n{script}")
}
