//! The keys of the source `postgresql`.

use strongroom_adapters::source::postgresql::{
    Connection, FactsMode, NewestColumn, PostgresqlSettings, PostgresqlUrl,
};
use strongroom_core::source::Class;
use toml::Spanned;

use super::super::section::Section;
use super::super::{ServerSettings, Settings};
use super::{Own, server};

/// Reads the keys of the source `postgresql`.
pub(super) fn read(section: &Section<'_, '_>, (class, directory): Own<'_>) -> Option<Settings> {
    let keys = server::read(section, class, directory);
    let url = section.string("url");
    let service = section.string("service");
    match (&url, &service) {
        (None, None) => section.report(
            &section.span(),
            "\"url\" is missing",
            "Say where the server is: url = \"postgresql://backup@127.0.0.1:5432/ca\", or service = \"NAME\".",
        ),
        (Some(_), Some(service)) => section.report(
            &service.span(),
            "\"url\" and \"service\" both say where the server is",
            "Take one of them out.",
        ),
        _ => {}
    }
    let parsed = url.as_ref().map(|text| parse_url(section, text));
    if let Some(restore) = keys.as_ref().and_then(|keys| keys.restore.as_ref())
        && let Err(error) = PostgresqlUrl::parse(&restore.url)
    {
        let what = format!("\"restore_url\": {error}");
        section.report(
            &section.span(),
            what,
            "It has the form postgresql://USER@HOST:PORT; its password goes into a file of its own, restore_password_file = \"...\".",
        );
    }
    let newest = server::newest::<NewestColumn>(
        section,
        "Name timestamp columns with schema and table, for instance newest = [\"public.certificates.created_at\"].",
    );
    let lock_timeout = section.integer("lock_timeout");
    let lock_timeout = match lock_timeout
        .as_ref()
        .map(|seconds| u64::try_from(*seconds.get_ref()))
    {
        None => None,
        Some(Ok(seconds)) if (1..=86_400).contains(&seconds) => Some(seconds),
        Some(_) => {
            let span = lock_timeout
                .map(|seconds| seconds.span())
                .unwrap_or_default();
            section.report(
                &span,
                "\"lock_timeout\" is out of bounds",
                "Valid are 1 to 86400 seconds.",
            );
            return None;
        }
    };
    let keys = keys?;
    let url = match parsed {
        Some(url) => Some(url?),
        None => None,
    };
    let names_database = url.is_none()
        || !keys.databases.is_empty()
        || url.as_ref().is_some_and(|url| url.database().is_some());
    if keys.class == Class::Database && !names_database {
        section.report(
            &section.span(),
            "no database is named",
            "End the url with /NAME, or write databases = [\"NAME\", ...].",
        );
    }
    let defaults = PostgresqlSettings::default();
    Some(Settings::Postgresql(ServerSettings {
        source: Connection {
            settings: PostgresqlSettings {
                class: keys.class,
                url,
                service: service.map(Spanned::into_inner),
                databases: keys.databases,
                via: keys.via,
                facts: if keys.counts_only {
                    FactsMode::Counts
                } else {
                    FactsMode::Digests
                },
                jobs: keys.jobs.unwrap_or(defaults.jobs),
                newest,
                lock_timeout: lock_timeout.unwrap_or(defaults.lock_timeout),
            },
            password_file: keys.password_file,
            programs: keys.programs,
        },
        restore: keys.restore,
    }))
}

/// The URL is never shown: it may hold a password.
fn parse_url(section: &Section<'_, '_>, text: &Spanned<String>) -> Option<PostgresqlUrl> {
    match PostgresqlUrl::parse(text.get_ref()) {
        Ok(url) => Some(url),
        Err(error) => {
            section.report(
                &text.span(),
                format!("\"url\": {error}"),
                "It has the form postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full; the password goes into a file, password_file = \"...\".",
            );
            None
        }
    }
}
