//! The keys of the source `mariadb`.

use strongroom_adapters::source::mariadb::url;
use strongroom_adapters::source::mariadb::{FactsKind, MariadbSettings, NewestColumn};
use strongroom_core::source::Class;
use toml::Spanned;

use super::super::section::Section;
use super::super::{ServerSettings, Settings};
use super::{Own, server};

/// Connections that prove a restored database at the same time.
const JOBS: usize = 2;

/// Reads the keys of the source `mariadb`.
pub(super) fn read(section: &Section<'_, '_>, (class, directory): Own<'_>) -> Option<Settings> {
    let keys = server::read(section, class, directory);
    let hint = "Say where the server is: url = \"mariadb://backup@127.0.0.1:3306/ca\", or \"mariadb://root@localhost/ca?socket=/run/mysqld/mysqld.sock\".";
    let text = section.required("url", hint);
    let parsed = text
        .as_ref()
        .and_then(|text| match url::parse(text.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                section.report(&text.span(), format!("\"url\": {error}"), hint);
                None
            }
        });
    if let Some(restore) = keys.as_ref().and_then(|keys| keys.restore.as_ref())
        && let Err(error) = url::parse(&restore.url)
    {
        section.report(
            &section.span(),
            format!("\"restore_url\": {error}"),
            "It has the form mariadb://USER@HOST:PORT; its password goes into a file of its own, restore_password_file = \"...\".",
        );
    }
    let newest = server::newest::<NewestColumn>(
        section,
        "Name timestamp columns with database and table, for instance newest = [\"ca.certificates.created_at\"].",
    );
    let grants = section.boolean("grants");
    let keys = keys?;
    let (mut connection, database) = parsed?;
    let mut databases = keys.databases;
    if databases.is_empty() {
        databases.extend(database);
    }
    if keys.class == Class::Database && databases.is_empty() {
        section.report(
            &section.span(),
            "no database is named",
            "End the url with /NAME, or write databases = [\"NAME\", ...].",
        );
        return None;
    }
    if keys.class == Class::Secret {
        databases.clear();
    }
    connection.via = keys.via;
    connection.programs = keys.programs;
    connection.password_file = keys.password_file;
    Some(Settings::Mariadb(ServerSettings {
        source: MariadbSettings {
            class: keys.class,
            connection,
            databases,
            facts: if keys.counts_only {
                FactsKind::Counts
            } else {
                FactsKind::Digests
            },
            newest,
            grants: grants.is_none_or(Spanned::into_inner),
            jobs: keys.jobs.unwrap_or(JOBS),
        },
        restore: keys.restore,
    }))
}
