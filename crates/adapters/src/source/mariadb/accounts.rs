//! Users, roles and grants: read without passwords, told apart by what they may do, and created again locked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::session::{Session, SessionError};
use super::sql;

/// Accounts that every server has, or that are nobody.
const BUILT_IN: [&str; 3] = ["mariadb.sys", "PUBLIC", ""];

/// What a grant can be on, before the name of the database.
const KINDS: [&str; 5] = ["", "PROCEDURE ", "FUNCTION ", "PACKAGE ", "PACKAGE BODY "];

/// A user or role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// Whether it is a role.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_role: bool,
    /// What it may do, as statements without passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) grants: Vec<String>,
}

/// What the account of the session may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Privileges {
    /// Scope and privileges: `*.*`, `` `ca`.* ``.
    granted: Vec<(String, BTreeSet<String>)>,
}

impl Privileges {
    /// Reads them.
    pub(super) fn read(session: &mut Session) -> Result<Self, SessionError> {
        let lines = session.lines("SHOW GRANTS")?;
        let granted = lines.iter().filter_map(|line| {
            let (what, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
            let (scope, _) = rest.split_once(" TO ")?;
            let what = what.split(", ").map(str::to_owned).collect();
            Some((scope.to_owned(), what))
        });
        Ok(Self {
            granted: granted.collect(),
        })
    }

    /// Whether `privilege` holds for the whole server.
    pub(super) fn has(&self, privilege: &str) -> bool {
        self.holds(privilege, |scope| scope == "*.*")
    }

    /// Whether `privilege` holds for all of a database.
    pub(super) fn has_in(&self, privilege: &str, database: &str) -> bool {
        self.holds(privilege, |scope| {
            scope == "*.*"
                || scope
                    .strip_suffix(".*")
                    .and_then(|name| sql::quoted_name(name.as_bytes()))
                    .is_some_and(|(pattern, _)| is_like(database, &pattern))
        })
    }

    /// Whether the definitions of all routines can be read.
    pub(super) fn sees_routines(&self, database: &str) -> bool {
        self.has_in("SELECT", "mysql")
            || self.has_in("SHOW CREATE ROUTINE", database)
            || self.holds("SELECT", |scope| scope == "`mysql`.`proc`")
    }

    fn holds(&self, privilege: &str, scope_is: impl Fn(&str) -> bool) -> bool {
        self.granted.iter().any(|(scope, what)| {
            scope_is(scope) && (what.contains("ALL PRIVILEGES") || what.contains(privilege))
        })
    }
}

/// Whether a name fits a pattern of a grant: `%`, `_`, and a backslash before a character that stands for itself.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_chars.as_str();
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| is_like(&name[at..], rest))
        }
        Some(first) => {
            let (any, literal) = match first {
                '_' => (true, first),
                '\\' => (false, pattern_chars.next().unwrap_or('\\')),
                other => (false, other),
            };
            let mut name_chars = name.chars();
            name_chars.next().is_some_and(|char| any || char == literal)
                && is_like(name_chars.as_str(), pattern_chars.as_str())
        }
    }
}

/// The account of a definer: `user@host` as the catalogue writes it, or the name of a role.
pub(super) fn of_definer(definer: &str) -> String {
    match definer.rsplit_once('@') {
        Some((user, "")) => sql::name(user),
        Some((user, host)) => format!("{}@{}", sql::name(user), sql::name(host)),
        None => sql::name(definer),
    }
}

/// All accounts of the server but those that every server has, with their grants.
pub(super) fn read(session: &mut Session) -> Result<BTreeMap<String, Account>, SessionError> {
    let rows: Vec<(String, String, String)> =
        session.json("SELECT JSON_ARRAY(user, host, is_role) FROM mysql.user ORDER BY 1")?;
    let mut accounts = BTreeMap::new();
    for (user, host, is_role) in rows {
        if BUILT_IN.contains(&user.as_str()) {
            continue;
        }
        let is_role = is_role == "Y";
        let name = if is_role {
            sql::name(&user)
        } else {
            format!("{}@{}", sql::name(&user), sql::name(&host))
        };
        let lines = session.lines(&format!("SHOW GRANTS FOR {name}"))?;
        let grants = lines.iter().map(|line| without_password(line)).collect();
        accounts.insert(name, Account { is_role, grants });
    }
    Ok(accounts)
}

/// Which accounts the server has, of all.
pub(super) fn existing(session: &mut Session) -> Result<BTreeSet<String>, SessionError> {
    let rows: Vec<(String, String, String)> =
        session.json("SELECT JSON_ARRAY(user, host, is_role) FROM mysql.user")?;
    let names = rows.into_iter().map(|(user, host, is_role)| {
        if is_role == "Y" {
            sql::name(&user)
        } else {
            format!("{}@{}", sql::name(&user), sql::name(&host))
        }
    });
    Ok(names.collect())
}

/// Those that define something in a database or may do something there, with the grants that concern it.
pub(super) fn concerning(
    all: &BTreeMap<String, Account>,
    database: &str,
    definers: &BTreeSet<String>,
) -> BTreeMap<String, Account> {
    let mut concerned = BTreeMap::new();
    for (name, account) in all {
        let grants: Vec<String> = account
            .grants
            .iter()
            .filter(|grant| concerns(grant, database))
            .cloned()
            .collect();
        if !grants.is_empty() {
            let is_role = account.is_role;
            concerned.insert(name.clone(), Account { is_role, grants });
        }
    }
    for definer in definers {
        let name = of_definer(definer);
        let is_role = !name.contains("`@`");
        concerned.entry(name).or_insert_with(|| Account {
            is_role,
            grants: Vec::new(),
        });
    }
    concerned
}

/// Whether a grant is for a database or something in it.
fn concerns(grant: &str, database: &str) -> bool {
    let plain = sql::name(database);
    let escaped = sql::name(&database.replace('_', "\\_").replace('%', "\\%"));
    [plain, escaped].iter().any(|quoted| {
        KINDS
            .iter()
            .any(|kind| grant.contains(&format!(" ON {kind}{quoted}.")))
    })
}

/// The same grant for another database.
pub(super) fn renamed(grant: &str, from: &str, to: &str) -> String {
    let escaped = from.replace('_', "\\_").replace('%', "\\%");
    for quoted in [sql::name(from), sql::name(&escaped)] {
        for kind in KINDS {
            let wanted = format!(" ON {kind}{quoted}.");
            if let Some(at) = grant.find(&wanted) {
                let rest = &grant[at + wanted.len()..];
                return format!("{} ON {kind}{}.{rest}", &grant[..at], sql::name(to));
            }
        }
    }
    grant.to_owned()
}

/// Takes `IDENTIFIED ...` out of a grant.
pub(super) fn without_password(grant: &str) -> String {
    let mut outside = String::new();
    let mut is_password = false;
    let mut quote = None;
    let mut rest = grant;
    while let Some(char) = rest.chars().next() {
        if quote.is_none() {
            if rest.starts_with(" IDENTIFIED ") {
                is_password = true;
            } else if rest.starts_with(" REQUIRE ") || rest.starts_with(" WITH ") {
                is_password = false;
            }
        }
        match quote {
            Some(open) if open == char => quote = None,
            None if matches!(char, '\'' | '`' | '"') => quote = Some(char),
            _ => {}
        }
        if !is_password {
            outside.push(char);
        }
        rest = &rest[char.len_utf8()..];
    }
    outside
}

/// The statement that creates an account that nobody can log in to.
pub(super) fn create(name: &str, account: &Account) -> String {
    if account.is_role {
        format!("CREATE ROLE IF NOT EXISTS {name}")
    } else {
        format!("CREATE USER IF NOT EXISTS {name} ACCOUNT LOCK")
    }
}

/// All accounts as a script for `mariadb`.
pub(super) fn script(accounts: &BTreeMap<String, Account>) -> String {
    let mut script = String::from(
        "-- Users, roles and grants, without passwords. Who is created here is locked: set a password, then\n\
         -- ALTER USER ... ACCOUNT UNLOCK.\n",
    );
    for (name, account) in accounts {
        script += &create(name, account);
        script += ";\n";
    }
    for account in accounts.values() {
        for grant in &account.grants {
            script += grant;
            script += ";\n";
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_taken_out_of_grants() {
        for (grant, without) in [
            (
                "GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*D821' REQUIRE SSL WITH GRANT OPTION",
                "GRANT USAGE ON *.* TO `app`@`%` REQUIRE SSL WITH GRANT OPTION",
            ),
            (
                "GRANT USAGE ON *.* TO `a IDENTIFIED b`@`%` IDENTIFIED VIA ed25519 USING 'x WITH ' OR unix_socket",
                "GRANT USAGE ON *.* TO `a IDENTIFIED b`@`%`",
            ),
            (
                "GRANT SELECT ON `ca`.* TO `r`",
                "GRANT SELECT ON `ca`.* TO `r`",
            ),
        ] {
            assert_eq!(without_password(grant), without);
        }
    }

    #[test]
    fn grants_of_a_database_are_found() {
        for (grant, database) in [
            ("GRANT SELECT ON `my\\_ca`.* TO `a`@`%`", "my_ca"),
            ("GRANT EXECUTE ON FUNCTION `ca`.`f` TO `a`@`%`", "ca"),
            ("GRANT SELECT (`a`) ON `ca`.`t` TO `a`@`%`", "ca"),
        ] {
            assert!(concerns(grant, database), "{grant}");
        }
        let grant = "GRANT EXECUTE ON FUNCTION `ca`.`f` TO `a`@`%`";
        let other = "GRANT EXECUTE ON FUNCTION `b`.`f` TO `a`@`%`";
        assert_eq!(renamed(grant, "ca", "b"), other);
        assert!(!concerns("GRANT SELECT ON `cab`.* TO `a`@`%`", "ca"));
        assert!(is_like("my_ca", "my\\_ca") && is_like("my_ca", "my%") && is_like("a", "_"));
        assert!(!is_like("myxca", "my\\_ca") && !is_like("", "_"));
    }

    #[test]
    fn definers_are_accounts() {
        assert_eq!(of_definer("a@b@localhost"), "`a@b`@`localhost`");
        assert_eq!(of_definer("role@"), "`role`");
    }
}
