//! The keys of a repository at an SSH server: the parts of its URL, and the host key that counts.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::sftp::SftpSettings;
use toml::Spanned;

use super::super::location::{UrlError, percent_decoded, resolve};
use super::super::section::Section;
use super::Surrounding;

const HINT: &str = "Write sftp://user@host:port/absolute/path, or sftp://user@host/~/path from where a login begins.";
const HOST_KEY_HINT: &str = "Write kind and key as they stand in the server's /etc/ssh/ssh_host_ed25519_key.pub, for instance \"ssh-ed25519 AAAA...\".";

pub(super) fn read(
    section: &Section<'_, '_>,
    url: &Spanned<String>,
    around: Surrounding<'_>,
) -> Option<Place> {
    let known_hosts = section.string("known_hosts");
    let host_key = section.string("host_key");
    let mut settings = match parse(url.get_ref()) {
        Ok(settings) => settings,
        Err(error) => {
            section.report(&url.span(), format!("\"url\": {error}"), HINT);
            return None;
        }
    };
    if let (Some(_), Some(key)) = (&known_hosts, &host_key) {
        section.report(
            &key.span(),
            "both \"known_hosts\" and \"host_key\"",
            "Keep one of them: each says alone which host keys count.",
        );
        return None;
    }
    if let Some(key) = host_key {
        let Some(parsed) = parse_host_key(key.get_ref()) else {
            section.report(&key.span(), "\"host_key\" is no host key", HOST_KEY_HINT);
            return None;
        };
        settings.host_key = Some(parsed);
    }
    settings.known_hosts = known_hosts.map(|file| resolve(around.directory, file.into_inner()));
    Some(Place::Sftp(settings))
}

fn parse(url: &str) -> Result<SftpSettings, UrlError> {
    let rest = url
        .strip_prefix("sftp://")
        .ok_or_else(|| UrlError::new("sftp: is followed by //"))?;
    let (authority, path) = rest
        .split_once('/')
        .ok_or_else(|| UrlError::new("the URL names no directory"))?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    // The password itself is never repeated.
    if user.is_some_and(|user| user.contains(':')) {
        return Err(UrlError::new(
            "the URL holds a password; log in with a key, which credentials_file names",
        ));
    }
    if let Some(user) = user
        && !is_word(user)
    {
        return Err(UrlError::new("the user is empty or has odd characters"));
    }
    let (host, port) = parse_host(host)?;
    if let Some(character) = path.chars().find(|&c| "?#".contains(c) || c.is_control()) {
        let character = character.escape_default();
        return Err(UrlError::new(format!(
            "the URL must not contain '{character}' as it is"
        )));
    }
    let path = percent_decoded(path)?
        .into_string()
        .map_err(|_| UrlError::new("the path is not UTF-8"))?;
    let directory = match path.trim_end_matches('/') {
        "~" => ".".to_owned(),
        path => match path.strip_prefix("~/") {
            Some(relative) => relative.to_owned(),
            None => format!("/{path}"),
        },
    };
    if directory == "/" || directory.split('/').any(|part| part == "..") {
        return Err(UrlError::new("the URL names no directory of its own"));
    }
    Ok(SftpSettings {
        url: url.to_owned(),
        host,
        port,
        user: user.map(str::to_owned),
        directory,
        known_hosts: None,
        host_key: None,
    })
}

fn parse_host(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner
            .split_once(']')
            .ok_or_else(|| UrlError::new("'[' without ']'"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_address = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    if !is_address && !is_word(host) {
        return Err(UrlError::new("the host is empty or has odd characters"));
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(
            port.parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| UrlError::new("the port is no number from 1 to 65535"))?,
        ),
        None if rest.is_empty() => None,
        None => return Err(UrlError::new("the host has odd characters")),
    };
    Ok((host.to_owned(), port))
}

/// A word that no program takes for an option.
fn is_word(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
}

/// Kind and key; a comment behind them is left out.
fn parse_host_key(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let is_kind = ["ssh-", "ecdsa-sha2-", "sk-"]
        .iter()
        .any(|start| kind.starts_with(start));
    let line = format!("{kind} {key}");
    // The kind stands in the key once more, and both must agree.
    let is_key = is_kind && ssh_key::PublicKey::from_openssh(&line).is_ok();
    (is_key && !text.contains(['\n', '\r'])).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("sftp://h/srv/x", None, "h", None, "/srv/x"),
            (
                "sftp://u@h.example:2222/srv/x/",
                Some("u"),
                "h.example",
                Some(2222),
                "/srv/x",
            ),
            (
                "sftp://u@[::1]:22/a%20b",
                Some("u"),
                "::1",
                Some(22),
                "/a b",
            ),
            ("sftp://h/~/backups/ca", None, "h", None, "backups/ca"),
            ("sftp://h/~", None, "h", None, "."),
        ];
        for (url, user, host, port, directory) in cases {
            let found = parse(url).expect(url);
            assert_eq!(found.user.as_deref(), user, "{url}");
            assert_eq!((found.host.as_str(), found.port), (host, port), "{url}");
            assert_eq!(found.directory, directory, "{url}");
        }
    }

    #[test]
    fn faulty_urls_are_refused_without_their_password() {
        for (url, why) in [
            ("sftp://u:planted@h/x", "holds a password"),
            ("sftp://u:planted@x@h/x", "holds a password"),
            ("sftp:/h/x", "followed by //"),
            ("sftp://h", "names no directory"),
            ("sftp://h/", "names no directory"),
            ("sftp://h/a/../b", "names no directory of its own"),
            ("sftp:///x", "the host is empty"),
            ("sftp://-oProxyCommand=x/x", "the host is empty or has odd"),
            ("sftp://-l@h/x", "the user is empty or has odd"),
            ("sftp://h:0/x", "the port"),
            ("sftp://h:x/x", "the port"),
            ("sftp://[::1/x", "without ']'"),
            ("sftp://h/x?y", "must not contain '?'"),
            ("sftp://h/%ff", "not UTF-8"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn host_keys_are_kind_and_key() {
        let keys = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDSZiVjuH7dEVPgLUyEbG7rz16GVKgi7fcnPiD2EnQIG",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDryIk295FvIAc00xFZslhuU62cB4ObAL9ZAZXR8vLLc5tgnDz8getoldG4S3yJl7QGD9vAlD/df1mTRQZoiXt3J7Ts8OsHS8FyedNp/278dPdaFmLJs44i4c2pMRjhPPxCha+al7nqrkuvVQYXZz+B/UoJn6JHKZOzZ4Zotnri0zXNIs1zJDU5cHW1Oc9FS+Zpuhc799BafTeYzQcV/ywregX/rMsvmBp8DfCTQqa+8EXEQWM/v1gM2DXDqlZxrnUsCZdzLiXc1+XlGOFV9spla4Ln3hV1UVBsbHrq1a2qqtNTb0RmCBezV2xAqwkLuazgsyLGonAosSi8Q//Ze6+j",
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNofjY0cjCocWfpT3gjaIx6kE2mILBnFwjfUf7fzpMSJ6qy62jB7TLMCYtJdof112fGyrS6xRd9bsd1TJKOrkRY=",
        ];
        for key in keys {
            let commented = format!("{key} root@host");
            assert_eq!(parse_host_key(&commented).as_deref(), Some(key));
        }
        for wrong in [
            "",
            "AAAA",
            "SHA256:x",
            "ssh-ed25519 xyz",
            "ssh-ed25519 AAAA",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDSZiVjuH7dEVPgLUyEb",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIDSZiVjuH7dEVPgLUyEbG7rz16GVKgi7fcnPiD2EnQIG",
            "ssh-rsa AAAA\n* ssh-rsa AAAB",
        ] {
            assert_eq!(parse_host_key(wrong), None, "{wrong}");
        }
    }
}
