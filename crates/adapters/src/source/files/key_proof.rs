//! Proves private keys: each signs a random nonce, and the signature must verify with the public key of a certificate, the one
//! that the settings name, or one of the asset.
//!
//! The proof is made on bytes in memory: the very ones captured, or the ones restored. What is harmless is a note, and what
//! means that the key will not come back is a problem: it is damaged, it is another key, its password is another.

mod chain;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::findings::Quoted;
use super::password::Asked;
use crate::key_material::{
    Certificate, Closed, Key, Keystore, Material, Password, PublicKey, State, find, look,
};

/// The longest file that is looked at as a key or a certificate, in bytes.
pub(super) const KEY_MAX: usize = 1 << 20;

/// Keeps the bytes of a small file while it is captured.
#[derive(Default)]
pub(super) struct Tee {
    kept: Option<Zeroizing<Vec<u8>>>,
    /// The file is too long to be kept and yet holds a private key.
    is_long_key: bool,
}

impl Tee {
    /// Keeps nothing unless it is `wanted` and the file small.
    pub(super) fn new(wanted: bool, size_bytes: u64) -> Self {
        let capacity = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        // Allocated in one piece: a vector that grows would leave copies behind.
        Self {
            kept: wanted.then(|| Zeroizing::new(Vec::with_capacity(capacity.min(KEY_MAX)))),
            is_long_key: false,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        let length = kept.len() + bytes.len();
        if length > KEY_MAX {
            self.is_long_key = [kept.as_slice(), bytes].into_iter().any(mentions_key);
            self.kept = None;
            return;
        }
        if length > kept.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(KEY_MAX));
            larger.extend_from_slice(kept);
            *kept = larger;
        }
        kept.extend_from_slice(bytes);
    }

    /// The whole file, if it was kept.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.kept.as_ref().map(|kept| kept.as_slice())
    }

    pub(super) fn hole(&mut self, length: u64) {
        let zeros = [0; 4096];
        let mut rest = length;
        while rest > 0 && self.kept.is_some() {
            let step = rest.min(zeros.len() as u64);
            self.write(&zeros[..usize::try_from(step).unwrap_or(zeros.len())]);
            rest -= step;
        }
    }
}

impl From<Option<Zeroizing<Vec<u8>>>> for Tee {
    fn from(kept: Option<Zeroizing<Vec<u8>>>) -> Self {
        Self {
            kept,
            is_long_key: false,
        }
    }
}

fn mentions_key(bytes: &[u8]) -> bool {
    find(bytes, b"PRIVATE KEY-----").is_some()
}

/// How many keys the facts list.
const LISTED_MAX: usize = 200;
/// How often the password of a key is asked for.
const TRIES: usize = 3;
/// How many entries of a keystore are named.
const NAMED_MAX: usize = 20;

/// Collects the keys of an asset and holds them against its certificate.
#[derive(Default)]
pub(super) struct KeyProof {
    configured: Option<Configured>,
    password_file: Option<PathBuf>,
    password: Option<Password>,
    asked: Option<Asked>,
    /// Why whoever was asked gave no password, or no other.
    not_given: Option<String>,
    keys: Vec<(PathBuf, Key)>,
    certificates: Vec<Certificate>,
    keystores: Vec<(PathBuf, Keystore)>,
    too_long: Vec<PathBuf>,
    problems: Vec<String>,
    notes: Vec<String>,
    /// The certificate is not to be had, which was said.
    is_without_certificate: bool,
}

/// The certificate that the settings name, and what stands behind it in its file.
struct Configured {
    path: PathBuf,
    read: Option<Result<Vec<Certificate>, String>>,
}

/// What a proof came to.
#[derive(Default)]
pub(super) struct Verdict {
    /// For the facts of the asset: its certificate, where the settings name one.
    pub(super) key: Option<Value>,
    /// For the facts of the asset: its private keys.
    pub(super) private_keys: Vec<Value>,
    /// What holds.
    pub(super) shown: Vec<String>,
    /// What does not.
    pub(super) problems: Vec<String>,
    /// What could not be looked at, and what the operator should know.
    pub(super) notes: Vec<String>,
}

impl KeyProof {
    /// Begins a proof against the certificate at a path, if there is one.
    pub(super) fn new(certificate: Option<&Path>) -> Self {
        Self {
            configured: certificate.map(|path| Configured {
                path: path.to_owned(),
                read: None,
            }),
            ..Self::default()
        }
    }

    /// Takes the content of the file that has the password, or why it cannot be read.
    pub(super) fn take_password(&mut self, path: &Path, content: Result<&[u8], &str>) {
        self.password_file = Some(path.to_owned());
        match content {
            Ok(content) => self.password = Some(Password::from_file(content)),
            Err(why) => self.problems.push(format!(
                "the password file {} cannot be used: {why}",
                Quoted(path)
            )),
        }
    }

    /// Has the password asked for once a key turns out to be encrypted.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    /// Looks into a file; asks for the password while a key in it stays shut.
    fn open(&mut self, path: &Path, bytes: &[u8]) -> Material {
        let mut found = look(bytes, self.password.as_ref());
        for _ in 0..TRIES {
            let is_shut = |key: &Key| {
                let State::Closed(why) = &key.state else {
                    return false;
                };
                matches!(why, Closed::NoPassword | Closed::WrongPassword)
            };
            let Some(asked) = self.asked.take_if(|_| found.keys.iter().any(is_shut)) else {
                break;
            };
            let was_wrong = self.password.is_some();
            match asked.passwords.password(&asked.asset, path, was_wrong) {
                Ok(password) => {
                    self.password = Some(Password::from_file(password.as_bytes()));
                    self.asked = Some(asked);
                    found = look(bytes, self.password.as_ref());
                }
                Err(why) => self.not_given = Some(why),
            }
        }
        found
    }

    /// Looks at a file of the asset: for keys, and for the certificate itself. An error is why the file must not be kept.
    pub(super) fn look_at(&mut self, path: &Path, file: &Tee) -> Result<(), String> {
        let Some(bytes) = &file.kept else {
            if file.is_long_key {
                self.too_long.push(path.to_owned());
            }
            return Ok(());
        };
        let found = self.open(path, bytes);
        let stateful = |key: &&Key| matches!(key.state, State::Stateful);
        if let Some(key) = found.keys.iter().find(stateful) {
            return Err(format!(
                "holds a private key of {} and was left out: each signature uses up a part of it, and a copy that is put back would use a part twice, which gives the key away (NIST SP 800-208). Such keys stay in the module that signs with them",
                key.algorithm.as_deref().unwrap_or("a stateful signature")
            ));
        }
        if found.is_cut {
            self.notes.push(format!(
                "{}: holds more private keys than are looked at in one file",
                Quoted(path)
            ));
        }
        if self.is_configured(path) {
            self.take_certificate(bytes);
        }
        let keys = found.keys.into_iter().map(|key| (path.to_owned(), key));
        self.keys.extend(keys);
        self.certificates.extend(found.certificates);
        let keystores = found.keystore.map(|keystore| (path.to_owned(), keystore));
        self.keystores.extend(keystores);
        Ok(())
    }

    fn is_configured(&self, path: &Path) -> bool {
        let configured = self.configured.as_ref();
        configured.is_some_and(|configured| configured.path == path)
    }

    /// The path of a certificate that was not among the files.
    pub(super) fn missing_certificate(&self) -> Option<&Path> {
        let configured = self.configured.as_ref();
        let missing = configured.filter(|configured| configured.read.is_none());
        missing.map(|configured| configured.path.as_path())
    }

    /// Takes the certificate from outside the asset.
    pub(super) fn take_certificate(&mut self, bytes: &[u8]) {
        let read = Certificate::parse(bytes).map_err(|error| error.to_string());
        let read = read.map(|first| {
            let rest = look(bytes, None).certificates;
            let rest = rest.into_iter().filter(|other| *other != first);
            let rest: Vec<Certificate> = rest.collect();
            std::iter::once(first).chain(rest).collect()
        });
        self.set_certificate(read);
    }

    /// Says that the certificate cannot be had.
    pub(super) fn no_certificate(&mut self, why: &str) {
        self.set_certificate(Err(why.to_owned()));
    }

    /// Goes on without the certificate that the settings name.
    pub(super) fn forget_certificate(&mut self) {
        self.configured = None;
        self.is_without_certificate = true;
    }

    fn set_certificate(&mut self, read: Result<Vec<Certificate>, String>) {
        if let Some(configured) = &mut self.configured {
            configured.read = Some(read);
        }
    }

    /// Holds every key against the certificate, at this time.
    pub(super) fn finish(mut self, now: Timestamp) -> Verdict {
        let mut verdict = Verdict {
            problems: std::mem::take(&mut self.problems),
            notes: std::mem::take(&mut self.notes),
            ..Verdict::default()
        };
        let missing = Err("it is not there".to_owned());
        let mut certificate = None;
        if let Some(configured) = &self.configured {
            let path = Quoted(&configured.path);
            match configured.read.as_ref().unwrap_or(&missing) {
                Ok(read) => {
                    chain::check(&path, read, &self.certificates, now, &mut verdict.notes);
                    certificate = read.first().map(|first| Named { path, first });
                }
                Err(why) => verdict
                    .problems
                    .push(format!("the certificate {path} cannot be used: {why}")),
            }
        }
        let mut unproved = None;
        for (file, key) in &self.keys {
            let is_proved = self.judge(&Quoted(file), key, certificate.as_ref(), &mut verdict);
            if !is_proved && unproved.is_none() {
                unproved = Some(reason(key));
            }
            if verdict.private_keys.len() < LISTED_MAX {
                verdict.private_keys.push(listed(file, key, is_proved));
            }
        }
        self.say_what_is_missing(certificate.as_ref(), &mut verdict);
        if self.keys.is_empty() {
            unproved = Some("no private key was proved".to_owned());
        }
        let reason = verdict.problems.first().cloned().or(unproved);
        verdict.key = match (&self.configured, certificate) {
            (None, _) => None,
            (Some(_), Some(named)) => Some(facts(named.first, self.keys.len(), reason)),
            (Some(_), None) => Some(json!({"proved": false, "reason": reason})),
        };
        verdict
    }

    /// Whether a key belongs to the certificate, or to one of the asset; says what is to be said of it.
    fn judge(
        &self,
        file: &Quoted<'_>,
        key: &Key,
        certificate: Option<&Named<'_>>,
        verdict: &mut Verdict,
    ) -> bool {
        let key_in = format!("the private key in {file}");
        let other =
            |path: &Quoted<'_>| format!("{key_in} does not belong to the certificate {path}");
        let to_whom = match certificate {
            Some(named) => format!("whether it belongs to the certificate {}", named.path),
            None => "whether it can sign".to_owned(),
        };
        match (&key.state, certificate) {
            (State::Signed(signed), Some(named)) => {
                if !named.first.public_key.verifies(signed) {
                    verdict.problems.push(other(&named.path));
                    return false;
                }
                verdict.shown.push(format!(
                    "{key_in} belongs to the certificate {}",
                    named.path
                ));
                return true;
            }
            (State::Signed(signed), None) => {
                let mut all = self.certificates.iter();
                if let Some(own) = all.find(|one| one.public_key.verifies(signed)) {
                    verdict.shown.push(format!(
                        "{key_in} belongs to the certificate of {} in the asset",
                        quoted(&own.subject)
                    ));
                    return true;
                }
                // OpenSSH has its own certificates, and mostly none.
                let is_told = self.configured.is_some() || self.is_without_certificate;
                if !is_told && key.format != "OpenSSH" {
                    verdict.notes.push(format!(
                        "{key_in} belongs to no certificate in the asset; name its certificate as `certificate`"
                    ));
                }
            }
            (State::Closed(Closed::WrongPassword | Closed::NoText), _) => {
                let State::Closed(why) = &key.state else {
                    return false;
                };
                let password = match (&self.password_file, &self.not_given) {
                    (Some(path), _) => format!(" (the one in {})", Quoted(path)),
                    (None, Some(why)) => format!(" ({why})"),
                    (None, None) => String::new(),
                };
                verdict
                    .problems
                    .push(format!("{key_in} cannot be opened: {why}{password}"));
            }
            (State::Closed(why), named) => {
                let is_other = named.is_some_and(|named| {
                    let public = key.public.as_ref();
                    public.is_some_and(|public| *public != named.first.public_key)
                });
                if let (Some(named), true) = (named, is_other) {
                    verdict.problems.push(other(&named.path));
                } else {
                    let hint = match (why, &self.not_given) {
                        (Closed::NoPassword, Some(why)) => {
                            format!("; its password was not given: {why}")
                        }
                        (Closed::NoPassword, None) => {
                            "; name the file with its password as `key_password_file`, or write key_password = \"ask\"".to_owned()
                        }
                        (Closed::OldMethod(_), _) => {
                            "; `openssl pkcs8 -topk8` makes of it one that is opened here".to_owned()
                        }
                        _ => String::new(),
                    };
                    verdict.notes.push(format!(
                        "{key_in} was not opened: {why}; {to_whom} was not proved{hint}"
                    ));
                }
            }
            (State::Unprovable | State::Stateful, named) => {
                let algorithm = key.algorithm.as_deref().unwrap_or("another format");
                let wanted = named.map(|named| named.first.public_key.algorithm().to_string());
                let tells = !matches!(key.format, "another format" | "OpenSSH");
                match (named, wanted) {
                    (Some(named), Some(wanted)) if tells && wanted != algorithm => {
                        verdict.problems.push(format!(
                            "{}: it is {algorithm}, the certificate is for {wanted}",
                            other(&named.path)
                        ));
                    }
                    _ => verdict.notes.push(format!(
                        "{key_in} is {algorithm}, which cannot sign here; {to_whom} was not proved"
                    )),
                }
            }
            (State::Damaged(error), _) => verdict
                .problems
                .push(format!("{key_in} cannot be used: {error}")),
        }
        false
    }

    /// Files that were not looked into, and a certificate without its key.
    fn say_what_is_missing(&self, certificate: Option<&Named<'_>>, verdict: &mut Verdict) {
        for path in &self.too_long {
            let why = format!(
                "the private key in {} cannot be used: the file is longer than 1 MiB and is not taken for a key",
                Quoted(path)
            );
            let to = match self.configured {
                Some(_) => &mut verdict.problems,
                None => &mut verdict.notes,
            };
            to.push(why);
        }
        let mut may_be_inside = false;
        for (path, keystore) in &self.keystores {
            may_be_inside |= keystore.entries.iter().any(|entry| entry.is_key);
            may_be_inside |= !keystore.is_whole;
            verdict.notes.push(inside(path, keystore));
        }
        if let Some(named) = certificate
            && self.keys.is_empty()
            && self.too_long.is_empty()
            && !may_be_inside
        {
            verdict.problems.push(format!(
                "no private key was found that belongs to the certificate {}",
                named.path
            ));
        }
    }
}

/// The certificate that the settings name.
struct Named<'a> {
    path: Quoted<'a>,
    first: &'a Certificate,
}

/// A name from a file in a sentence.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}

/// Why a key was not proved, for the facts.
fn reason(key: &Key) -> String {
    match &key.state {
        State::Closed(Closed::NoPassword) => "the private key is encrypted".to_owned(),
        State::Closed(why) => format!("the private key was not opened: {why}"),
        State::Signed(_) => "the private key belongs to another certificate".to_owned(),
        State::Unprovable | State::Stateful => "the private key cannot sign here".to_owned(),
        State::Damaged(error) => format!("the private key cannot be used: {error}"),
    }
}

/// What the facts say of a key: fingerprints only.
fn listed(file: &Path, key: &Key, is_proved: bool) -> Value {
    json!({
        "file": file.to_string_lossy(),
        "format": key.format,
        "algorithm": key.algorithm,
        "spki_sha256": key.public.as_ref().map(PublicKey::spki_sha256),
        "encrypted": key.is_encrypted,
        "proved": is_proved,
    })
}

/// What a keystore holds, in a sentence.
fn inside(path: &Path, keystore: &Keystore) -> String {
    let names: Vec<String> = keystore
        .entries
        .iter()
        .take(NAMED_MAX)
        .map(|entry| {
            let kind = if entry.is_key {
                "private key"
            } else {
                "certificate"
            };
            format!("{} ({kind})", quoted(&entry.alias))
        })
        .collect();
    let rest = match keystore.entries.len().saturating_sub(NAMED_MAX) {
        0 if keystore.is_whole => "",
        _ => ", and more that is not listed",
    };
    format!(
        "{}: a {} keystore of {} entries: {}{rest}; its keys stay closed and were not proved",
        Quoted(path),
        keystore.format,
        keystore.count,
        names.join(", ")
    )
}

/// What the facts of an asset say of its certificate and its keys.
fn facts(certificate: &Certificate, keys: usize, reason: Option<String>) -> Value {
    let mut facts = json!({
        "algorithm": certificate.public_key.algorithm().to_string(),
        "spki_sha256": certificate.public_key.spki_sha256(),
        "certificate_subject": certificate.subject,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "keys": keys,
        "proved": reason.is_none(),
    });
    if let Some(reason) = reason {
        facts["reason"] = reason.into();
    }
    facts
}

#[cfg(test)]
mod tests;
