//! What is known of a server and its databases, as it stands in the manifest and is read again by a restore.
//!
//! Only shapes and their plain readings; who asks the server is the module `catalogue`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_core::source::tables::TableFacts;

use super::super::migrations::Migrations;
use super::session::{identifier, literal};

/// Settings whose value is a list of names, each of which is quoted by itself.
const LISTS: [&str; 7] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
    "createrole_self_grant",
];

/// The facts of an asset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The server.
    pub server: ServerFacts,
    /// Each database, by its name.
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// 150008 is 15.8.
    pub version_num: u32,
    /// The version in words.
    pub version: String,
    /// What tells this cluster from others, where it may be read.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// Whether it follows another server.
    pub is_standby: bool,
    /// The major version of the client programs that captured it.
    #[serde(default)]
    pub programs_major: u32,
}

/// One database, in one cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// The name of the encoding, as the server writes it.
    pub encoding: String,
    /// `c` libc, `i` ICU, `b` built-in.
    pub locale_provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale of ICU or of the built-in provider.
    #[serde(default)]
    pub locale: Option<String>,
    /// The version of the collation that the database was made with.
    #[serde(default)]
    pub collation_version: Option<String>,
    /// The version of the collation that the server's libraries have.
    #[serde(default)]
    pub collation_version_actual: Option<String>,
    /// The owner.
    pub owner: String,
    /// The comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// -1 for no limit.
    pub connection_limit: i64,
    /// The default tablespace.
    pub tablespace: String,
    /// Grants on the database; none where nobody ever changed them.
    #[serde(default)]
    pub grants: Option<Vec<Grant>>,
    /// Settings of the database, and of roles in it.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Extensions.
    #[serde(default)]
    pub extensions: BTreeMap<String, Extension>,
    /// When the cut was made, and where in the WAL.
    pub cut: Cut,
    /// Names of event triggers.
    #[serde(default)]
    pub event_triggers: Vec<String>,
    /// Names of publications.
    #[serde(default)]
    pub publications: Vec<String>,
    /// Names of subscriptions; they are not captured.
    #[serde(default)]
    pub subscriptions: Vec<String>,
    /// Replication slots that belong to this database; they are not captured.
    #[serde(default)]
    pub replication_slots: Vec<String>,
    /// How many large objects there are.
    #[serde(default)]
    pub large_objects: u64,
    /// Roles that own something or were granted something, and those that they are members of.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// Rows and digest of every table that holds rows of its own.
    #[serde(default)]
    pub tables: BTreeMap<String, TableFacts>,
    /// What those and the other tables are; the same keys.
    #[serde(default)]
    pub relations: BTreeMap<String, Relation>,
    /// Sequences.
    #[serde(default)]
    pub sequences: BTreeMap<String, Sequence>,
    /// Materialised views, in an order in which they can be refreshed.
    #[serde(default)]
    pub materialized_views: Vec<MaterializedView>,
    /// The newest value of each declared column.
    #[serde(default)]
    pub newest: BTreeMap<String, serde_json::Value>,
    /// The rows of the migration tables.
    #[serde(default)]
    pub migrations: BTreeMap<String, Migrations>,
}

/// A moment in the life of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// By the server's clock, in UTC.
    pub time: String,
    /// The same in seconds since 1970.
    pub seconds: i64,
    /// Written, or replayed on a standby, shortly after the snapshot.
    #[serde(default)]
    pub wal_lsn: Option<String>,
}

/// A privilege on the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Who granted it.
    pub grantor: String,
    /// To whom; none for everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE`, `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub is_grantable: bool,
}

/// A setting of a database, or of a role in a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The role; none for everybody.
    pub role: Option<String>,
    /// The parameter.
    pub name: String,
    /// Its value, as the server keeps it.
    pub value: String,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extension {
    /// Its version.
    pub version: String,
    /// The schema of its objects.
    pub schema: String,
}

/// A role, without its password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// What it may do: `SUPERUSER`, `NOINHERIT`, `LOGIN`, as in `CREATE ROLE`.
    pub attributes: Vec<String>,
    /// -1 for no limit.
    pub connection_limit: i64,
    /// Until when its password is valid.
    #[serde(default)]
    pub valid_until: Option<String>,
    /// Roles that it is a member of, and whether it may make others members.
    #[serde(default)]
    pub member_of: BTreeMap<String, bool>,
}

/// A table of any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// The columns in its stream, in order.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The path of its stream below the folder of the database, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The extension that it belongs to: then only rows that the extension does not bring are captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Which rows of a table of an extension are captured, as a `WHERE` clause; empty for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partition that holds rows.
    Partition,
    /// A table that is empty after a crash.
    Unlogged,
    /// Partitions hold its rows.
    Partitioned,
    /// Its rows are elsewhere.
    Foreign,
}

/// Where a sequence stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The value last given out, or the first to be.
    pub last_value: i64,
    /// Whether it was given out.
    pub is_called: bool,
}

/// A materialised view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaterializedView {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it was filled.
    pub is_populated: bool,
    /// How many rows it had; they are as old as its last refresh.
    #[serde(default)]
    pub rows: Option<u64>,
}

/// The key of a table: `schema.table`, a part with a dot or a quote in double quotes.
pub fn key(schema: &str, name: &str) -> String {
    let part = |part: &str| {
        if part.contains(['.', '"']) {
            identifier(part)
        } else {
            part.to_owned()
        }
    };
    format!("{}.{}", part(schema), part(name))
}

impl DatabaseFacts {
    /// The statements that give a database of the name `database` its grants; each role's name is asked of `role`.
    pub fn grant_statements(&self, database: &str, role: &dyn Fn(&str) -> String) -> Vec<String> {
        let Some(grants) = &self.grants else {
            return Vec::new();
        };
        let database = identifier(database);
        let owner = identifier(&role(&self.owner));
        let mut statements = vec![
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
            format!("REVOKE ALL ON DATABASE {database} FROM {owner}"),
        ];
        for grant in grants {
            let grantee = grant
                .grantee
                .as_ref()
                .map_or_else(|| "PUBLIC".to_owned(), |name| identifier(&role(name)));
            let option = if grant.is_grantable && grant.grantee.is_some() {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            statements.push(format!(
                "GRANT {} ON DATABASE {database} TO {grantee}{option}",
                grant.privilege
            ));
        }
        statements
    }

    /// The statements that give a database of the name `database` its settings.
    pub fn setting_statements(&self, database: &str, role: &dyn Fn(&str) -> String) -> Vec<String> {
        let database = identifier(database);
        let whose = |setting: &Setting| match &setting.role {
            Some(name) => format!("ROLE {} IN DATABASE {database}", identifier(&role(name))),
            None => format!("DATABASE {database}"),
        };
        self.settings
            .iter()
            .map(|setting| {
                format!(
                    "ALTER {} SET {} TO {}",
                    whose(setting),
                    parameter(&setting.name),
                    value(setting)
                )
            })
            .collect()
    }
}

/// The name of a parameter; one of an extension has two parts.
fn parameter(name: &str) -> String {
    name.split('.')
        .map(identifier)
        .collect::<Vec<_>>()
        .join(".")
}

fn value(setting: &Setting) -> String {
    if !LISTS.contains(&setting.name.as_str()) {
        return literal(&setting.value);
    }
    let names: Vec<String> = list(&setting.value)
        .iter()
        .map(|name| literal(name))
        .collect();
    if names.is_empty() {
        return "''".to_owned();
    }
    names.join(", ")
}

/// Takes a list of names apart, quoted or not.
fn list(text: &str) -> Vec<String> {
    let (mut names, mut name, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                name.push('"');
                letters.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => names.push(std::mem::take(&mut name)),
            ' ' if !is_quoted => {}
            other => name.push(other),
        }
    }
    if !text.trim().is_empty() {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_tables_differ() {
        assert_eq!(key("public", "orders"), "public.orders");
        assert_ne!(key("a.b", "c"), key("a", "b.c"));
        assert_ne!(key("a\"", "b"), key("a", "\"b"));
    }

    #[test]
    fn settings_and_grants_become_statements() {
        let setting = |role: Option<&str>, name: &str, value: &str| Setting {
            role: role.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let facts = DatabaseFacts {
            owner: "o".to_owned(),
            settings: vec![
                setting(None, "search_path", "public, \"odd \"\"schema\""),
                setting(Some("r"), "my.setting", "it's"),
            ],
            grants: Some(vec![Grant {
                grantor: "o".to_owned(),
                grantee: Some("r".to_owned()),
                privilege: "CONNECT".to_owned(),
                is_grantable: true,
            }]),
            ..DatabaseFacts::default()
        };
        let same = |name: &str| name.to_owned();
        assert_eq!(
            facts.setting_statements("d", &same),
            [
                "ALTER DATABASE \"d\" SET \"search_path\" TO 'public', 'odd \"schema'",
                "ALTER ROLE \"r\" IN DATABASE \"d\" SET \"my\".\"setting\" TO 'it''s'",
            ]
        );
        assert_eq!(
            facts.grant_statements("d", &|name| format!("new_{name}"))[1..],
            [
                "REVOKE ALL ON DATABASE \"d\" FROM \"new_o\"",
                "GRANT CONNECT ON DATABASE \"d\" TO \"new_r\" WITH GRANT OPTION",
            ]
        );
    }
}
