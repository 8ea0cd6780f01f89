//! A look before a capture: whether the programs can dump the server, and what the account may not see.

use strongroom_core::source::CaptureError;

use super::accounts::Privileges;
use super::capture::asked;
use super::connection::{Connection, Version, version_in};
use super::session::Session;
use super::settings::MariadbSettings;
use super::sql;

/// What a dump of a database needs; without it something is left out in silence.
const NEEDED: [(&str, &str); 4] = [
    ("SELECT", "tables"),
    ("SHOW VIEW", "views"),
    ("TRIGGER", "triggers"),
    ("EVENT", "events"),
];

/// Looks whether the programs can dump the server, and what the account may not see.
pub(super) fn account(
    session: &mut Session,
    client: Version,
    settings: &MariadbSettings,
    problems: &mut Vec<String>,
) -> Result<Privileges, CaptureError> {
    let version: String = session
        .value("SELECT JSON_QUOTE(VERSION())")
        .map_err(asked("look at the server"))?;
    refuse_old_client(client, &version)?;
    let privileges = Privileges::read(session).map_err(asked("read the account's privileges"))?;
    for database in &settings.databases {
        for (privilege, what) in NEEDED {
            if !privileges.has_in(privilege, database) {
                problems.push(format!(
                    "{database}: the account has no {privilege} on it, so {what} may be left out; GRANT {privilege} ON {}.*",
                    sql::name(database)
                ));
            }
        }
        if !privileges.sees_routines(database) {
            problems.push(format!(
                "{database}: the account cannot read the definitions of routines, so they may be left out; GRANT SELECT ON mysql.*"
            ));
        }
    }
    if settings.grants && !privileges.has_in("SELECT", "mysql") {
        problems.push(
            "the account may not read users and grants: GRANT SELECT ON mysql.*, or set `grants = false`"
                .to_owned(),
        );
    }
    Ok(privileges)
}

/// Refuses a server that is not `MariaDB`, or of a later version than the client.
pub(super) fn refuse_old_client(client: Version, server: &str) -> Result<(), CaptureError> {
    let Some(version) = version_in(server) else {
        return Err(CaptureError::Unsuitable {
            path: "the server".into(),
            why: format!("version {server} is not MariaDB"),
            hint: "This source reads MariaDB; dump another server with its own programs into files.",
        });
    };
    if client < version {
        return Err(CaptureError::Unsuitable {
            path: "mariadb-dump".into(),
            why: format!(
                "is of version {}.{}, and the server of {}.{}: what is new there would be missing",
                client.0, client.1, version.0, version.1
            ),
            hint: "Install the client programs of the server's version, and name their directory with `programs`.",
        });
    }
    Ok(())
}

/// What `check` says of an asset.
pub(super) fn sizes(
    connection: &Connection,
    databases: &[String],
) -> Result<(u64, u64, Vec<String>), CaptureError> {
    let mut session = Session::open(connection)?;
    let (mut tables, mut bytes, mut problems) = (0, 0, Vec::new());
    for database in databases {
        let wanted = sql::text(database);
        let there: u64 = session
            .value(&format!(
                "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {wanted}"
            ))
            .map_err(asked("read the catalogue"))?;
        if there == 0 {
            problems.push(format!(
                "{database}: there is no such database, or the account may not see it"
            ));
        }
        let (its, size): (u64, u64) = session
            .value(&format!(
                "SELECT JSON_ARRAY(COUNT(*), CAST(COALESCE(SUM(data_length), 0) AS UNSIGNED)) \
                 FROM information_schema.tables WHERE table_schema = {wanted} AND table_type <> 'VIEW'"
            ))
            .map_err(asked("read the catalogue"))?;
        tables += its;
        bytes += size;
    }
    Ok((tables, bytes, problems))
}
