//! Takes of a token what may leave it, and proves what stays.

use std::collections::BTreeSet;

use cryptoki::object::Attribute;
use serde_json::{Value, json};
use strongroom_core::clock::{Clock as _, SystemClock};
use strongroom_core::source::{Capture, CaptureError, Chunking, Entry, Inspection, Sink};

use super::error::TokenError;
use super::facts::{ObjectFacts, ObjectKind};
use super::module::OpenToken;
use super::objects::{self, Object};
use super::pin::PinEntry;
use super::proof::{self, Signed, Verdict};
use super::wrap::{self, WrappingKey};
use super::{Export, Pkcs11Settings, paths, softhsm};

/// The longest facts, in bytes: they share a line of 1 MiB with problems and notes.
const FACTS_MAX: usize = 768 << 10;

/// Looks at a token: its objects, and whether each key signs.
pub(super) fn inspect(
    settings: &Pkcs11Settings,
    pin: &dyn PinEntry,
) -> Result<Inspection, CaptureError> {
    let mut inspection = Inspection::default();
    let told = |error: TokenError| error.of(settings.access.token.to_string());
    let token = OpenToken::open(&settings.access, pin, false).map_err(told)?;
    let mut objects = objects::read_all(&token.session, &token.facts).map_err(told)?;
    let verdict = proof::prove_all(&token, &mut objects).map_err(told)?;
    inspection.about = Some(format!(
        "{}: {} objects, {} keys proved",
        token.facts.words(),
        objects.len(),
        proved(&objects)
    ));
    inspection.problems = proof::sentences(verdict.problems);
    inspection.notes = proof::sentences(verdict.notes);
    match &settings.export {
        Export::Inventory(vendor) => {
            let (problems, _) = vendor.look();
            inspection.problems.extend(problems);
        }
        Export::Wrapped {
            wrapping_key,
            custody,
            stay_in_token,
        } => match WrappingKey::find(&objects, wrapping_key, custody) {
            Err(error) => inspection.problems.push(error.to_string()),
            Ok(wrapping) => {
                for object in &objects {
                    inspection
                        .problems
                        .extend(cannot_leave(object, &wrapping, stay_in_token));
                }
            }
        },
        Export::SoftHsm { tokens } => {
            let directory = softhsm::directory(tokens, &token.facts)?;
            inspection.covered.push(directory);
        }
    }
    Ok(inspection)
}

/// How many private keys were proved.
fn proved(objects: &[Object]) -> usize {
    let is_proved = |object: &&Object| {
        object.facts.class == ObjectKind::PrivateKey && object.facts.proved == Some(true)
    };
    objects.iter().filter(is_proved).count()
}

/// Whether one of the names is the label or identifier of a key.
fn is_named(object: &Object, names: &[String]) -> bool {
    let facts = &object.facts;
    names.iter().any(|name| {
        *name == facts.label || (!facts.id.is_empty() && name.eq_ignore_ascii_case(&facts.id))
    })
}

/// Why a key cannot be wrapped, unless that is expected.
fn cannot_leave(object: &Object, wrapping: &WrappingKey, staying: &[String]) -> Option<String> {
    let facts = &object.facts;
    let stays = facts.class.is_secret()
        && !wrapping.is(object)
        && facts.flag("extractable") != Some(true)
        && !is_named(object, staying);
    stays.then(|| {
        format!(
            "{} is not extractable, so no backup can hold it; if that is meant, name it in stay_in_token",
            facts.words()
        )
    })
}

/// Captures a token.
pub(super) fn capture(
    settings: &Pkcs11Settings,
    pin: &dyn PinEntry,
    sink: &dyn Sink,
) -> Result<Capture, CaptureError> {
    let told = |error: TokenError| error.of(settings.access.token.to_string());
    let token = OpenToken::open(&settings.access, pin, false).map_err(told)?;
    // Before the objects are read, so that facts and files are of one state.
    let directory = match &settings.export {
        Export::SoftHsm { tokens } => {
            let directory = softhsm::directory(tokens, &token.facts)?;
            let before = softhsm::Snapshot::of(&directory)?;
            Some((directory, before))
        }
        _ => None,
    };
    let mut objects = objects::read_all(&token.session, &token.facts).map_err(told)?;
    let as_found: Vec<_> = objects.iter().map(|object| object.facts.clone()).collect();
    let Verdict {
        problems, notes, ..
    } = proof::prove_all(&token, &mut objects).map_err(told)?;
    let mut taken = Taking {
        sink,
        token: &token,
        name: paths::token(&token.facts),
        seconds: SystemClock.now().as_second(),
        paths: BTreeSet::new(),
        problems: proof::sentences(problems),
        notes: proof::sentences(notes),
        wrapping: None,
    };
    match &settings.export {
        Export::Inventory(vendor) => {
            taken.open_objects(&mut objects, false)?;
            taken.vendor_backup(vendor, &objects)?;
        }
        Export::Wrapped {
            wrapping_key,
            custody,
            stay_in_token,
        } => {
            taken.open_objects(&mut objects, true)?;
            let wrapping = WrappingKey::find(&objects, wrapping_key, custody);
            taken.keys(&mut objects, wrapping, stay_in_token)?;
        }
        Export::SoftHsm { .. } => {}
    }
    let mut facts = json!({
        "token": token.facts,
        "uri": token.facts.uri().to_string(),
        "export": settings.export.name(),
        "objects": objects.iter().map(|object| &object.facts).collect::<Vec<_>>(),
    });
    if let Some(wrapping) = &taken.wrapping {
        facts["wrapping"] = json!(wrapping);
    }
    if directory.is_none() {
        taken.list(&facts)?;
    }
    let Taking {
        mut problems,
        mut notes,
        ..
    } = taken;
    if let Some((directory, before)) = directory {
        let files = softhsm::capture(&directory, &before, sink)?;
        problems.extend(files.problems);
        notes.extend(files.notes);
        facts["files"] = files.facts;
    }
    problems.extend(changed(&token, &as_found));
    if facts.to_string().len() > FACTS_MAX {
        return Err(told(TokenError::Object(format!(
            "it holds {} objects, more than one asset can describe",
            objects.len()
        ))));
    }
    Ok(Capture {
        facts,
        problems,
        notes,
        memory: None,
    })
}

/// Whether the token is another one than at the beginning.
fn changed(token: &OpenToken, as_found: &[ObjectFacts]) -> Option<String> {
    let again = token
        .is_still_there()
        .and_then(|()| objects::read_all(&token.session, &token.facts));
    match again {
        Ok(again) if again.iter().map(|object| &object.facts).eq(as_found) => None,
        Ok(_) => Some(
            "objects of the token were made, changed or destroyed while it was read: back up again"
                .to_owned(),
        ),
        Err(error) => Some(format!(
            "the token was lost while it was read: {}. {}",
            strongroom_core::error_chain(&error),
            error.hint()
        )),
    }
}

/// A capture at work.
struct Taking<'t> {
    sink: &'t dyn Sink,
    token: &'t OpenToken,
    name: String,
    seconds: i64,
    paths: BTreeSet<String>,
    problems: Vec<String>,
    notes: Vec<String>,
    wrapping: Option<wrap::WrapFacts>,
}

impl Taking<'_> {
    fn stream(&self, path: &str, content: &[u8]) -> Result<(), CaptureError> {
        let mut stream = self.sink.begin(Chunking::Content)?;
        stream.write(content)?;
        stream.finish(Entry::dump(path, self.seconds))?;
        Ok(())
    }

    /// Takes what is open: certificates, public keys, and data where it may leave.
    fn open_objects(
        &mut self,
        objects: &mut [Object],
        with_data: bool,
    ) -> Result<(), CaptureError> {
        for object in objects {
            self.sink.cancel().check()?;
            let facts = &object.facts;
            let content = match facts.class {
                ObjectKind::Certificate => object.value.as_ref().map(|value| value.as_slice()),
                ObjectKind::Data if with_data => {
                    object.value.as_ref().map(|value| value.as_slice())
                }
                ObjectKind::PublicKey => {
                    let public = object.public.as_ref();
                    public.map(|public| public.spki.as_slice())
                }
                ObjectKind::Data | ObjectKind::Other => {
                    let note = format!("{} is listed, and not in the backup", facts.words());
                    self.notes.push(note);
                    continue;
                }
                ObjectKind::SecretKey | ObjectKind::PrivateKey => continue,
            };
            let Some(content) = content else {
                let why =
                    "cannot be read as one of a kind that is known here, and is not in the backup";
                self.problems.push(format!("{} {why}", facts.words()));
                continue;
            };
            let path = paths::object(&self.name, facts, &mut self.paths);
            self.stream(&path, content)?;
            object.facts.stream = Some(path);
        }
        Ok(())
    }

    /// Takes every key that may leave, wrapped; each is unwrapped once more, and signs.
    fn keys(
        &mut self,
        objects: &mut [Object],
        wrapping: Result<WrappingKey, TokenError>,
        stay_in_token: &[String],
    ) -> Result<(), CaptureError> {
        let mut wrapping = match wrapping {
            Ok(wrapping) => wrapping,
            Err(error) => {
                let keys = objects
                    .iter()
                    .filter(|object| object.facts.class.is_secret());
                self.problems.push(format!(
                    "{error}; {} keys are not in the backup",
                    keys.count()
                ));
                return Ok(());
            }
        };
        for object in objects.iter_mut() {
            self.sink.cancel().check()?;
            if !object.facts.class.is_secret() {
                continue;
            }
            let words = object.facts.words();
            if wrapping.is(object) {
                self.notes.push(format!(
                    "{words} is the wrapping key and not in the backup; its custody: {}",
                    wrapping.facts.custody
                ));
                continue;
            }
            if is_named(object, stay_in_token) {
                self.notes.push(format!(
                    "{words} stays in the token, as configured, and is not in the backup"
                ));
                continue;
            }
            if let Some(problem) = cannot_leave(object, &wrapping, stay_in_token) {
                self.problems.push(problem);
                continue;
            }
            let wrapped = match wrapping.wrap(&self.token.session, object.handle) {
                Ok(wrapped) => wrapped,
                Err(error) => {
                    self.problems.push(format!(
                        "{words} is not in the backup: {}",
                        strongroom_core::error_chain(&error)
                    ));
                    continue;
                }
            };
            match self.opens_again(object, &wrapping, &wrapped) {
                Ok(true) => {}
                Ok(false) => self.notes.push(format!(
                    "{words}: whether it opens again was not tried, the token has nothing that unwraps it"
                )),
                Err(error) => self.problems.push(format!(
                    "{words}: what was wrapped does not open again: {}",
                    strongroom_core::error_chain(&error)
                )),
            }
            let path = paths::object(&self.name, &object.facts, &mut self.paths);
            self.stream(&path, &wrapped)?;
            object.facts.stream = Some(path);
        }
        self.wrapping = Some(wrapping.facts);
        Ok(())
    }

    /// Unwraps a key for this session and lets it sign; false where nothing in the token unwraps it.
    fn opens_again(
        &self,
        object: &Object,
        wrapping: &WrappingKey,
        wrapped: &[u8],
    ) -> Result<bool, TokenError> {
        let Some(key) = wrapping.unwrapping() else {
            return Ok(false);
        };
        let session = &self.token.session;
        let template: Vec<Attribute> = wrap::template(&object.facts, false)?;
        let copy = wrap::unwrap(session, key, wrapping.facts.form, wrapped, &template)?;
        if object.facts.class == ObjectKind::SecretKey {
            let is = objects::read_one(session, &self.token.facts, copy)?.facts;
            if object.facts.check_value.is_some() && is.check_value != object.facts.check_value {
                return Err(TokenError::Object("it is another key".to_owned()));
            }
        }
        let checked = match &object.public {
            Some(public) if object.facts.proved == Some(true) => {
                let each_time = object.wants_pin_each_time();
                Signed::make(self.token, copy, public.algorithm(), each_time)
                    .map(|signed| signed.is_of(public))
            }
            _ => Ok(true),
        };
        let destroyed = session.destroy_object(copy);
        let is_same = checked?;
        destroyed.map_err(TokenError::call("destroy the copy"))?;
        if !is_same {
            return Err(TokenError::Object("it signs as another key".to_owned()));
        }
        Ok(true)
    }

    /// Takes what the vendor's procedure makes, and says what would be lost without it.
    fn vendor_backup(
        &mut self,
        vendor: &super::VendorBackup,
        objects: &[Object],
    ) -> Result<(), CaptureError> {
        let keys = objects
            .iter()
            .filter(|object| object.facts.class.is_secret());
        let keys = keys.count();
        if vendor.is_none() {
            if keys > 0 {
                self.notes.push(format!(
                    "{keys} keys are in the token alone: no vendor_backup is configured, and export = \"inventory\" takes no key"
                ));
            }
            return Ok(());
        }
        let path = vendor.capture(&self.name, self.sink, &mut self.problems)?;
        if path.is_some() {
            let (_, age) = vendor.look();
            self.notes.extend(age);
            self.notes.push(format!(
                "{keys} keys come back by the vendor's procedure alone"
            ));
        }
        Ok(())
    }

    /// Takes the list of the objects, for those who restore by hand.
    fn list(&self, facts: &Value) -> Result<(), CaptureError> {
        let mut text = serde_json::to_vec_pretty(facts).expect("facts of plain values serialise");
        text.push(b'\n');
        self.stream(&paths::objects(&self.name), &text)
    }
}
