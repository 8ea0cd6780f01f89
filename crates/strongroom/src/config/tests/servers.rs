//! Assets on database servers: their faults, and that a database belongs to one asset.

use super::*;

/// Lines in the place of the database's own two, and the line and the message of the fault.
const SERVER_FAULTS: &[(&str, usize, &str)] = &[
    (
        "source = \"postgresql\"\nclass = \"database\"",
        13,
        "\"url\" is missing",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"",
        13,
        "\"url\" is missing",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://u:planted@h/d\"",
        16,
        "\"url\": the URL holds a password; put it into a file of its own and name that as password_file",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://u@h/d?password=planted\"",
        16,
        "\"url\": the URL holds a password; put it into a file of its own and name that as password_file",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h/d?charset=x\"",
        16,
        "\"url\": the URL has a parameter \"charset\"; known are socket, ssl-ca, ssl-cert, ssl-key and ssl-verify",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"mysql://h/d\"",
        16,
        "\"url\": the URL begins neither with postgresql:// nor with postgres://",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\nservice = \"s\"",
        17,
        "\"url\" and \"service\" both say where the server is",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h\"",
        13,
        "no database is named",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h\"",
        13,
        "no database is named",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h/d\"\nservice = \"s\"",
        17,
        "unknown key \"service\"",
    ),
    (
        "source = \"postgresql\"\nclass = \"log\"\nurl = \"postgresql://h/d\"",
        15,
        "class is \"log\", and a server has databases, and roles with secrets",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\nfacts = \"x\"",
        17,
        "\"facts\" is \"x\"",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h/d\"\njobs = 0",
        17,
        "\"jobs\" is 0",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\nlock_timeout = 0",
        17,
        "\"lock_timeout\" is out of bounds",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\nnewest = [\"a.b\"]",
        17,
        "\"newest\": \"a.b\" is not of the form schema.table.column",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h/d\"\nnewest = [\"a.b\"]",
        17,
        "\"newest\": \"a.b\" is not of the form database.table.column",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\nrestore_password_file = \"p\"",
        17,
        "\"restore_password_file\" needs a \"restore_url\"",
    ),
    (
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h/d\"\npasword_file = \"p\"",
        17,
        "unknown key \"pasword_file\"",
    ),
    (
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h\"\ndatabases = [\"a\", \"a\"]",
        17,
        "\"databases\" names \"a\" twice",
    ),
];

#[test]
fn single_faults_of_servers() {
    let own = "source = \"sqlite\"\nclass = \"database\"\npath = \"/var/lib/example/ca.sqlite3\"";
    for &(to, line, message) in SERVER_FAULTS {
        let hint = refused(own, to, line, &format!("asset \"database\": {message}"));
        assert!(
            !hint.is_empty() && !hint.contains("planted"),
            "{to}: {hint}"
        );
    }
}

#[test]
fn a_password_in_the_url_for_restores_is_refused_and_not_shown() {
    let own = "source = \"sqlite\"\nclass = \"database\"\npath = \"/var/lib/example/ca.sqlite3\"";
    for scheme in ["postgresql", "mariadb"] {
        let to = format!(
            "source = \"{scheme}\"\nclass = \"database\"\nurl = \"{scheme}://h/d\"\nrestore_url = \"{scheme}://u:planted@h\""
        );
        let errors = parse(&example().replace(own, &to))
            .expect_err("refused")
            .to_string();
        assert!(
            errors.contains("\"restore_url\": the URL holds a password"),
            "{errors}"
        );
        assert!(!errors.contains("planted"), "{errors}");
    }
}

#[test]
fn a_database_of_a_server_belongs_to_one_asset() {
    let with = |other: &str| {
        let own =
            "source = \"sqlite\"\nclass = \"database\"\npath = \"/var/lib/example/ca.sqlite3\"";
        let first =
            "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://a@h:5432/ca\"";
        parse(&format!(
            "{}[asset.other]\n{other}\n",
            example().replace(own, first)
        ))
    };
    for same in [
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://b@h:5432/ca?sslmode=require\"",
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h:5432\"\ndatabases = [\"x\", \"ca\"]",
    ] {
        let errors = with(same).expect_err("refused").to_string();
        let message = "asset \"other\": database \"ca\" is in asset \"database\" too";
        assert!(errors.contains(message), "{errors}");
    }
    for different in [
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h:5432/x\"",
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h:5433/ca\"",
        "source = \"postgresql\"\nclass = \"database\"\nurl = \"postgresql://h:5432/ca\"\nvia = [\"ssh\", \"x\"]",
        "source = \"postgresql\"\nclass = \"secret\"\nurl = \"postgresql://h:5432/ca\"",
        "source = \"mariadb\"\nclass = \"database\"\nurl = \"mariadb://h:5432/ca\"",
    ] {
        assert!(with(different).is_ok(), "{different}");
    }
}
