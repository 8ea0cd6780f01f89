//! Looks at a server before a restore: what is there, what forbids the restore, what it will change. Changes nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use strongroom_core::cancel::Cancel;
use strongroom_core::source::CaptureError;
use strongroom_core::source::server::{DatabaseSeen, ServerSeen, WantedDatabase};

use super::super::programs::Programs;
use super::super::session::{Session, SessionError, literal};
use super::wanted::{NO_MAPPING, Wanted, missing_of, missing_roles};
use super::{PostgresqlServer, ask};

/// Longer names are cut off by the server.
const NAME_BYTES_MAX: usize = 63;

/// From here on not everybody may make objects in the schema `public` of a new database.
const PUBLIC_CLOSED_SINCE: u32 = 15;

/// A parameter is out of its range: there is no such locale.
const INVALID_PARAMETER_VALUE: &str = "22023";

#[derive(Deserialize)]
struct Own {
    version: String,
    is_standby: bool,
    role: String,
    /// `SUPERUSER`, `CREATEDB`, `CREATEROLE`, as far as it has them or what they give.
    rights: Vec<String>,
}

impl Own {
    fn may(&self, right: &str) -> bool {
        self.rights
            .iter()
            .any(|one| one == right || one == "SUPERUSER")
    }
}

pub(super) fn observe(
    server: &PostgresqlServer,
    wanted: &[WantedDatabase<'_>],
) -> Result<ServerSeen, CaptureError> {
    let mut session = server.maintenance(&[], &Cancel::default())?;
    let own: Own = ask(
        &mut session,
        "look at the server",
        "SELECT json_build_object('version', split_part(current_setting('server_version'), ' ', 1), \
         'is_standby', pg_is_in_recovery(), 'role', current_user, 'rights', array_remove(ARRAY[\
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END, \
         CASE WHEN rolcreaterole THEN 'CREATEROLE' END], NULL)) \
         FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )?;
    let mut seen = ServerSeen {
        server: format!(
            "PostgreSQL {} at {}",
            own.version,
            server.connection.place()
        ),
        ..ServerSeen::default()
    };
    if own.is_standby {
        seen.refusals.push(
            "the server is a standby and takes no writes; restore into its primary".to_owned(),
        );
    }
    if !own.may("CREATEDB") {
        seen.refusals.push(format!(
            "role {:?} may not make databases; grant it CREATEDB, or connect as another role",
            own.role
        ));
    }
    let major = session.server_major();
    let programs = Programs::find(
        &server.connection,
        major,
        &["psql", "pg_restore", "vacuumdb"],
    );
    if let Err(error) = programs {
        seen.refusals.push(error.to_string());
    }
    for one in wanted {
        let database = Wanted::read(one.original, one.facts, one.options)?;
        let mut look = Look {
            session: &mut session,
            own: &own,
            database: &database,
            original: one.original,
            seen: &mut seen,
        };
        look.name(one.name)?;
        look.versions(major);
        look.locale(major)?;
        look.extensions()?;
        look.tablespace()?;
        look.roles()?;
        look.rest();
    }
    Ok(seen)
}

/// A look for one database.
struct Look<'a> {
    session: &'a mut Session,
    own: &'a Own,
    database: &'a Wanted,
    original: &'a str,
    seen: &'a mut ServerSeen,
}

impl Look<'_> {
    fn refuse(&mut self, why: &str) {
        let text = format!("database {:?}: {why}", self.original);
        self.seen.refusals.push(text);
    }

    fn warn(&mut self, what: &str) {
        let text = format!("database {:?}: {what}", self.original);
        self.seen.warnings.push(text);
    }

    fn name(&mut self, name: &str) -> Result<(), CaptureError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            self.refuse(&format!(
                "the name {name:?} has {} bytes, and PostgreSQL takes 1 to {NAME_BYTES_MAX}",
                name.len()
            ));
            return Ok(());
        }
        let found: Option<DatabaseSeen> = ask(
            self.session,
            "look at a database",
            &format!(
                "SELECT json_build_object('size_bytes', CASE WHEN has_database_privilege(d.oid, 'CONNECT') \
                 OR pg_has_role('pg_read_all_stats', 'MEMBER') THEN pg_database_size(d.oid) ELSE 0 END, \
                 'sessions', (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid = d.oid \
                 AND a.backend_type <> 'autovacuum worker')) FROM pg_catalog.pg_database AS d WHERE d.datname = {}",
                literal(name)
            ),
        )?;
        if let Some(found) = found {
            self.seen.databases.insert(name.to_owned(), found);
        }
        Ok(())
    }

    fn versions(&mut self, major: u32) {
        let captured = self.database.major();
        if major < captured {
            self.refuse(&format!(
                "it was captured from PostgreSQL {captured}, and this server is of version {major}; \
                 restore into a server of that version or a newer one"
            ));
        } else if major > captured {
            self.warn(&format!(
                "it was captured from PostgreSQL {captured}, and this server is of version {major}"
            ));
            if captured < PUBLIC_CLOSED_SINCE && major >= PUBLIC_CLOSED_SINCE {
                self.warn("where the grants on schema public were never changed, only the owner makes objects in it from now on");
            }
        }
    }

    fn locale(&mut self, major: u32) -> Result<(), CaptureError> {
        let facts = &self.database.facts;
        let (encoding, provider) = (facts.encoding.clone(), facts.locale_provider.clone());
        let (collate, ctype) = (facts.collate.clone(), facts.ctype.clone());
        let is_known: bool = ask(
            self.session,
            "look for an encoding",
            &format!(
                "SELECT to_json(pg_char_to_encoding({}) >= 0)",
                literal(&encoding)
            ),
        )?;
        if !is_known {
            self.refuse(&format!("the server has no encoding {encoding:?}"));
        }
        let provider_missing = match provider.as_str() {
            "i" if major < 15 => true,
            "i" => !ask::<bool>(
                self.session,
                "look for ICU",
                "SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i'))",
            )?,
            "b" => major < 17,
            _ => false,
        };
        if provider_missing {
            let name = if provider == "i" { "ICU" } else { "built-in" };
            self.refuse(&format!(
                "it needs {name} locales, which this server does not have"
            ));
        }
        for locale in [collate, ctype] {
            if !self.has_locale(&locale)? {
                self.refuse(&format!(
                    "the server's machine has no locale {locale:?}; install it there and restart the server"
                ));
                break;
            }
        }
        self.collation_version()
    }

    /// Tried out in a transaction that is rolled back: the catalogue knows only the locales of the time when the cluster was made.
    fn has_locale(&mut self, locale: &str) -> Result<bool, CaptureError> {
        if matches!(locale, "C" | "POSIX") {
            return Ok(true);
        }
        let operation = "look for a locale";
        let known: bool = ask(
            self.session,
            operation,
            &format!(
                "SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_collation \
                 WHERE lower(replace(collcollate, '-', '')) = lower(replace({0}, '-', ''))) \
                 OR {0} IN (SELECT datcollate FROM pg_catalog.pg_database \
                 UNION SELECT datctype FROM pg_catalog.pg_database))",
                literal(locale)
            ),
        )?;
        if known {
            return Ok(true);
        }
        let failed = |error: SessionError| error.while_doing(operation);
        self.session.execute("BEGIN").map_err(failed)?;
        let tried = self.session.execute(&format!(
            "CREATE COLLATION pg_temp.strongroom_try (LOCALE = {})",
            literal(locale)
        ));
        let has = match tried {
            // Another failure, of rights for instance, tells nothing about the locale.
            Err(error) if !error.is_end() => error.sqlstate() != Some(INVALID_PARAMETER_VALUE),
            Err(error) => return Err(failed(error)),
            Ok(()) => true,
        };
        self.session.execute("ROLLBACK").map_err(failed)?;
        Ok(has)
    }

    fn collation_version(&mut self) -> Result<(), CaptureError> {
        let facts = &self.database.facts;
        let Some(captured) = facts.collation_version.clone() else {
            return Ok(());
        };
        let (column, locale) = match (&facts.locale, facts.locale_provider.as_str()) {
            (Some(locale), "i") if self.session.server_major() >= 17 => ("colllocale", locale),
            (Some(locale), "i") => ("colliculocale", locale),
            _ => ("collcollate", &facts.collate),
        };
        let now: Option<String> = ask(
            self.session,
            "look for a collation version",
            &format!(
                "SELECT to_json(pg_collation_actual_version(oid)) FROM pg_catalog.pg_collation \
                 WHERE lower(replace({column}, '-', '')) = lower(replace({}, '-', '')) \
                 AND collprovider = {} LIMIT 1",
                literal(locale),
                literal(&facts.locale_provider)
            ),
        )?;
        if let Some(now) = now.filter(|now| *now != captured) {
            self.warn(&format!(
                "texts were sorted by collation version {captured} and are by {now} here; all indexes are built anew"
            ));
        }
        Ok(())
    }

    fn extensions(&mut self) -> Result<(), CaptureError> {
        let available: BTreeMap<String, Option<String>> = ask(
            self.session,
            "look for extensions",
            "SELECT coalesce(json_object_agg(name, default_version), '{}') FROM pg_catalog.pg_available_extensions",
        )?;
        for (name, extension) in &self.database.facts.extensions {
            let version = &extension.version;
            match available.get(name) {
                None => self.refuse(&format!(
                    "it needs extension {name:?} ({version}); install it on the server's machine"
                )),
                Some(Some(now)) if now != version => self.warn(&format!(
                    "extension {name:?} was of version {version} and will be of {now}"
                )),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn tablespace(&mut self) -> Result<(), CaptureError> {
        let name = &self.database.facts.tablespace;
        let is_there: bool = ask(
            self.session,
            "look for a tablespace",
            &format!(
                "SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE spcname = {}))",
                literal(name)
            ),
        )?;
        if !is_there {
            self.refuse(&format!(
                "its tablespace {name:?} is missing; make it first"
            ));
        }
        Ok(())
    }

    fn roles(&mut self) -> Result<(), CaptureError> {
        let unknown: Vec<String> = self
            .database
            .mapped_roles()
            .filter(|(role, _)| !self.database.facts.roles.contains_key(*role))
            .map(|(role, _)| role.clone())
            .collect();
        if !unknown.is_empty() {
            self.warn(&format!(
                "no such roles in the backup: {}",
                unknown.join(", ")
            ));
        }
        if self.database.mapped_roles().next().is_some() && self.database.facts.large_objects > 0 {
            self.refuse(NO_MAPPING);
        }
        let targets: Vec<&String> = self.database.mapped_roles().map(|(_, to)| to).collect();
        let no_targets = missing_of(self.session, &targets)?;
        if !no_targets.is_empty() {
            self.refuse(&format!(
                "the server has no roles {}",
                no_targets.join(", ")
            ));
        }
        let missing = missing_roles(self.session, self.database)?;
        let owner = self.database.role(&self.database.facts.owner).to_owned();
        if !self.own.may("SUPERUSER") && !missing.contains(&owner) && no_targets.is_empty() {
            let is_member: bool = ask(
                self.session,
                "look at the own role",
                &format!("SELECT to_json(pg_has_role({}, 'MEMBER'))", literal(&owner)),
            )?;
            if !is_member {
                let role = &self.own.role;
                self.refuse(&format!(
                    "{role:?} is no member of its owner {owner:?}; grant that, or connect as a superuser"
                ));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(", ");
        if self.own.may("CREATEROLE") {
            self.warn(&format!(
                "these roles will be made, without passwords: {names}"
            ));
        } else {
            let role = &self.own.role;
            self.refuse(&format!(
                "roles are missing, and {role:?} may not make any: {names}; make them first, or name others in their place"
            ));
        }
        Ok(())
    }

    fn rest(&mut self) {
        let unknown = self.database.unknown_tables();
        if !unknown.is_empty() {
            self.refuse(&format!("the backup has no rows of {unknown:?}"));
        }
        let facts = &self.database.facts;
        if !self.own.may("SUPERUSER") && !facts.event_triggers.is_empty() {
            let names = facts.event_triggers.join(", ");
            let role = &self.own.role;
            self.refuse(&format!(
                "only a superuser makes event triggers, and {role:?} is none: {names}"
            ));
        }
        let left_out: Vec<&str> = [
            ("subscriptions", &facts.subscriptions),
            ("replication slots", &facts.replication_slots),
        ]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, _)| *what)
        .collect();
        if !left_out.is_empty() {
            self.warn(&format!("not restored: {}", left_out.join(", ")));
        }
    }
}
