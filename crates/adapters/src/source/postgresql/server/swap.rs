//! Renames databases: the restored one into the place of the live one, and back; and drops them.
//!
//! PostgreSQL renames a database only while nobody uses it, and both renames are one transaction. Applications connect
//! again as soon as they are cut off, so the live database is closed to connections first, which is committed and therefore survives a
//! crash of this program: every step here opens again what should be open. A database that is kept stays closed, so that
//! nobody writes into it by mistake.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use strongroom_core::cancel::Cancel;
use strongroom_core::private_file;
use strongroom_core::source::CaptureError;
use strongroom_core::source::server::SwapNames;

use super::super::session::{Session, SessionError, identifier, literal};
use super::{PostgresqlServer, ask, execute, exists};

/// How often sessions are ended before a rename or a drop is given up. The server itself waits five seconds each time.
const TRIES: u32 = 20;

/// Somebody uses the database.
const OBJECT_IN_USE: &str = "55006";

/// What a server says that has no room, where a database is dropped; why stands in its log only.
const CHECKPOINT_FAILED: &str = "checkpoint request failed";

/// `DROP DATABASE ... WITH (FORCE)` exists from here on.
const FORCE_SINCE: u32 = 13;

pub(super) fn swap_in(
    server: &PostgresqlServer,
    names: &SwapNames<'_>,
) -> Result<(), CaptureError> {
    let (live, new, old) = (names.live, names.new, names.old);
    let mut session = server.maintenance(&[live, new, old], &Cancel::default())?;
    if exists(&mut session, new)? {
        let has_old = exists(&mut session, old)?;
        let has_live = exists(&mut session, live)?;
        if has_live && !names.replaces {
            // A mark of an interrupted swap would say that this restore made it.
            forget(&marker(names))?;
            return Err(server.unsuitable(
                format!("there is a database {live:?} now, and there was none when the restore was planned"),
                "Look at it. Rename it and resume the restore, or undo the restore and plan again.",
            ));
        } else if !has_live && has_old && names.replaces {
            // Not by a swap, which renames both or none; what is kept can be put back all the same.
            rename(server, &mut session, &[(new, live)])?;
        } else if !has_live && !has_old {
            // What an undo must know: there was nothing to put back.
            let marker = marker(names);
            private_file::create_or_truncate(&marker)
                .and_then(|file| file.sync_all())
                .and_then(|()| private_file::sync_parent(&marker))
                .map_err(CaptureError::io("write", &marker))?;
            rename(server, &mut session, &[(new, live)])?;
        } else if has_old {
            return Err(server.unsuitable(
                format!("there is a database {old:?} already, so {live:?} cannot be kept under that name"),
                "Find out whose it is; rename or drop it, then resume the restore.",
            ));
        } else {
            forget(&marker(names))?;
            allow_connections(&mut session, live, false)?;
            let renamed = rename(server, &mut session, &[(live, old), (new, live)]);
            if renamed.is_err() {
                // Best effort: the error that is reported is the one above.
                let _ = allow_connections(&mut session, live, true);
            }
            renamed?;
        }
    } else if !exists(&mut session, live)? {
        return Err(missing(server, &[new, live]));
    }
    // Also where an earlier call ended right after the renames.
    allow_connections(&mut session, live, true)
}

pub(super) fn swap_back(
    server: &PostgresqlServer,
    names: &SwapNames<'_>,
) -> Result<(), CaptureError> {
    let (live, new, old) = (names.live, names.new, names.old);
    let mut session = server.maintenance(&[live, new, old], &Cancel::default())?;
    let marker = marker(names);
    let has_live = exists(&mut session, live)?;
    let has_new = exists(&mut session, new)?;
    if exists(&mut session, old)? {
        forget(&marker)?;
        let mut renames = vec![(old, live)];
        if has_live {
            if has_new {
                return Err(server.unsuitable(
                    format!("there are {live:?}, {old:?} and {new:?}, so there is no name for what is live now"),
                    "Drop the one that is named new, which only a restore makes, then undo again.",
                ));
            }
            allow_connections(&mut session, live, false)?;
            renames.insert(0, (live, new));
        }
        let renamed = rename(server, &mut session, &renames);
        if renamed.is_err() && has_live {
            // Best effort, as above.
            let _ = allow_connections(&mut session, live, true);
        }
        renamed?;
        allow_connections(&mut session, live, true)?;
        return open_if_there(&mut session, new);
    }
    if marker.exists() && has_live && !has_new {
        rename(server, &mut session, &[(live, new)])?;
    }
    forget(&marker)?;
    // Also where an earlier call, or an interrupted swap, left it closed.
    open_if_there(&mut session, live)?;
    open_if_there(&mut session, new)
}

pub(super) fn drop_database(
    server: &PostgresqlServer,
    name: &str,
    cancel: &Cancel,
) -> Result<(), CaptureError> {
    let mut session = server.maintenance(&[name], cancel)?;
    if !exists(&mut session, name)? {
        return Ok(());
    }
    drop_idle_subscriptions(server, &mut session, name, cancel)?;
    let has_force = session.server_major() >= FORCE_SINCE;
    if !has_force {
        allow_connections(&mut session, name, false)?;
    }
    let force = if has_force { " WITH (FORCE)" } else { "" };
    let statement = format!("DROP DATABASE IF EXISTS {}{force}", identifier(name));
    until_unused(server, &mut session, &[name], |session| {
        session.execute(&statement)
    })
}

/// Ends sessions and renames, all in one transaction.
fn rename(
    server: &PostgresqlServer,
    session: &mut Session,
    renames: &[(&str, &str)],
) -> Result<(), CaptureError> {
    let statements: Vec<String> = renames
        .iter()
        .map(|(from, to)| {
            let (from, to) = (identifier(from), identifier(to));
            format!("ALTER DATABASE {from} RENAME TO {to}")
        })
        .collect();
    let from: Vec<&str> = renames.iter().map(|(from, _)| *from).collect();
    until_unused(server, session, &from, |session| {
        in_transaction(session, &statements)
    })
}

/// Executes what needs that nobody uses some databases, after ending their sessions; again as long as somebody comes back.
fn until_unused(
    server: &PostgresqlServer,
    session: &mut Session,
    names: &[&str],
    act: impl Fn(&mut Session) -> Result<(), SessionError>,
) -> Result<(), CaptureError> {
    no_prepared_transactions(server, session, names)?;
    let list = list(names);
    let mut tries = 0;
    loop {
        tries += 1;
        // Autovacuum makes way by itself, and only a superuser may end it.
        execute(
            session,
            "end the sessions of a database",
            &format!(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
                 WHERE datname IN ({list}) AND pid <> pg_catalog.pg_backend_pid() \
                 AND backend_type <> 'autovacuum worker'"
            ),
        )?;
        match act(session) {
            Ok(()) => return Ok(()),
            Err(error) if error.sqlstate() == Some(OBJECT_IN_USE) && tries < TRIES => {
                execute(session, "wait", "SELECT pg_catalog.pg_sleep(0.1)")?;
            }
            Err(error) if error.sqlstate() == Some(OBJECT_IN_USE) => {
                return Err(in_use(server, session, &list, &error.to_string())?);
            }
            Err(error) if error.to_string().contains(CHECKPOINT_FAILED) => {
                return Err(server.unsuitable(
                    format!("the server cannot write its data to disk ({error})"),
                    "Make room where the server keeps its data, or look for the reason in its log.",
                ));
            }
            Err(error) => return Err(error.while_doing("rename or drop a database")),
        }
    }
}

fn in_transaction(session: &mut Session, statements: &[String]) -> Result<(), SessionError> {
    session.execute("BEGIN")?;
    // One at a time: a session reports the failure of the last statement only.
    for statement in statements {
        if let Err(error) = session.execute(statement) {
            if !error.is_end() {
                session.execute("ROLLBACK")?;
            }
            return Err(error);
        }
    }
    session.execute("COMMIT")
}

/// What still uses a database, in words.
fn in_use(
    server: &PostgresqlServer,
    session: &mut Session,
    list: &str,
    said: &str,
) -> Result<CaptureError, CaptureError> {
    let users: Vec<String> = ask(
        session,
        "look for sessions",
        &format!(
            "SELECT coalesce(json_agg(used), '[]') FROM (\
             SELECT format('session %s of %s (%s)', pid, coalesce(usename, 'the server'), backend_type) AS used \
             FROM pg_catalog.pg_stat_activity WHERE datname IN ({list}) \
             UNION ALL SELECT format('replication slot %s', slot_name) \
             FROM pg_catalog.pg_replication_slots WHERE database IN ({list}) AND active) AS u"
        ),
    )?;
    Ok(server.unsuitable(
        format!("{said}; in use by: {}", words(&users)),
        "Stop what uses the database, then resume the restore or undo it.",
    ))
}

/// A prepared transaction holds its database as a session does, but cannot be ended for its owner.
fn no_prepared_transactions(
    server: &PostgresqlServer,
    session: &mut Session,
    names: &[&str],
) -> Result<(), CaptureError> {
    let prepared: Vec<String> = ask(
        session,
        "look for prepared transactions",
        &format!(
            "SELECT coalesce(json_agg(format('%L in %I', gid, database)), '[]') \
             FROM pg_catalog.pg_prepared_xacts WHERE database IN ({})",
            list(names)
        ),
    )?;
    if prepared.is_empty() {
        return Ok(());
    }
    Err(server.unsuitable(
        format!("prepared transactions are open: {}", words(&prepared)),
        "Decide each with COMMIT PREPARED or ROLLBACK PREPARED in its database, then resume the restore or undo it.",
    ))
}

/// A subscription forbids that its database is dropped. Those that never ran came with the restore, and may go.
fn drop_idle_subscriptions(
    server: &PostgresqlServer,
    session: &mut Session,
    name: &str,
    cancel: &Cancel,
) -> Result<(), CaptureError> {
    // Only a superuser sees the whole catalogue; whoever is none could not have restored a subscription.
    let has_any = format!(
        "SELECT to_json(CASE WHEN current_setting('is_superuser')::bool THEN EXISTS (\
         SELECT FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid \
         WHERE d.datname = {}) ELSE false END)",
        literal(name)
    );
    if !ask::<bool>(session, "look for subscriptions", &has_any)? {
        return Ok(());
    }
    allow_connections(session, name, true)?;
    let mut inside = server.open(name, cancel)?;
    let found: Vec<(String, bool)> = ask(
        &mut inside,
        "look for subscriptions",
        "SELECT coalesce(json_agg(json_build_array(subname, subenabled)), '[]') FROM pg_catalog.pg_subscription AS s \
         JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid WHERE d.datname = current_database()",
    )?;
    let enabled: Vec<String> = found
        .iter()
        .filter(|(_, is_enabled)| *is_enabled)
        .map(|(name, _)| name.clone())
        .collect();
    if !enabled.is_empty() {
        return Err(server.unsuitable(
            format!("database {name:?} has subscriptions: {}", words(&enabled)),
            "Drop them in that database (DROP SUBSCRIPTION), which also drops their slots at the publisher, then repeat.",
        ));
    }
    for (name, _) in &found {
        let name = identifier(name);
        execute(
            &mut inside,
            "drop a subscription",
            &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        )?;
        execute(
            &mut inside,
            "drop a subscription",
            &format!("DROP SUBSCRIPTION {name}"),
        )?;
    }
    Ok(())
}

fn allow_connections(session: &mut Session, name: &str, is: bool) -> Result<(), CaptureError> {
    execute(
        session,
        if is {
            "open a database"
        } else {
            "close a database"
        },
        &format!("ALTER DATABASE {} ALLOW_CONNECTIONS {is}", identifier(name)),
    )
}

fn open_if_there(session: &mut Session, name: &str) -> Result<(), CaptureError> {
    if exists(session, name)? {
        allow_connections(session, name, true)?;
    }
    Ok(())
}

/// Tells that there was no live database before.
fn marker(names: &SwapNames<'_>) -> PathBuf {
    let mut name = String::new();
    for byte in names.live.bytes() {
        let _ = write!(name, "{byte:02x}");
    }
    names.keep.join(format!("was-not-there-{name}"))
}

fn forget(marker: &Path) -> Result<(), CaptureError> {
    if marker.exists() {
        std::fs::remove_file(marker)
            .and_then(|()| private_file::sync_parent(marker))
            .map_err(CaptureError::io("remove", marker))?;
    }
    Ok(())
}

fn missing(server: &PostgresqlServer, names: &[&str]) -> CaptureError {
    server.unsuitable(
        format!("there is no database of the names {names:?}"),
        "Undo the restore, and restore again.",
    )
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| literal(name)).collect();
    quoted.join(", ")
}

fn words(list: &[String]) -> String {
    match list {
        [] => "nothing that shows".to_owned(),
        some => some.join(", "),
    }
}
