//! The one argument that tells a client program where the server is and which database is meant.

use std::fmt::Write as _;

use super::settings::{Connection, PostgresqlSettings};
use crate::client::Client;

/// What the server shows of who is connected.
const APPLICATION_NAME: &str = "strongroom";

/// Seconds that a connection may take to come about, where a URL does not say otherwise.
const CONNECT_TIMEOUT: &str = "30";

/// The connection string for `-d` of `psql`, `pg_dump` and `pg_restore`; without a database, the one that settings or libpq choose.
pub fn conninfo(settings: &PostgresqlSettings, database: Option<&str>) -> String {
    if let Some(url) = &settings.url {
        let url = database.map_or_else(|| url.clone(), |name| url.with_database(name));
        return url
            .with_default("application_name", APPLICATION_NAME)
            .with_default("connect_timeout", CONNECT_TIMEOUT)
            .to_string();
    }
    let mut words = String::new();
    if let Some(service) = &settings.service {
        let _ = write!(words, "service={} ", keyword_value(service));
    }
    if let Some(name) = database {
        let _ = write!(words, "dbname={} ", keyword_value(name));
    }
    let _ = write!(words, "application_name={APPLICATION_NAME}");
    words
}

/// The value for `-l` of `pg_dumpall`, which takes no database from its connection string. It is written as a
/// connection string too, because a name with an equals sign would be taken for one.
pub fn initial_database(database: &str) -> String {
    format!("dbname={}", keyword_value(database))
}

impl Connection {
    /// Starts programs of `directory`, or those in the PATH, with the password of this connection.
    pub fn client(&self, directory: Option<&std::path::Path>) -> Client {
        Client {
            via: self.settings.via.clone(),
            programs: directory.map(ToOwned::to_owned),
            password_file: self.password_file.clone(),
            password_variable: "PGPASSWORD",
        }
    }

    /// Where the server is, for people.
    pub fn place(&self) -> String {
        match (&self.settings.url, &self.settings.service) {
            (Some(url), _) => url.place(),
            (None, Some(service)) => format!("service {service}"),
            (None, None) => "local socket".to_owned(),
        }
    }
}

/// A value in a keyword/value connection string.
fn keyword_value(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// Percent-encodes all but letters, digits and `-._~`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Undoes percent-encoding; none where that is malformed or no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        // libpq refuses it too.
        if byte == 0 {
            return None;
        }
        bytes.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::settings::PostgresqlUrl;
    use super::*;

    #[test]
    fn a_url_gets_the_database_and_the_name_of_the_program() {
        let settings = PostgresqlSettings {
            url: Some(
                PostgresqlUrl::parse("postgres://b@h:5433/ca?sslmode=require").expect("a URL"),
            ),
            ..PostgresqlSettings::default()
        };
        assert_eq!(
            conninfo(&settings, Some("v a")),
            "postgresql://b@h:5433/v%20a?sslmode=require&application_name=strongroom&connect_timeout=30"
        );
        assert!(conninfo(&settings, None).contains("/ca?"));
    }

    #[test]
    fn a_service_gets_the_database_in_quotes() {
        let settings = PostgresqlSettings {
            service: Some("ca".to_owned()),
            ..PostgresqlSettings::default()
        };
        assert_eq!(
            conninfo(&settings, Some("it's a\\b=c")),
            "service='ca' dbname='it\\'s a\\\\b=c' application_name=strongroom"
        );
        assert_eq!(initial_database("x=y"), "dbname='x=y'");
    }

    #[test]
    fn percent_encoding_comes_back() {
        let text = "a/b%c d\u{e9}\n'";
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%00"), None);
    }
}
