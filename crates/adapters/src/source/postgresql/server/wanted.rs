//! What a restore wants of a server: the facts of one database, under the names that were asked for; and how its roles and
//! the database itself are made.

use std::fmt::Write as _;

use strongroom_core::source::CaptureError;
use strongroom_core::source::server::LoadOptions;

use super::super::facts::{DatabaseFacts, Relation, Role, ServerFacts, key};
use super::super::session::{Session, identifier, literal};
use super::{ask, execute};

/// What only a superuser may give.
const SUPERUSER_ATTRIBUTES: [&str; 3] = ["SUPERUSER", "REPLICATION", "BYPASSRLS"];

/// The script of the large objects names roles in statements that nobody rewrites yet.
pub(super) const NO_MAPPING: &str =
    "it has large objects, whose owners keep their names: other roles cannot take their place";

/// Locale providers can be named from here on.
const PROVIDERS_SINCE: u32 = 15;

/// A database of a backup, and what was asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) facts: DatabaseFacts,
    pub(super) server: ServerFacts,
    options: LoadOptions,
}

impl Wanted {
    /// Reads the facts of the database `original`.
    pub(super) fn read(
        original: &str,
        facts: &serde_json::Value,
        options: &LoadOptions,
    ) -> Result<Self, CaptureError> {
        let unreadable = |error| {
            CaptureError::library(format!("read the facts of database {original:?}"))(error)
        };
        let of = &facts["databases"][original];
        if of.is_null() {
            return Err(CaptureError::Unsuitable {
                path: original.into(),
                why: "the backup has no facts of this database".to_owned(),
                hint: "Name a database that the backup holds.",
            });
        }
        Ok(Self {
            facts: serde_json::from_value(of.clone()).map_err(unreadable)?,
            server: serde_json::from_value(facts["server"].clone()).map_err(unreadable)?,
            options: options.clone(),
        })
    }

    /// The major version of the server that was captured.
    pub(super) fn major(&self) -> u32 {
        self.server.version_num / 10_000
    }

    /// The role that takes the place of one of the backup.
    pub(super) fn role<'a>(&'a self, name: &'a str) -> &'a str {
        self.options.roles.get(name).map_or(name, String::as_str)
    }

    /// Whether only the rows of some tables are wanted.
    pub(super) fn is_partial(&self) -> bool {
        !self.options.tables.is_empty()
    }

    /// Whether the rows of a table are wanted.
    pub(super) fn is_table_wanted(&self, relation: &Relation) -> bool {
        let names = &self.options.tables;
        names.is_empty() || names.iter().any(|name| is_name_of(name, relation))
    }

    /// Tables that were asked for and have no rows in the backup.
    pub(super) fn unknown_tables(&self) -> Vec<&String> {
        let is_known = |name: &&String| {
            let mut relations = self.facts.relations.values();
            relations.any(|relation| relation.path.is_some() && is_name_of(name, relation))
        };
        let names = self.options.tables.iter();
        names.filter(|name| !is_known(name)).collect()
    }

    /// The roles of the backup that keep their names.
    pub(super) fn own_roles(&self) -> impl Iterator<Item = (&String, &Role)> {
        let roles = self.facts.roles.iter();
        roles.filter(|(name, _)| !self.options.roles.contains_key(*name))
    }

    /// Roles of the backup and those that take their place.
    pub(super) fn mapped_roles(&self) -> impl Iterator<Item = (&String, &String)> {
        self.options.roles.iter()
    }
}

fn is_name_of(name: &str, relation: &Relation) -> bool {
    *name == key(&relation.schema, &relation.name)
        || *name == relation.name
        || *name == format!("{}.{}", relation.schema, relation.name)
}

/// The roles that the server does not have, of those that the backup needs under their own names.
pub(super) fn missing_roles(
    session: &mut Session,
    wanted: &Wanted,
) -> Result<Vec<String>, CaptureError> {
    let names: Vec<&String> = wanted.own_roles().map(|(name, _)| name).collect();
    missing_of(session, &names)
}

/// Those of `names` that are no roles of the server.
pub(super) fn missing_of(
    session: &mut Session,
    names: &[&String],
) -> Result<Vec<String>, CaptureError> {
    let values: Vec<String> = names.iter().map(|name| literal(name)).collect();
    ask(
        session,
        "look for roles",
        &format!(
            "SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM unnest(ARRAY[{}]::text[]) AS name \
             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name)",
            values.join(", ")
        ),
    )
}

/// Makes the roles that are missing, all or none, without passwords; returns what the operator should know.
///
/// Roles that are there stay as they are.
pub(super) fn create_roles(
    session: &mut Session,
    wanted: &Wanted,
) -> Result<Vec<String>, CaptureError> {
    let missing = missing_roles(session, wanted)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let is_superuser = is_superuser(session)?;
    let mut notes = Vec::new();
    execute(session, "make roles", "BEGIN")?;
    for (name, role) in wanted
        .own_roles()
        .filter(|(name, _)| missing.contains(name))
    {
        let (given, withheld): (Vec<&String>, Vec<&String>) = role
            .attributes
            .iter()
            .partition(|word| is_superuser || !is_for_superusers(word));
        let withheld: Vec<&str> = withheld
            .iter()
            .filter(|word| !word.starts_with("NO"))
            .map(|word| word.as_str())
            .collect();
        if !withheld.is_empty() {
            notes.push(format!(
                "role {name:?} was made without {}, which only a superuser may give",
                withheld.join(", ")
            ));
        }
        let given: Vec<&str> = given.iter().map(|word| word.as_str()).collect();
        let mut statement = format!("CREATE ROLE {} {}", identifier(name), given.join(" "));
        let _ = write!(statement, " CONNECTION LIMIT {}", role.connection_limit);
        if let Some(until) = &role.valid_until {
            let _ = write!(statement, " VALID UNTIL {}", literal(until));
        }
        execute(session, &format!("make role {name:?}"), &statement)?;
    }
    for (name, role) in wanted
        .own_roles()
        .filter(|(name, _)| missing.contains(name))
    {
        if !is_superuser {
            // Nobody else may give objects to a role than its members.
            let statement = format!("GRANT {} TO CURRENT_USER", identifier(name));
            execute(session, &format!("become a member of {name:?}"), &statement)?;
        }
        for (group, is_admin) in &role.member_of {
            let option = if *is_admin { " WITH ADMIN OPTION" } else { "" };
            let (group, member) = (identifier(wanted.role(group)), identifier(name));
            let statement = format!("GRANT {group} TO {member}{option}");
            execute(session, &format!("make {name:?} a member"), &statement)?;
        }
    }
    execute(session, "make roles", "COMMIT")?;
    if !is_superuser {
        notes.push("the role that restores was made a member of the roles that it made".to_owned());
    }
    notes.push(format!(
        "made without passwords: {}; restore the asset with the password hashes, or set them by hand",
        missing.join(", ")
    ));
    Ok(notes)
}

/// Makes the database, empty, as it was when it was captured.
pub(super) fn create_database(
    session: &mut Session,
    name: &str,
    wanted: &Wanted,
) -> Result<(), CaptureError> {
    let facts = &wanted.facts;
    let mut statement = format!(
        "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        identifier(name),
        identifier(wanted.role(&facts.owner)),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype),
    );
    if session.server_major() >= PROVIDERS_SINCE {
        let (provider, locale) = match facts.locale_provider.as_str() {
            "i" => ("icu", "ICU_LOCALE"),
            "b" => ("builtin", "BUILTIN_LOCALE"),
            _ => ("libc", ""),
        };
        let _ = write!(statement, " LOCALE_PROVIDER {provider}");
        if let (Some(value), false) = (&facts.locale, locale.is_empty()) {
            let _ = write!(statement, " {locale} {}", literal(value));
        }
    }
    if facts.tablespace != "pg_default" {
        let _ = write!(statement, " TABLESPACE {}", identifier(&facts.tablespace));
    }
    execute(session, &format!("make database {name:?}"), &statement)
}

/// Whether the role of the session may do everything.
pub(super) fn is_superuser(session: &mut Session) -> Result<bool, CaptureError> {
    ask(
        session,
        "look at the own role",
        "SELECT to_json(current_setting('is_superuser')::bool)",
    )
}

fn is_for_superusers(attribute: &str) -> bool {
    let name = attribute.strip_prefix("NO").unwrap_or(attribute);
    SUPERUSER_ATTRIBUTES.contains(&name)
}
