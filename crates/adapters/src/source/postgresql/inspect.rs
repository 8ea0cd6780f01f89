//! Looks at the server and its databases without reading a row.

use std::path::PathBuf;

use strongroom_core::cancel::Cancel;
use strongroom_core::source::{CaptureError, Class, Inspection};

use super::Reached;
use super::catalogue;
use super::conninfo::conninfo;
use super::copy::said;
use super::database::list;
use super::session::{Session, SessionError, literal};
use super::settings::Connection;

/// What `check` tells of an asset.
pub(super) fn inspect(connection: &Connection) -> Result<Inspection, CaptureError> {
    let cancel = Cancel::default();
    let mut inspection = Inspection::default();
    let mut reached = Reached::connect(connection, &cancel)?;
    inspection.about = Some(format!(
        "PostgreSQL {} at {}{}, client programs {}",
        server_version(reached.server.version_num),
        connection.place(),
        if reached.server.is_standby {
            " (a standby)"
        } else {
            ""
        },
        reached.programs.major
    ));
    if connection.settings.class == Class::Secret {
        if !is_superuser(&mut reached.session).map_err(failed(connection))? {
            inspection.problems.push(PASSWORDS_NEED.to_owned());
        }
        inspection.files = 1;
        return Ok(inspection);
    }
    for database in reached.databases.clone() {
        look_into(connection, &reached, &database, &cancel, &mut inspection)?;
    }
    let others = others(&mut reached).map_err(failed(connection))?;
    let name = |database: &String| {
        PathBuf::from(format!("postgresql://{}/{database}", connection.place()))
    };
    inspection.covered = reached.databases.iter().map(name).collect();
    inspection.suggestions = others.iter().map(name).collect();
    Ok(inspection)
}

/// What a role needs for passwords.
pub(super) const PASSWORDS_NEED: &str = "the password hashes of roles can be read by a superuser only; name one in this asset's url, or leave the asset out and set the passwords anew after a restore";

fn look_into(
    connection: &Connection,
    reached: &Reached,
    database: &str,
    cancel: &Cancel,
    inspection: &mut Inspection,
) -> Result<(), CaptureError> {
    let client = reached.programs.client(connection);
    let conninfo = conninfo(&connection.settings, Some(database));
    let opened = Session::open(&client, &conninfo, cancel);
    let looked = opened.and_then(|mut session| {
        let tables = catalogue::tables(&mut session)?;
        let size: u64 = session.read("SELECT to_json(pg_database_size(current_database()))")?;
        Ok((tables, size))
    });
    let (tables, size) = match looked {
        Ok(looked) => looked,
        Err(SessionError::Interrupted(interrupted)) => return Err(interrupted.into()),
        Err(error) => {
            let why = format!("database {database}: {}", said(&error));
            inspection.problems.push(why);
            return Ok(());
        }
    };
    inspection.size_bytes += size;
    let read: Vec<_> = tables.iter().filter(|table| table.has_rows()).collect();
    inspection.files += read.len() as u64 + 2;
    let keys = |wanted: &dyn Fn(&catalogue::Table) -> bool| -> Vec<String> {
        read.iter()
            .filter(|table| wanted(table))
            .map(|table| table.key())
            .collect()
    };
    let forbidden = keys(&|table| !table.is_readable);
    if !forbidden.is_empty() {
        inspection.problems.push(format!(
            "database {database}: the role may not read {}; make it a member of pg_read_all_data, or GRANT SELECT",
            list(&forbidden)
        ));
    }
    let filtered = keys(&|table| table.is_readable && table.is_filtered);
    if !filtered.is_empty() {
        inspection.problems.push(format!(
            "database {database}: row-level security hides rows of {} from the role; ALTER ROLE ... BYPASSRLS",
            list(&filtered)
        ));
    }
    Ok(())
}

fn others(reached: &mut Reached) -> Result<Vec<String>, SessionError> {
    let own: Vec<String> = reached.databases.iter().map(|name| literal(name)).collect();
    reached.session.read(&format!(
        "SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database \
         WHERE NOT datistemplate AND datname <> 'postgres' AND datname NOT IN ({})",
        own.join(", ")
    ))
}

/// Whether the role of the session is a superuser.
pub(super) fn is_superuser(session: &mut Session) -> Result<bool, SessionError> {
    session.read("SELECT to_json(rolsuper) FROM pg_roles WHERE rolname = current_user")
}

fn failed(connection: &Connection) -> impl FnOnce(SessionError) -> CaptureError {
    let operation = format!("look at the server at {}", connection.place());
    move |error| error.while_doing(operation)
}

/// 15.8 for 150008, 9.6.24 for 90624.
fn server_version(number: u32) -> String {
    if number >= 100_000 {
        format!("{}.{}", number / 10_000, number % 10_000)
    } else {
        let (major, rest) = (number / 10_000, number % 10_000);
        format!("{major}.{}.{}", rest / 100, rest % 100)
    }
}
