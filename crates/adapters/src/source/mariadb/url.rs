//! A URL as the way to write down where a server is: `mariadb://USER@HOST:PORT/DATABASE?ssl-ca=FILE`.
//!
//! The parameters are those of the client programs: `socket`, `ssl-ca`, `ssl-cert`, `ssl-key`, `ssl-verify`.

use super::connection::Connection;

/// Why a text is no URL that a configuration may hold; the text is never shown, since it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MariadbUrlError {
    /// Another scheme.
    #[error("the URL begins neither with mariadb:// nor with mysql://")]
    Scheme,
    /// A password stands in it.
    #[error(
        "the URL holds a password; put it into a file of its own and name that as password_file"
    )]
    Password,
    /// It cannot be taken apart.
    #[error("the URL is malformed: {0}")]
    Malformed(&'static str),
    /// A parameter that is not known here.
    #[error(
        "the URL has a parameter {0:?}; known are socket, ssl-ca, ssl-cert, ssl-key and ssl-verify"
    )]
    Parameter(String),
}

/// Reads a URL; also the database that it names, if any.
pub fn parse(text: &str) -> Result<(Connection, Option<String>), MariadbUrlError> {
    let rest = text
        .strip_prefix("mariadb://")
        .or_else(|| text.strip_prefix("mysql://"))
        .ok_or(MariadbUrlError::Scheme)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    if user.contains(':') || user.contains('@') {
        return Err(MariadbUrlError::Password);
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    };
    let port = port.map(str::parse).transpose();
    let mut connection = Connection {
        user: not_empty(decode(user)?),
        host: not_empty(decode(host.trim_matches(['[', ']']))?),
        port: port.map_err(|_| MariadbUrlError::Malformed("the port is no number"))?,
        ..Connection::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or(MariadbUrlError::Malformed("a parameter has no equals sign"))?;
        let value = decode(value)?;
        match decode(key)?.as_str() {
            "socket" => connection.socket = Some(value.into()),
            "ssl-ca" => connection.ssl_ca = Some(value.into()),
            "ssl-cert" => connection.ssl_cert = Some(value.into()),
            "ssl-key" => connection.ssl_key = Some(value.into()),
            "ssl-verify" => connection.ssl_verify = Some(value != "0" && value != "false"),
            "password" | "pwd" => return Err(MariadbUrlError::Password),
            other => return Err(MariadbUrlError::Parameter(other.to_owned())),
        }
    }
    if connection.socket.is_some() {
        // A host with a socket says on which machine that is: this one.
        if !matches!(connection.host.as_deref(), None | Some("localhost")) {
            return Err(MariadbUrlError::Malformed(
                "a socket and a host exclude each other",
            ));
        }
        connection.host = None;
    }
    Ok((connection, not_empty(decode(path)?)))
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(text: &str) -> Result<String, MariadbUrlError> {
    let malformed = MariadbUrlError::Malformed("a percent sign has no two digits after it");
    strongroom_core::source::server::decode_part(text).ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let (connection, database) =
            parse("mariadb://backup@db.example:3307/akamu?ssl-ca=%2Fetc%2Fca.pem&ssl-verify=1")
                .expect("a URL");
        assert_eq!(database.as_deref(), Some("akamu"));
        let expected = Connection {
            user: Some("backup".into()),
            host: Some("db.example".into()),
            port: Some(3307),
            ssl_ca: Some("/etc/ca.pem".into()),
            ssl_verify: Some(true),
            ..Connection::default()
        };
        assert_eq!(connection, expected);
        let (connection, database) =
            parse("mysql://root@localhost?socket=/run/mysqld/mysqld.sock").expect("a URL");
        assert_eq!((connection.host, database), (None, None));
        assert!(connection.socket.is_some());
        let (connection, _) = parse("mariadb://[::1]:3306/").expect("a URL");
        assert_eq!(
            (connection.host.as_deref(), connection.port),
            (Some("::1"), Some(3306))
        );
        assert_eq!(parse("mariadb://"), Ok((Connection::default(), None)));
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for text in [
            "mariadb://u:hunter2@h/d",
            "mariadb://u@h/d?password=hunter2",
            "mysql://u:hunter2@x@h/d",
        ] {
            let error = parse(text).expect_err("refused");
            assert_eq!(error, MariadbUrlError::Password);
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(parse("postgresql://h/d"), Err(MariadbUrlError::Scheme));
        for text in [
            "mariadb://h:x/d",
            "mariadb://%zz/",
            "mariadb://h/d?socket=/s",
            "mariadb://h/d?x",
        ] {
            assert!(
                matches!(parse(text), Err(MariadbUrlError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(
            parse("mariadb://h/d?charset=latin1"),
            Err(MariadbUrlError::Parameter(_))
        ));
    }
}
