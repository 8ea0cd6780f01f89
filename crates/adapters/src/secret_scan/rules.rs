//! What is looked for: one table.

use std::fmt;

use strongroom_core::source::Class;

use super::settings::{Name, Value};
use super::texts::Spot;
use super::{heads, names, texts};

/// Something that is a secret.
pub struct Rule {
    /// A stable id.
    pub id: &'static str,
    /// What it finds, with an article.
    pub finds: &'static str,
    /// The class of an asset where it has its place.
    pub class: Class,
    /// How it is told.
    pub(super) how: How,
}

/// How a secret is told.
pub(super) enum How {
    /// One of these texts, and what stands around it.
    Text {
        triggers: &'static [&'static [u8]],
        holds: fn(&Spot<'_>) -> bool,
        /// Whether it counts in content that is no text, too.
        also_in_binary: bool,
    },
    /// The first bytes and the length.
    Head(fn(&[u8], u64) -> bool),
    /// The name of the file, and where in the file the secret is.
    Name {
        is_named: fn(&[u8]) -> bool,
        find: fn(&[u8]) -> Option<usize>,
    },
    /// A setting with one of these names, and a value of this kind; see [`super::settings`].
    Setting {
        names: &'static [Name],
        value: Value,
    },
}

/// The bags of PKCS#12, without the number that says of what.
pub(super) const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
/// What protects private keys in JKS: 1.3.6.1.4.1.42.2.17.1.1.
const JKS_KEY: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];
/// The same in JCEKS: 1.3.6.1.4.1.42.2.19.1.
const JCEKS_KEY: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x13, 0x01];

use Name::{Ends, Is, Tail};

/// Every rule. Rules for settings are tried in this order, the first that holds counts.
pub const RULES: &[Rule] = &[
    Rule {
        id: "private-key",
        finds: "a private key",
        class: Class::Key,
        how: How::Text {
            triggers: &[b"PRIVATE KEY"],
            holds: texts::is_armoured_key,
            also_in_binary: true,
        },
    },
    Rule {
        id: "putty-key",
        finds: "a private key of PuTTY",
        class: Class::Key,
        how: How::Text {
            triggers: &[b"PuTTY-User-Key-File-"],
            holds: texts::is_putty_key,
            also_in_binary: false,
        },
    },
    Rule {
        id: "private-key-base64",
        finds: "a private key in base64",
        class: Class::Key,
        how: How::Text {
            triggers: &[b"LS0tLS1CRUdJTi"],
            holds: texts::is_wrapped_key,
            also_in_binary: false,
        },
    },
    Rule {
        id: "private-key-der",
        finds: "a private key in DER",
        class: Class::Key,
        how: How::Head(heads::is_der_key),
    },
    Rule {
        id: "keystore",
        finds: "a keystore with a private key",
        class: Class::Key,
        how: How::Text {
            triggers: &[BAG, JKS_KEY, JCEKS_KEY],
            holds: texts::is_in_keystore,
            also_in_binary: true,
        },
    },
    Rule {
        id: "keytab",
        finds: "a Kerberos keytab",
        class: Class::Secret,
        how: How::Head(heads::is_keytab),
    },
    Rule {
        id: "keepass",
        finds: "a password database of KeePass",
        class: Class::Secret,
        how: How::Head(heads::is_keepass),
    },
    Rule {
        id: "age-identity",
        finds: "an age identity",
        class: Class::Key,
        how: How::Text {
            triggers: &[b"AGE-SECRET-KEY-", b"AGE-PLUGIN-"],
            holds: texts::is_age_identity,
            also_in_binary: true,
        },
    },
    Rule {
        id: "vault-token",
        finds: "a Vault token",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"hvs.", b"hvb.", b"hvr."],
            holds: texts::is_vault_token,
            also_in_binary: false,
        },
    },
    Rule {
        id: "vault-token-old",
        finds: "a Vault token",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b" s.", b"=s.", b"\"s."],
            holds: texts::is_old_vault_token,
            also_in_binary: false,
        },
    },
    Rule {
        id: "vault-unseal",
        finds: "a Vault unseal or recovery key",
        class: Class::Key,
        how: How::Text {
            triggers: &[
                b"nseal Key ",
                b"ecovery Key ",
                b"unseal_keys_",
                b"recovery_keys_",
                b"\"keys_base64",
            ],
            holds: texts::is_unseal_key,
            also_in_binary: false,
        },
    },
    Rule {
        id: "unseal-file",
        finds: "a Vault unseal or recovery key",
        class: Class::Key,
        how: How::Name {
            is_named: names::is_unseal_file,
            find: names::unseal_key,
        },
    },
    Rule {
        id: "pgpass",
        finds: "a password for PostgreSQL",
        class: Class::Secret,
        how: How::Name {
            is_named: names::is_pgpass,
            find: names::pgpass,
        },
    },
    Rule {
        id: "netrc",
        finds: "a password for a host",
        class: Class::Secret,
        how: How::Name {
            is_named: names::is_netrc,
            find: names::netrc,
        },
    },
    Rule {
        id: "mysql-login",
        finds: "passwords for MySQL",
        class: Class::Secret,
        how: How::Name {
            is_named: names::is_mysql_login,
            find: names::mysql_login,
        },
    },
    Rule {
        id: "forge-token",
        finds: "a GitHub or GitLab token",
        class: Class::Secret,
        how: How::Text {
            triggers: &[
                b"ghp_",
                b"gho_",
                b"ghu_",
                b"ghs_",
                b"ghr_",
                b"github_pat_",
                b"glpat-",
            ],
            holds: texts::is_forge_token,
            also_in_binary: false,
        },
    },
    Rule {
        id: "slack-token",
        finds: "a Slack token or webhook",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"xox", b"hooks.slack.com/services/T"],
            holds: texts::is_slack_token,
            also_in_binary: false,
        },
    },
    Rule {
        id: "web-token",
        finds: "a JSON Web Token",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"eyJ"],
            holds: texts::is_web_token,
            also_in_binary: false,
        },
    },
    Rule {
        id: "authorization",
        finds: "credentials of an HTTP request",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"uthorization", b"AUTHORIZATION"],
            holds: texts::is_authorization,
            also_in_binary: false,
        },
    },
    Rule {
        id: "url-password",
        finds: "a URL with a password",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"://"],
            holds: texts::is_url_with_password,
            also_in_binary: false,
        },
    },
    Rule {
        id: "kubernetes-secret",
        finds: "a Secret of Kubernetes",
        class: Class::Secret,
        how: How::Text {
            triggers: &[b"kind: Secret"],
            holds: texts::is_kubernetes_secret,
            also_in_binary: false,
        },
    },
    Rule {
        id: "akamu",
        finds: "the secret of akamu's external account binding",
        class: Class::Secret,
        how: How::Setting {
            names: &[Ends("eab_master_secret"), Ends("eab_keys"), Ends("eab_key")],
            value: Value::Any,
        },
    },
    Rule {
        id: "certctl",
        finds: "a secret of certctl",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Is("certctl_auth_secret"),
                Is("certctl_api_key"),
                Is("certctl_api_keys_named"),
                Is("certctl_bootstrap_token"),
                Is("certctl_agent_bootstrap_token"),
                Is("certctl_config_encryption_key"),
            ],
            value: Value::Any,
        },
    },
    Rule {
        id: "mazevault",
        finds: "a secret of MazeVault",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Ends("master_key"),
                Ends("jwt_secret"),
                Ends("session_secret"),
            ],
            value: Value::Any,
        },
    },
    Rule {
        id: "agledger",
        finds: "a secret of AGLedger",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Ends("vault_signing_key"),
                Ends("api_key_secret"),
                Ends("webhook_encryption_key"),
            ],
            value: Value::Any,
        },
    },
    Rule {
        id: "aws-secret",
        finds: "an AWS secret access key",
        class: Class::Secret,
        how: How::Setting {
            names: &[Ends("secret_access_key"), Ends("aws_secret_key")],
            value: Value::Random,
        },
    },
    Rule {
        id: "password",
        finds: "a password",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Tail("password"),
                Tail("passwd"),
                Tail("passphrase"),
                Ends("keystore_pass"),
                Ends("key_store_pass"),
                Ends("key_pass"),
                Ends("db_pass"),
                Ends("smtp_pass"),
                Ends("bindpw"),
                Ends("rootpw"),
                Is("requirepass"),
                Is("masterauth"),
            ],
            value: Value::Any,
        },
    },
    Rule {
        id: "pin",
        finds: "the PIN of a token",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Is("pin"),
                Ends("user_pin"),
                Ends("so_pin"),
                Is("pin_value"),
                Ends("hsm_pin"),
                Ends("token_pin"),
            ],
            value: Value::Any,
        },
    },
    Rule {
        id: "secret",
        finds: "a shared secret",
        class: Class::Secret,
        how: How::Setting {
            names: &[Tail("secret")],
            value: Value::Strong,
        },
    },
    Rule {
        id: "token",
        finds: "an access token",
        class: Class::Secret,
        // Not "token" alone: ACME's challenges are called so, and are public.
        how: How::Setting {
            names: &[
                Ends("access_token"),
                Ends("refresh_token"),
                Ends("auth_token"),
                Ends("api_token"),
                Ends("bearer_token"),
                Ends("bootstrap_token"),
                Ends("root_token"),
                Ends("vault_token"),
                Ends("session_token"),
                Ends("agent_token"),
                Ends("join_token"),
                Ends("secret_id"),
            ],
            value: Value::Random,
        },
    },
    Rule {
        id: "symmetric-key",
        finds: "a secret key",
        class: Class::Secret,
        how: How::Setting {
            names: &[
                Ends("api_key"),
                Ends("apikey"),
                Ends("secret_key"),
                Ends("signing_key"),
                Ends("encryption_key"),
                Ends("hmac_key"),
                Ends("hmac"),
                Ends("shared_key"),
                Ends("account_key"),
                Ends("storage_key"),
                Ends("private_key"),
                Ends("access_key"),
            ],
            value: Value::Random,
        },
    },
];

impl Rule {
    /// Whether the rule is for files of this name.
    pub(super) fn is_for(&self, name: &[u8]) -> bool {
        matches!(self.how, How::Name { is_named, .. } if is_named(name))
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id)
    }
}
