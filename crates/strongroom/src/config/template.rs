//! The configuration that `strongroom init` writes where there is none.

use std::fmt::Write as _;
use std::path::Path;

use super::parse::{NAME_HINT, is_valid_name};
use super::place::check_url;
use super::recipient::PLACEHOLDER;

const COMMON: [&str; 5] = ["database", "config", "certificate", "log", "audit"];
const SECRET: [&str; 2] = ["key", "secret"];

/// Reads `NAME=URL`; the error is a whole sentence for the command line.
pub(crate) fn parse_repository_argument(text: &str) -> Result<(String, String), String> {
    let Some((name, url)) = text.split_once('=') else {
        return Err("write NAME=URL, for instance offsite=file:///srv/backups".into());
    };
    if !is_valid_name(name) {
        return Err(format!(
            "\"{}\" is not a name. {NAME_HINT}",
            name.escape_debug()
        ));
    }
    check_url(url, Path::new("/")).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), url.to_owned()))
}

/// A commented configuration with these repositories, names and URLs, or with two examples.
///
/// It is valid as soon as each recipient placeholder is replaced by a recipient. Keys get a repository
/// of their own where there is more than one: the first that is named after keys, else the last.
pub(crate) fn template(repositories: &[(String, String)]) -> String {
    let defaults = [
        (
            "offsite".to_owned(),
            "file:///srv/backups/example-ca".to_owned(),
        ),
        (
            "keysafe".to_owned(),
            "file:///srv/keysafe/example-ca".to_owned(),
        ),
    ];
    let repositories = match repositories {
        [] => &defaults[..],
        given => given,
    };
    let keys = (repositories.len() > 1).then(|| {
        repositories
            .iter()
            .position(|(name, _)| ["key", "secret", "safe"].iter().any(|w| name.contains(w)))
            .unwrap_or(repositories.len() - 1)
    });
    let mut text = String::from(HEAD);
    for (index, (name, url)) in repositories.iter().enumerate() {
        push_repository(&mut text, name, url, keys == Some(index));
    }
    if keys.is_none() {
        text.push_str(KEYS_LATER);
    }
    // With several repositories for databases each asset says where it goes.
    let common = repositories
        .iter()
        .enumerate()
        .find(|(index, _)| keys != Some(*index))
        .map_or("", |(_, (name, _))| name.as_str());
    let choose = match repositories.len() {
        0..=2 => String::new(),
        _ => format!("repository = {}\n", quoted(common)),
    };
    let assets = ASSETS.replace(
        "#REPOSITORY\n",
        &choose.replace("repository", "#repository"),
    );
    text.push_str(&assets.replace("REPOSITORY\n", &choose));
    match keys {
        Some(_) => text.push_str(KEY),
        None => KEY.lines().for_each(|line| {
            let _ = writeln!(text, "#{line}");
        }),
    }
    text
}

fn push_repository(text: &mut String, name: &str, url: &str, keys: bool) {
    let (what, classes) = if keys {
        (KEYS_COMMENT, &SECRET[..])
    } else {
        (COMMON_COMMENT, &COMMON[..])
    };
    let accepts: Vec<String> = classes.iter().map(|class| quoted(class)).collect();
    let accepts = accepts.join(", ");
    let (url, recipient) = (
        quoted(url),
        quoted(&format!("{PLACEHOLDER}-BY-THE-RECIPIENT-FOR-{name}")),
    );
    let _ = write!(
        text,
        "\n{what}[repository.{name}]\nurl = {url}\nrecipients = [{recipient}]   # REPLACE\naccepts = [{accepts}]\n"
    );
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const HEAD: &str = r#"# What Strongroom protects, where the backups go, and who can open them.
# Replace what is marked REPLACE, look at what is marked EXAMPLE, then run:
#
#   strongroom init      makes the writer key and the repositories named below
#   strongroom check     tells what is wrong or missing
#   strongroom backup
#
# Relative paths count from the directory of this file.

[deployment]
name = "example-ca"                       # EXAMPLE

[writer]
# Signs the backups of this host and opens none of them.
key_file = "writer.key"
"#;

const COMMON_COMMENT: &str = "\
# A repository is sealed to its recipients; only their identities open it. Make an identity on another
# machine with `strongroom identity new --out FILE`, keep the file there, and put the recipient it prints here.
";

const KEYS_COMMENT: &str = "\
# Keys and secrets lie apart from the databases, for other recipients: nobody opens both.
";

const KEYS_LATER: &str = r#"
# Keys and secrets need a repository apart from the databases, for other recipients:
#[repository.keysafe]
#url = "file:///srv/keysafe/example-ca"
#recipients = ["age1REPLACE-BY-THE-RECIPIENT-FOR-keysafe"]
#accepts = ["key", "secret"]
"#;

const ASSETS: &str = r#"
# The assets: everything that must come back, each with a class that a repository accepts.

[asset.database]
source = "sqlite"
class = "database"
REPOSITORY
path = "/var/lib/example/ca.sqlite3"      # EXAMPLE
# newest = ["certificates.issued_at"]     # records how fresh a backup is

# A database on a server; the account needs little more than to read: docs/guide/sources/postgresql.md, mariadb.md.
#[asset.server-database]
#source = "postgresql"
#class = "database"
#REPOSITORY
#url = "postgresql://strongroom@127.0.0.1:5432/ca"      # EXAMPLE; no password in it
#password_file = "/etc/strongroom/postgresql.password"
#
#[asset.server-database]
#source = "mariadb"
#class = "database"
#REPOSITORY
#url = "mariadb://strongroom@127.0.0.1:3306/ca"         # EXAMPLE; no password in it
#password_file = "/etc/strongroom/mariadb.password"

[asset.config]
source = "files"
class = "config"
REPOSITORY
paths = ["/etc/example/ca.toml"]          # EXAMPLE
# exclude = ["*.bak"]
# on_secret = "redirect"                  # files with secrets go to the keys; without it they are left out and said

[asset.certificates]
source = "files"
class = "certificate"
REPOSITORY
paths = ["/etc/example/ca.cert.pem"]      # EXAMPLE

[asset.log]
source = "files"
class = "log"
REPOSITORY
paths = ["/var/log/example/ca.log"]       # EXAMPLE
"#;

const KEY: &str = r#"
[asset.ca-key]
source = "files"
class = "key"
paths = ["/etc/example/ca.key.pem"]       # EXAMPLE
certificate = "/etc/example/ca.cert.pem"  # EXAMPLE; the key must belong to it
"#;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("strongroom.toml"), Path::new("/etc/s"))
            .map_err(|errors| errors.to_string())
    }

    /// Puts a recipient of its own in place of each placeholder.
    fn fill_in(template: &str) -> String {
        let mut text = String::new();
        for line in template.lines() {
            match (line.find(PLACEHOLDER), line.starts_with('#')) {
                (Some(start), false) => {
                    let end = start + line[start..].find('"').expect("a closing quote");
                    let recipient = age::x25519::Identity::generate().to_public();
                    let _ = writeln!(text, "{}{recipient}{}", &line[..start], &line[end..]);
                }
                _ => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }

    fn given(arguments: &[&str]) -> Vec<(String, String)> {
        let parsed = arguments.iter().map(|text| parse_repository_argument(text));
        parsed.collect::<Result<_, _>>().expect("valid")
    }

    #[test]
    fn it_is_valid_once_the_recipients_are_filled_in() {
        for (arguments, keys) in [
            (&[][..], Some("keysafe")),
            (&["a=file:///a", "b=file:b"], Some("b")),
            (&["my-keys=file:///k", "b=file:///b"], Some("my-keys")),
            (&["a=file:///a", "b=file:///b", "c=file:///\"c"], Some("c")),
            (&["only=file:///a"], None),
        ] {
            let template = template(&given(arguments));
            let config = parse(&fill_in(&template)).unwrap_or_else(|errors| {
                panic!("{arguments:?}: {errors}\n{template}");
            });
            assert_eq!(
                config.repositories.len(),
                arguments.len().max(1 + usize::from(arguments.is_empty()))
            );
            let key = config
                .asset("ca-key")
                .map(|asset| config.repository_of(asset));
            assert_eq!(key.map(|repository| repository.name.as_str()), keys);
            let database = config.asset("database").expect("an example");
            assert_ne!(Some(config.repository_of(database).name.as_str()), keys);
        }
    }

    #[test]
    fn the_databases_of_servers_are_valid_without_the_comment_signs() {
        for arguments in [&[][..], &["a=file:a", "b=file:b", "repository=file:c"]] {
            let template = template(&given(arguments));
            for source in ["postgresql", "mariadb"] {
                let (begin, example) = template
                    .split_once("#[asset.server-database]\n")
                    .map(|(begin, rest)| (begin, format!("#[asset.server-database]\n{rest}")))
                    .expect("an example");
                let blocks: Vec<&str> = example.split("\n\n").collect();
                let uncommented: Vec<String> = blocks[0]
                    .split("#\n")
                    .filter(|block| block.contains(source))
                    .map(|block| {
                        block
                            .replace("\n#", "\n")
                            .trim_start_matches('#')
                            .to_owned()
                    })
                    .collect();
                let text = [&[begin.to_owned()], &uncommented[..]].concat().join("\n");
                let text = format!("{text}\n\n{}", blocks[1..].join("\n\n"));
                let config = parse(&fill_in(&text)).unwrap_or_else(|errors| {
                    panic!("{errors}\n{text}");
                });
                let asset = config.asset("server-database").expect("the example");
                assert_eq!(asset.source(), source);
            }
        }
    }

    #[test]
    fn the_placeholders_are_refused_one_by_one() {
        let errors = parse(&template(&[])).expect_err("placeholders");
        assert_eq!(errors.matches("placeholder").count(), 2, "{errors}");
        assert_eq!(errors.lines().count(), 2, "{errors}");
    }

    #[test]
    fn an_argument_is_a_name_and_a_url() {
        assert_eq!(
            parse_repository_argument("a-1=file:x=y"),
            Ok(("a-1".into(), "file:x=y".into()))
        );
        for (text, why) in [
            ("offsite", "NAME=URL"),
            ("Off site=file:///x", "is not a name"),
            ("=file:///x", "is not a name"),
            ("a=/srv", "not a URL"),
        ] {
            let error = parse_repository_argument(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
