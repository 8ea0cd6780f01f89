//! Files that are called for secrets: those that hold one, and harmless ones of the same name.

use super::*;

fn scan_named(name: &str, content: &[u8]) -> Vec<(&'static str, Option<u64>)> {
    let mut scanner = Scanner::default();
    scanner.begin(name.as_bytes());
    // In pieces, as files come.
    for piece in content.chunks(7) {
        scanner.write(piece);
    }
    let found = scanner.finish().found.into_iter();
    found.map(|found| (found.rule.id, found.line)).collect()
}

/// Of a file of this name the rule finds this line, and of the same under another name nothing.
#[track_caller]
fn by_name(name: &str, content: impl AsRef<[u8]>, id: &str, line: u64) {
    by_content(name, &content, id, Some(line));
    let text = content.as_ref().escape_ascii();
    assert_eq!(scan_named("notes", content.as_ref()), [], "{name}: {text}");
}

#[track_caller]
fn by_content(name: &str, content: impl AsRef<[u8]>, id: &str, line: Option<u64>) {
    let text = content.as_ref().escape_ascii();
    let found = scan_named(name, content.as_ref());
    assert_eq!(found, [(id, line)], "{name}: {text}");
}

#[track_caller]
fn nothing(name: &str, content: impl AsRef<[u8]>) {
    let text = content.as_ref().escape_ascii();
    assert_eq!(scan_named(name, content.as_ref()), [], "{name}: {text}");
}

#[test]
fn password_files_of_clients() {
    by_name(".pgpass", "# the CA\n*:*:ca:ca:opensesame\n", "pgpass", 2);
    by_name("ca.pgpass", r"db\:1:5432:ca:a\:b:s\:x:y", "pgpass", 1);
    nothing(".pgpass", "");
    nothing(".pgpass", "# host:port:database:user:password\n");
    nothing(".pgpass", "db:5432:ca:ca:\ndb:5432:ca:ca:changeme\n");
    nothing(".pgpass", "db:5432:ca:ca\\:secret99\n");

    let line = "machine a login b password hunter22\n";
    by_name(".netrc", line, "netrc", 1);
    let lines = "default\n  login password\n  password\n  \"open sesame\"\n";
    by_name("_netrc", lines, "netrc", 3);
    let anonymous = "machine a login ftp password me@b.example\n";
    by_name(".netrc", [anonymous, line].concat(), "netrc", 2);
    nothing(".netrc", anonymous);
    nothing(".netrc", "machine a login b\n# password hunter22\n");
    nothing(".netrc", "machine a login b password ${PASSWORD}\n");

    let login = [&[0; 4][..], &[7; 20], &[16, 0, 0, 0], &[9; 16]].concat();
    by_content(".mylogin.cnf", &login, "mysql-login", None);
    nothing(".mylogin.cnf", &login[..24]);
    nothing("login.bin", &login);
}

#[test]
fn files_of_unseal_keys() {
    let (key, hex) = (format!("{}=", random(43)), "5f0e9c1a7b2d4836".repeat(4));
    let script = format!("#!/bin/sh\nbao operator unseal {key}\n");
    by_name("unseal.sh", script, "unseal-file", 2);
    by_name("vault.key", format!("{hex}\n"), "unseal-file", 1);
    by_name("vault-unseal-1", &key, "unseal-file", 1);
    by_name(
        "unseal.env",
        format!("A=b\nKEY_1='{key}'\n"),
        "unseal-file",
        2,
    );
    by_name("recovery-keys.txt", format!("1: {hex}\n"), "unseal-file", 1);
    let unit = "[Service]\nExecStart=/usr/local/libexec/vault/unseal --config /etc/vault.d/unseal2/ca.hcl\n";
    nothing("vault-unseal.service", unit);
    let image = format!("image: vault@sha256:{hex}\nkey: ${{UNSEAL_KEY}}\n");
    nothing("unseal.yaml", image);
    nothing("vault.key", "see the safe of the custodians\n");
    nothing("public.key", &key);
}

#[test]
fn files_of_one_value() {
    let (r24, r43) = (random(24), random(43));
    let uuid = "3f2a91bc-77d1-4c02-9d3e-0b6a5f1e8c44";
    by_name(".vault-token", format!("s.{r24}\n"), "token", 1);
    by_name(".vault-token", uuid, "token", 1);
    by_name("secret-id", format!("{uuid}\n"), "token", 1);
    by_name("hsm.pin", "493028\n", "pin", 1);
    by_name("pin", "493028", "pin", 1);
    by_name("ca.pass", "opensesame\n", "password", 1);
    by_name("ca.key.password", "opensesame\n", "password", 1);
    by_name(
        "db_password",
        "correct horse battery staple\n",
        "password",
        1,
    );
    by_name("password.txt", "opensesame", "password", 1);
    by_name("hmac.key", &r43, "symmetric-key", 1);
    by_name("webhook-secret", format!("{r24}\n"), "secret", 1);

    nothing(".vault-token", "\n");
    nothing(".vault-token", "/run/vault/token\n");
    nothing("hsm.pin", "");
    nothing("hsm.pin", "${HSM_PIN}\n");
    nothing("db_password", "changeme\n");
    nothing("db_password", "vault:secret/data/ca#password\n");
    let pam = "password requisite pam_unix.so\nsession optional pam_x.so\n";
    nothing("common-password", pam);
    nothing("password", "Enter the password of the database here\n");
    nothing("password", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA\n");
    nothing("webhook-secret", "webhook-certs-v2\n");
    nothing("pass.txt", "echo 'I am a short test'\n");
    nothing("passwd", "root:x:0:0:root:/root:/bin/sh\n");
    nothing(".htpasswd", "ca:$apr1$x7Kq0b1c$Zz8mEwQ2b1vN0pL4t6yR5.\n");
    nothing("token", format!("{r43}\n"));
}

#[test]
fn what_content_tells_needs_no_name() {
    let key = format!("{}=", random(43));
    let url = "https://ca:opensesame@git.example\n";
    by_content(".git-credentials", url, "url-password", Some(1));
    let client = "[client]\nuser = ca\npassword = opensesame\n";
    by_content(".my.cnf", client, "password", Some(3));
    let json = format!("{{\"unseal_keys_b64\": [\n \"{key}\"]}}");
    by_content("init.json", json, "vault-unseal", Some(1));
    let yaml = format!("unseal_keys_b64:\n- {key}\n");
    by_content("init.yaml", yaml, "vault-unseal", Some(1));
    // Once, although the name tells it, too.
    by_content(
        "db_password",
        "password = opensesame\n",
        "password",
        Some(1),
    );
    let database = [0x03, 0xd9, 0xa2, 0x9a, 0x67, 0xfb, 0x4b, 0xb5, 0, 0];
    by_content("backup.kdbx", database, "keepass", None);
    nothing("trusted.kdbx", "not a database\n");
}
