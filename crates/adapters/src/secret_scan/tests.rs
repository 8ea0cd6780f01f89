//! Each rule with what it finds and what only looks like it; streams cut anywhere.

mod names;

use super::*;

/// What is found in a text: ids and lines.
fn scan(bytes: impl AsRef<[u8]>) -> Vec<(&'static str, Option<u64>)> {
    scan_in_pieces(bytes.as_ref(), usize::MAX)
}

fn scan_in_pieces(bytes: &[u8], size: usize) -> Vec<(&'static str, Option<u64>)> {
    let mut scanner = Scanner::default();
    scanner.begin(b"");
    for piece in bytes.chunks(size.min(bytes.len()).max(1)) {
        scanner.write(piece);
    }
    let report = scanner.finish();
    report
        .found
        .iter()
        .map(|found| (found.rule.id, found.line))
        .collect()
}

/// Letters and digits as a generator of secrets makes them.
fn random(length: usize) -> String {
    let alphabet = b"q7RkT2mZx9Lw4VbN8cYs3HdJ6fGp5AvE1uKiXoW0";
    (0..length)
        .map(|at| char::from(alphabet[(at * 7 + at / 40) % alphabet.len()]))
        .collect()
}

/// For each rule: what it finds, and near misses in which nothing is found.
#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
fn cases() -> Vec<(&'static str, Vec<String>, Vec<String>)> {
    let (r16, r24, r36, r43, r58) = (random(16), random(24), random(36), random(43), random(58));
    let base64 = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj";
    let upper = r58.to_uppercase();
    let pem = |label: &str| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
    let wrapped = {
        use base64::Engine as _;
        |label: &str| base64::engine::general_purpose::STANDARD.encode(pem(label))
    };
    let list = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    vec![
        (
            "private-key",
            vec![
                pem("PRIVATE KEY"),
                pem("RSA PRIVATE KEY"),
                pem("EC PRIVATE KEY"),
                pem("DSA PRIVATE KEY"),
                pem("ENCRYPTED PRIVATE KEY"),
                pem("OPENSSH PRIVATE KEY"),
                pem("ML-DSA-65 PRIVATE KEY"),
                pem("ANY PRIVATE KEY"),
                pem("PRIVATE KEY").replace('\n', "\r\n"),
                format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{base64}"),
                format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: x\n\n{base64}"),
                format!("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n{base64}"),
                format!("{{\"key\": \"-----BEGIN PRIVATE KEY-----\\n{base64}\\n\"}}"),
                format!("  tls.key: |\n    -----BEGIN PRIVATE KEY-----\n    {base64}\n"),
                format!("# -----BEGIN PRIVATE KEY-----\n# {base64}\n"),
            ],
            vec![
                pem("PUBLIC KEY"),
                pem("CERTIFICATE"),
                list(&["-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n"]).concat(),
                list(&["paste the -----BEGIN PRIVATE KEY----- block here\n"]).concat(),
                list(&["-----END PRIVATE KEY-----\n"]).concat(),
                format!("the PRIVATE KEY-----\n{base64}"),
                format!("-----begin private key-----\n{base64}"),
            ],
        ),
        (
            "putty-key",
            list(&["PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"]),
            list(&["PuTTY-User-Key-File-\n", "putty-user-key-file-3:"]),
        ),
        (
            "private-key-base64",
            vec![
                format!("tls.key: {}", wrapped("PRIVATE KEY")),
                format!("tls.key: {}", wrapped("RSA PRIVATE KEY")),
                format!("tls.key: {}", wrapped("ENCRYPTED PRIVATE KEY")),
            ],
            vec![
                format!("tls.crt: {}", wrapped("CERTIFICATE")),
                format!("tls.pub: {}", wrapped("PUBLIC KEY")),
            ],
        ),
        (
            "age-identity",
            vec![
                format!("AGE-SECRET-KEY-1{upper}\n"),
                format!("AGE-SECRET-KEY-PQ-1{upper}\n"),
                format!("AGE-PLUGIN-YUBIKEY-1{upper}\n"),
            ],
            vec![
                format!("age1{r58}\n"),
                list(&["AGE-SECRET-KEY-1...\n"]).concat(),
                format!("age-secret-key-1{r58}\n"),
                list(&["AGE-PLUGIN-NAME-\n"]).concat(),
            ],
        ),
        (
            "vault-token",
            vec![
                format!("token is hvs.{r24}"),
                format!("hvb.{r58}"),
                format!("(hvr.{r24})"),
            ],
            vec![
                format!("hvs.{r16}"),
                format!("xhvs.{r24}"),
                format!("HVS.{r24}"),
                "hvs.${TOKEN}".into(),
            ],
        ),
        (
            "vault-token-old",
            vec![
                format!("Initial Root Token: s.{r24}\n"),
                format!("token={:?}", format!("s.{r24}")),
            ],
            vec![
                format!("CA's.{r24}"),
                format!(" s.{r36}"),
                format!(" s.{}", r24.to_lowercase()),
                "the keys. Thisisoneverylongwordhere".into(),
            ],
        ),
        (
            "vault-unseal",
            vec![
                format!("Unseal Key 1: {r43}=\n"),
                format!("Recovery Key 12: {r43}=\n"),
                format!("{{\"unseal_keys_b64\": [\n    \"{r43}=\""),
                format!(
                    "unseal_keys_hex:\n{{\"unseal_keys_hex\": [\"{}\"]",
                    "0f".repeat(32)
                ),
                format!("\"keys_base64\": [\"{r43}=\"]"),
            ],
            vec![
                "Unseal Key 1: given to Alice on paper\n".into(),
                "\"unseal_keys_b64\": []\n".into(),
                "unseal key shares: 5\n".into(),
                "\"recovery_keys_b64\": null\n".into(),
            ],
        ),
        (
            "forge-token",
            vec![
                format!("ghp_{r36}"),
                format!("ghs_{r36}"),
                format!("url = github_pat_{r58}"),
                format!("glpat-{r24}"),
            ],
            vec![
                format!("ghp_{r24}"),
                format!("xghp_{r36}"),
                "glpat-your-token-goes-in-here".into(),
            ],
        ),
        (
            "slack-token",
            vec![
                format!("xoxb-1234567890-{r24}"),
                format!("hooks.slack.com/services/T0123AB/B0123AB/{r24}"),
            ],
            vec![
                "xoxb-your-token".into(),
                "hooks.slack.com/services/T000/B000/X".into(),
            ],
        ),
        (
            "web-token",
            vec![format!(
                "jwt eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{r43}"
            )],
            vec![
                "eyJhbGciOiJFUzI1NiJ9".into(),
                "eyJhbGciOiJFUzI1NiJ9.cGxhaW4gdGV4dA.x".into(),
            ],
        ),
        (
            "authorization",
            vec![
                format!("Authorization: Bearer {r24}\n"),
                format!("proxy_set_header Authorization \"Basic {r24}==\";"),
                format!("\"authorization\": \"token {r36}\""),
            ],
            vec![
                "Authorization: Bearer ${TOKEN}\n".into(),
                "authorization: bearer tokens are checked\n".into(),
                "authorization_endpoint = \"https://id.example/auth\"\n".into(),
            ],
        ),
        (
            "url-password",
            list(&[
                "url = \"postgres://ca:hunter22@db.example/ca\"\n",
                "crdt_db_url = 'mysql://root:x7@127.0.0.1/ca'\n",
                "jump=https://user:p%40ss@proxy:3128/\n",
                "amqp://guest:guest1@mq:5672",
            ]),
            list(&[
                "url = \"postgres://ca@db.example/ca\"\n",
                "url = \"postgres://ca:${DB_PASSWORD}@db/ca\"\n",
                "url = \"postgres://ca:***@db/ca\"\n",
                "url = \"postgres://user:password@db/ca\"\n",
                "see https://example.com:8080/a@b:c\n",
                "# url = \"postgres://ca:hunter22@db.example/ca\"\n",
                "crl_url = \"http://ca.example:8080/crl\"\n",
            ]),
        ),
        (
            "kubernetes-secret",
            list(&["apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\ndata:\n  a: eA==\n"]),
            list(&[
                "kind: SealedSecret\n",
                "kind: SecretStore\n",
                "valuesFrom:\n  - kind: Secret\n    name: x\n",
                "kind: ConfigMap\n",
            ]),
        ),
        (
            "akamu",
            list(&[
                "eab_master_secret = \"opensesame\"\n",
                "[server]\neab-master-secret = \"q\"\n",
                "eab_keys = [{ kid = \"one\", hmac = \"x\" }]\n",
                "[server.eab_keys]\none = \"x\"\n",
                "[[server.eab_keys]]\nkid = \"one\"\n",
                "AKAMU_EAB_MASTER_SECRET=opensesame",
                "eab_master_secret = \"\"\"\nopensesame\"\"\"\n",
            ]),
            list(&[
                "# eab_master_secret = \"opensesame\"\n",
                "eab_master_secret = \"\"\n",
                "eab_master_secret_file = \"/run/secrets/eab\"\n",
                "eab_master_secret = \"/run/secrets/eab\"\n",
                "eab_master_secret = \"${EAB_SECRET}\"\n",
                "eab_master_secret = \"change-me\"\n",
                "eab_keys = []\n",
                "#[server.eab_keys]\n",
                "port = 1 # eab_master_secret = \"opensesame\"\n",
            ]),
        ),
        (
            "certctl",
            list(&[
                "CERTCTL_AUTH_SECRET=abc",
                "export CERTCTL_API_KEY='abc'",
                "CERTCTL_API_KEYS_NAMED=ops:abc",
                "      - CERTCTL_BOOTSTRAP_TOKEN=abc\n",
                "CERTCTL_AGENT_BOOTSTRAP_TOKEN: abc\n",
                "- name: CERTCTL_CONFIG_ENCRYPTION_KEY\n  value: abc\n",
                "{\"name\": \"CERTCTL_AUTH_SECRET\", \"value\": \"abc\"}",
            ]),
            list(&[
                "CERTCTL_AUTH_SECRET=",
                "CERTCTL_AUTH_SECRET=\nNEXT=abc",
                "CERTCTL_AUTH_SECRET_FILE=/run/secrets/auth",
                "CERTCTL_CA_KEY_PATH=/etc/certctl/ca.key",
                "- name: CERTCTL_AUTH_SECRET\n  valueFrom:\n    secretKeyRef: x\n",
                "CERTCTL_API_KEY=$API_KEY",
            ]),
        ),
        (
            "mazevault",
            list(&[
                "MASTER_KEY=abcd",
                "JWT_SECRET: \"abcd\"\n",
                "MAZEVAULT_SESSION_SECRET=abcd",
            ]),
            list(&[
                "MASTER_KEY=${MASTER_KEY}",
                "JWT_SECRET: changeme\n",
                "master_key = \"keys/master.key\"\n",
            ]),
        ),
        (
            "agledger",
            list(&[
                "VAULT_SIGNING_KEY=abcd",
                "API_KEY_SECRET=abcd",
                "WEBHOOK_ENCRYPTION_KEY=abcd",
            ]),
            list(&[
                "VAULT_SIGNING_KEY=",
                "vault_signing_key_id = \"abcd\"",
                "API_KEY_SECRET=<secret>",
            ]),
        ),
        (
            "aws-secret",
            vec![
                format!("aws_secret_access_key = {}\n", random(40)),
                format!("{{\"SecretAccessKey\": \"{}\"}}", random(40)),
            ],
            list(&[
                "aws_secret_access_key = YOUR-SECRET-KEY\n",
                "aws_access_key_id = AKIAIOSFODNN7REALONE\n",
            ]),
        ),
        (
            "password",
            list(&[
                "password = \"hunter22\"\n",
                "password=hunter\n",
                "DB_PASSWORD: x1y2\n",
                "  dbPassword: 'correct horse battery staple'\n",
                "keystorePass=\"s3same\" port=1",
                "<password>hunter22</password>",
                "host=db password=hunter22 dbname=ca",
                "jdbc:postgresql://db/ca?user=ca&password=hunter22&ssl=true",
                "requirepass hunter22\n",
                "password \"hunter22\";\n",
                "--admin-password=hunter22",
                "spring.datasource.password=hunter22",
                "{\\\"password\\\": \\\"hunter22\\\"}",
                "password: |\n  hunter22\n",
                "password = 1234\n",
            ]),
            list(&[
                "password_file = \"/etc/ca/password\"\n",
                "key_password_file = \"p\"\n",
                "password = \"\"\n",
                "password =\n",
                "password: null\n",
                "require_password = true\n",
                "max_password = 64\n",
                "password = \"${DB_PASSWORD}\"\n",
                "password: {{ vault_password }}\n",
                "password = env:DB_PASSWORD\n",
                "password: <password>\n",
                "password: the password of the database\n",
                "password = \"Enter your password\"\n",
                "password = settings.password\n",
                "password = get_password()\n",
                "password = \"$6$salt$abcdefgh\"\n",
                "password: {SSHA}abcdefgh\n",
                "password: changeme\n",
                "password: your_password_here\n",
                "password = changeit\n",
                "password = ******\n",
                "; password = hunter22\n",
                "// password = hunter22\n",
                "<!-- password=\"hunter22\" -->\n",
                "if password == \"hunter22\"\n",
                "a password is asked for\n",
                "passed: 17\n",
                "passwd:         files systemd\n",
                "passwd:         files\n",
            ]),
        ),
        (
            "pin",
            list(&[
                "pin = \"1234\"\n",
                "pkcs11:token=akamu;object=ca?pin-value=1234\n",
                "user_pin: 123456\n",
                "userPin = 0000\n",
            ]),
            list(&[
                "pin_source = \"file:/etc/pin\"\n",
                "pkcs11:token=akamu;object=ca?pin-source=file:/etc/pin\n",
                "ping = \"1234\"\n",
                "mapping: abcd\n",
                "pin = \"/etc/ca/pin\"\n",
            ]),
        ),
        (
            "secret",
            vec![
                "client_secret = \"Tr0ub4dor\"\n".into(),
                format!("secret \"{r43}=\";\n"),
                "clientSecret: abcd1234efgh\n".into(),
            ],
            list(&[
                "secret: webhook-certs-v2\n",
                "secretName: tls-ca\n",
                "secrets:\n  - db\n",
                "client_secret = \"vault:secret/data/ca#client\"\n",
                "secret: my-tls-secret\n",
            ]),
        ),
        (
            "token",
            vec![
                format!("auth_token = \"{r24}\"\n"),
                format!("secret_id={r36}\n"),
            ],
            vec![
                "auth_token = \"short1\"\n".into(),
                format!("token = \"{r43}\"\n"),
                "pkcs11_token: akamu-production-2024-hsm\n".into(),
                "csrf_token_header: X-CSRF-Token-Header1\n".into(),
            ],
        ),
        (
            "symmetric-key",
            vec![
                format!("api_key: {r24}\n"),
                format!("signingKey=\"{r43}=\"\n"),
                format!("hmac = \"{r43}\"\n"),
                format!("encryption-key: {}\n", "0f".repeat(16)),
            ],
            vec![
                "signing_key = \"kid-2024-01\"\n".into(),
                "private_key = \"/etc/ca/private/ca1.key\"\n".into(),
                "encryption_key: arn:aws:kms:eu-west-1:123456789012:key/0f0f0f0f\n".into(),
                format!("public_key = \"{r43}\"\n"),
                format!("issuer_key_hash = \"{r43}\"\n"),
            ],
        ),
    ]
}

#[test]
fn every_rule_finds_and_lets_pass() {
    let cases = cases();
    for (id, hits, misses) in &cases {
        for text in hits {
            let found = scan(text);
            assert!(
                found.iter().any(|(rule, _)| rule == id),
                "{id} in {text:?}: {found:?}"
            );
            let others = found.iter().filter(|(rule, _)| rule != id).count();
            assert_eq!(others, 0, "{text:?}: {found:?}");
            // It is the place that decides, not the beginning of the stream.
            let later = scan(format!("# one\n\n{text}"));
            let lines: Vec<_> = found
                .iter()
                .map(|(_, line)| line.map(|line| line + 2))
                .collect();
            assert_eq!(
                later.iter().map(|(_, line)| *line).collect::<Vec<_>>(),
                lines,
                "{text:?}"
            );
        }
        for text in misses {
            assert_eq!(scan(text), [], "{text:?}");
        }
        assert!(!hits.is_empty() && !misses.is_empty(), "{id}");
    }
    let mut tried: Vec<_> = cases.iter().map(|(id, ..)| *id).collect();
    // They have tests of their own, below.
    tried.extend(["private-key-der", "keystore", "keytab", "keepass"]);
    tried.extend(["unseal-file", "pgpass", "netrc", "mysql-login"]);
    tried.sort_unstable();
    let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    assert_eq!(tried, ids, "every rule, each with an id of its own");
}

#[test]
fn files_that_are_keys_are_told_by_their_beginning() {
    let key = rcgen::KeyPair::generate().expect("a key").serialize_der();
    assert_eq!(scan(&key), [("private-key-der", None)]);
    assert_eq!(scan(&key[..key.len() - 1]), [], "cut");
    let certificate = rcgen::generate_simple_self_signed(["ca".to_owned()]).expect("a certificate");
    assert_eq!(scan(certificate.cert.der()), []);
    let mut encrypted = vec![
        0x30, 0x40, 0x30, 0x1b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d,
    ];
    encrypted.resize(0x42, 0);
    assert_eq!(scan(&encrypted), [("private-key-der", None)]);

    let store = |head: &[u8], object: &[u8]| [head, &[0; 300], object, &[0; 3000]].concat();
    let jks = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
    let java = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];
    for (head, object) in [
        (&[0x30, 0x82, 9, 9][..], &[rules::BAG, &[2]].concat()[..]),
        (&jks, &java),
    ] {
        assert_eq!(scan(store(head, object)), [("keystore", None)]);
        assert_eq!(
            scan(store(b"\x7fELF", object)),
            [],
            "a library that knows the object"
        );
        assert_eq!(scan(store(head, &object[..6])), [], "certificates only");
    }

    let keytab = [&[5, 2, 0, 0, 0, 60, 0, 2][..], &[7; 58]].concat();
    assert_eq!(scan(&keytab), [("keytab", None)]);
    assert_eq!(scan(&keytab[..40]), []);
}

#[test]
fn content_that_is_no_text_is_looked_at_for_keys_only() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n";
    let text = format!("password = \"hunter22\"\n{pem}");
    let binary = [b"\x7fELF\0\0", text.as_bytes()].concat();
    assert_eq!(scan(binary), [("private-key", None)]);
    let database = [
        b"SQLite format 3\0",
        text.as_bytes(),
        &vec![0; 200_000],
        text.as_bytes(),
    ]
    .concat();
    assert_eq!(scan(database), []);
    let wide: Vec<u8> = "\u{feff}one\npassword = \"hunter22\"\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(scan(&wide), [("password", Some(2))]);
    assert_eq!(scan_in_pieces(&wide, 1), [("password", Some(2))]);
}

#[test]
fn it_does_not_matter_where_the_stream_is_cut() {
    let filler =
        "level=info msg=\"certificate issued\" serial=4711 pass key token secret\n".repeat(20);
    let mut text = String::new();
    for (_, hits, misses) in cases() {
        for case in hits.iter().chain(&misses) {
            text.push_str(&filler);
            text.push_str(case);
            text.push('\n');
        }
    }
    assert!(text.len() > 4 * WINDOW, "{}", text.len());
    let whole = scan(&text);
    assert_eq!(whole.len(), FOUND_MAX);
    for size in [1, 4096, WINDOW - 1, WINDOW + 1] {
        assert_eq!(scan_in_pieces(text.as_bytes(), size), whole, "{size}");
    }
    // Also at each place of the window.
    let secret = "eab_master_secret = \"opensesame\"\n";
    for front in
        (WINDOW - LOOK_AHEAD - 40..WINDOW - LOOK_AHEAD + 40).chain(WINDOW - 40..WINDOW + 40)
    {
        let text = format!("{}\n{secret}", "x".repeat(front));
        assert_eq!(scan(&text), [("akamu", Some(2))], "{front}");
    }
}

#[test]
fn any_bytes_are_searched_and_alike_however_they_are_cut() {
    const PIECES: &[&[u8]] = &[
        b"password",
        b"Secret",
        b"eab_keys",
        b"name: ",
        b"value",
        b"=",
        b":",
        b" ",
        b"\n",
        b"\"",
        b"'",
        b"\\",
        b"[",
        b"]",
        b"{{",
        b"|",
        b">",
        b"<",
        b"#",
        b"://",
        b"@",
        b"-----BEGIN ",
        b"PRIVATE KEY",
        b"-----",
        b"LS0tLS1CRUdJTi",
        b"AGE-SECRET-KEY-",
        b"hvs.",
        b"Unseal Key ",
        b"eyJ",
        b".eyJ",
        b"Authorization",
        b"Bearer ",
        b"Zx81kQp07RtYw2NvLm4cBd9F",
        b"\0",
        b"\xff\xfe",
        b"\r",
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01],
        b"pin=",
        b"0",
        b"\"\"\"",
        b"/etc/x",
        b"${X}",
    ];
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % bound
    };
    for _ in 0..400 {
        let count = next(60);
        let bytes: Vec<u8> = (0..count)
            .flat_map(|_| PIECES[next(PIECES.len())])
            .copied()
            .collect();
        assert_eq!(
            scan_in_pieces(&bytes, next(9) + 1),
            scan(&bytes),
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn holes_and_long_lines_are_passed_over() {
    let mut scanner = Scanner::default();
    scanner.begin(b"");
    scanner.write(b"one\n");
    scanner.hole(5 << 30);
    scanner.write(b"\npassword = \"hunter22\"\n");
    let report = scanner.finish();
    let found: Vec<_> = report
        .found
        .iter()
        .map(|found| (found.rule.id, found.line))
        .collect();
    assert_eq!(found, [], "it has zeros at its beginning, so it is no text");
    scanner.begin(b"");
    scanner.write("x".repeat(HEAD).as_bytes());
    scanner.hole(5 << 30);
    scanner.write(b"\npassword = \"hunter22\"\n");
    assert_eq!(scanner.finish().found.len(), 1);
    let line = format!(
        "{{{}\"password\": \"hunter22\"}}",
        "\"a\": 1, ".repeat(100_000)
    );
    assert_eq!(scan(line), [("password", Some(1))]);
}

#[test]
fn many_places_are_counted_and_one_line_once() {
    let mut scanner = Scanner::default();
    scanner.begin(b"");
    for _ in 0..100 {
        scanner.write(b"password=hunter22 other_password=hunter23\n");
    }
    let report = scanner.finish();
    assert_eq!((report.found.len(), report.more), (FOUND_MAX, 80));
    scanner.begin(b"");
    scanner.write(b"nothing\n");
    assert!(scanner.finish().is_empty(), "what was before is forgotten");
}

#[test]
fn no_text_hides_another() {
    let mut texts: Vec<Vec<u8>> = settings::WORDS
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    for rule in RULES {
        match rule.how {
            How::Text { triggers, .. } => texts.extend(triggers.iter().map(|text| text.to_vec())),
            How::Setting { names, .. } => {
                for name in names {
                    let (settings::Name::Is(name)
                    | settings::Name::Ends(name)
                    | settings::Name::Tail(name)) = name;
                    let name = format!("{name} = ");
                    for name in [
                        name.replace('_', "-"),
                        name.to_uppercase().replace(" = ", "="),
                        name,
                    ] {
                        let is_found = settings::WORDS.iter().any(|word| name.contains(word));
                        // They are written in small letters, or as in RFC 7512.
                        let is_directive = ["bindpw", "rootpw", "masterauth", "pin_value"]
                            .iter()
                            .any(|one| {
                                name.eq_ignore_ascii_case(&format!("{one}="))
                                    || name == format!("{one} = ")
                            });
                        assert!(is_found || is_directive, "{name} has none of the words");
                    }
                }
            }
            How::Head(_) | How::Name { .. } => {}
        }
    }
    assert!(
        texts.len() <= 64,
        "{}: more cannot be searched for quickly",
        texts.len()
    );
    for (index, text) in texts.iter().enumerate() {
        let hidden = texts
            .iter()
            .enumerate()
            .find(|(other, longer)| *other != index && longer.starts_with(text));
        assert_eq!(hidden, None, "{text:?}");
        assert!(text.len() >= 3, "{text:?}");
    }
}
