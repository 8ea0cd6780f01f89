//! A token that objects are put into again: one call of the token makes one object, under the names that servers look for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::object::{Attribute, CertificateType, ObjectHandle};
use serde::{Deserialize, Serialize};
use strongroom_core::format::Digest;
use strongroom_core::source::token::{Token, TokenObject, TokenSeen, WantedObjects};
use strongroom_core::source::{CaptureError, Proof};
use x509_cert::der::{Decode as _, Encode as _};

use super::error::TokenError;
use super::facts::{ObjectFacts, ObjectKind, from_hex};
use super::module::{Access, OpenToken};
use super::objects::{self, Object};
use super::observe::{observe, uri_change};
use super::pin::PinEntry;
use super::proof::{self, Signed, can_sign_here};
use super::public_key::PublicKey;
use super::wrap::{self, WrapFacts};

/// What a plan keeps of an object.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) facts: ObjectFacts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wrapping: Option<WrapFacts>,
    /// Whether the token had objects without names and content before: then such ones are left alone.
    #[serde(default)]
    pub(super) had_nameless: bool,
}

/// A token, opened when it is first needed.
pub struct TokenStore {
    access: Access,
    pin: Arc<dyn PinEntry>,
    state: Mutex<State>,
}

/// An open token, and what is known of keys.
#[derive(Default)]
pub(super) struct State {
    open: Option<OpenToken>,
    /// Public keys that were seen in the token or in the backup: what a key signs is verified with them.
    known: BTreeMap<Digest, PublicKey>,
    has_looked: bool,
    is_cleared: bool,
}

/// What goes by the names of an object.
#[derive(Default)]
struct Named {
    /// The object itself.
    same: Option<ObjectHandle>,
    /// What a killed program left: names without a key. A token may write an object in several steps, as SoftHSM2 does.
    remains: Vec<ObjectHandle>,
    /// Another key or content.
    has_another: bool,
}

/// Whether an object has names and nothing behind them.
fn is_empty(object: &Object) -> bool {
    let facts = &object.facts;
    match facts.class {
        ObjectKind::Certificate => object.value.is_none(),
        ObjectKind::PublicKey => object.public.is_none() && facts.ec_params.is_none(),
        ObjectKind::SecretKey => {
            facts.size_bits.is_none_or(|bits| bits == 0) && facts.check_value.is_none()
        }
        ObjectKind::PrivateKey => match facts.key_type.as_deref() {
            Some("RSA") => object.public.is_none(),
            Some("EC" | "EC_EDWARDS" | "EC_MONTGOMERY") => {
                object.public.is_none() && facts.ec_params.is_none()
            }
            _ => false,
        },
        ObjectKind::Data => object.value.is_none() && facts.application.is_none(),
        ObjectKind::Other => !object.has_class,
    }
}

/// Whether an object has no names either.
pub(super) fn is_nameless(object: &Object) -> bool {
    object.facts.id.is_empty() && object.facts.label.is_empty() && is_empty(object)
}

impl State {
    pub(super) fn token(&self) -> &OpenToken {
        self.open.as_ref().expect("opened when the state was taken")
    }

    fn know(&mut self, public: Option<&PublicKey>) {
        if let Some(public) = public {
            self.known.insert(public.spki_sha256(), public.clone());
        }
    }

    /// All objects, each key proved.
    pub(super) fn look(&mut self) -> Result<(Vec<Object>, proof::Verdict), TokenError> {
        let token = self.token();
        let mut objects = objects::read_all(&token.session, &token.facts)?;
        let verdict = proof::prove_all(token, &mut objects)?;
        for object in &objects {
            self.know(object.public.as_ref());
        }
        self.has_looked = true;
        Ok((objects, verdict))
    }

    /// Looks once: what is in the token already is needed to tell keys apart.
    fn look_once(&mut self) -> Result<(), TokenError> {
        if !self.has_looked {
            self.look()?;
        }
        Ok(())
    }

    /// What goes by these names.
    fn find(&self, about: &About) -> Result<Named, TokenError> {
        let (token, facts) = (self.token(), &about.facts);
        let mut named = Named::default();
        for mut object in objects::read_named(&token.session, &token.facts, facts)? {
            if is_empty(&object) {
                named.remains.push(object.handle);
                continue;
            }
            if object.facts.class == ObjectKind::PrivateKey {
                self.identify(&mut object, facts)?;
            }
            if object.facts.holds_the_same(facts) {
                named.same = Some(object.handle);
            } else {
                named.has_another = true;
            }
        }
        Ok(named)
    }

    /// Clears away, once, what a killed program left without names.
    fn clear(&mut self, about: &About) -> Result<(), TokenError> {
        if self.is_cleared || about.had_nameless {
            return Ok(());
        }
        let token = self.token();
        for object in objects::read_whatever(&token.session, &token.facts)? {
            if is_nameless(&object) {
                self.destroy(object.handle)?;
            }
        }
        self.is_cleared = true;
        Ok(())
    }

    fn destroy(&self, handle: ObjectHandle) -> Result<(), TokenError> {
        let destroyed = self.token().session.destroy_object(handle);
        destroyed.map_err(TokenError::call("destroy it"))
    }

    /// Finds out whether a private key is the wanted one: it signs what the wanted public key verifies.
    fn identify(&self, object: &mut Object, wanted: &ObjectFacts) -> Result<(), TokenError> {
        if object.facts.spki_sha256.is_some() {
            return Ok(());
        }
        let Some(public) = wanted
            .spki_sha256
            .and_then(|digest| self.known.get(&digest))
        else {
            return Err(TokenError::Object(format!(
                "whether {} is the key of the backup cannot be told: there is no certificate or public key of it",
                wanted.words()
            )));
        };
        let signs = wanted.flag("sign") != Some(false) && can_sign_here(public.algorithm());
        // What does not sign is known by its names alone.
        let is_it = !signs || {
            let each_time = object.wants_pin_each_time();
            let algorithm = public.algorithm();
            Signed::make(self.token(), object.handle, algorithm, each_time)?.is_of(public)
        };
        object.facts.spki_sha256 = is_it.then(|| public.spki_sha256());
        Ok(())
    }

    /// Makes an object of its stream.
    fn make(&self, about: &About, content: &[u8], stays: bool) -> Result<ObjectHandle, TokenError> {
        let session = &self.token().session;
        let facts = &about.facts;
        let mut template = wrap::template(facts, stays)?;
        if facts.class.is_secret() {
            let wrapping = about.wrapping.as_ref().ok_or_else(|| {
                TokenError::Object("the backup does not tell how it was wrapped".to_owned())
            })?;
            let token = self.token();
            let all = objects::read_all(session, &token.facts)?;
            let key = wrap::unwrapping(&all, wrapping).ok_or_else(|| no_wrapping_key(wrapping))?;
            return wrap::unwrap(session, key, wrapping.form, content, &template);
        }
        template.extend(parts(facts, content)?);
        session
            .create_object(&template)
            .map_err(TokenError::call("make it"))
    }
}

/// What to say where the wrapping key is missing.
pub(super) fn no_wrapping_key(wrapping: &WrapFacts) -> TokenError {
    TokenError::Object(format!(
        "the wrapping key {:?} is not in this token, or may not unwrap (CKA_UNWRAP); bring it there first. Its custody: {}",
        wrapping.key_label, wrapping.custody
    ))
}

/// The attributes that a certificate, a public key or data are made of.
fn parts(facts: &ObjectFacts, content: &[u8]) -> Result<Vec<Attribute>, TokenError> {
    let damaged = || TokenError::Object("its content is damaged".to_owned());
    match facts.class {
        ObjectKind::Certificate => {
            let certificate = x509_cert::Certificate::from_der(content).map_err(|_| damaged())?;
            let inner = certificate.tbs_certificate();
            let encoded = |value: Result<Vec<u8>, der::Error>| value.map_err(|_| damaged());
            Ok(vec![
                Attribute::CertificateType(CertificateType::X_509),
                Attribute::Subject(encoded(inner.subject().to_der())?),
                Attribute::Issuer(encoded(inner.issuer().to_der())?),
                Attribute::SerialNumber(encoded(inner.serial_number().to_der())?),
                Attribute::Value(content.to_vec()),
            ])
        }
        ObjectKind::PublicKey => {
            let public = PublicKey::from_spki(content).ok_or_else(damaged)?;
            if let Some((modulus, exponent)) = public.rsa_parts() {
                return Ok(vec![
                    Attribute::Modulus(modulus),
                    Attribute::PublicExponent(exponent),
                ]);
            }
            let parameters = facts.ec_params.as_deref().and_then(from_hex);
            let point = public.ec_point();
            let (Some(parameters), Some(point)) = (parameters, point) else {
                return Err(damaged());
            };
            Ok(vec![
                Attribute::EcParams(parameters),
                Attribute::EcPoint(point),
            ])
        }
        ObjectKind::Data => {
            let application = facts.application.clone().unwrap_or_default();
            Ok(vec![
                Attribute::Application(application.into_bytes()),
                Attribute::Value(content.to_vec()),
            ])
        }
        _ => Err(damaged()),
    }
}

/// What the content of a stream is, as far as it can be told without the token.
fn public_of(facts: &ObjectFacts, content: &[u8]) -> Option<PublicKey> {
    match facts.class {
        ObjectKind::Certificate => x509_cert::Certificate::from_der(content)
            .ok()
            .and_then(|certificate| PublicKey::from_certificate(&certificate)),
        ObjectKind::PublicKey => PublicKey::from_spki(content),
        _ => None,
    }
}

impl TokenStore {
    /// A token; nothing is loaded yet.
    pub fn new(access: Access, pin: Arc<dyn PinEntry>) -> Self {
        Self {
            access,
            pin,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, TokenError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open.is_none() {
            state.open = Some(OpenToken::open(&self.access, &*self.pin, true)?);
        }
        Ok(state)
    }

    /// Does something with the open token, and ties its error to the object.
    fn with<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut State) -> Result<T, TokenError>,
    ) -> Result<T, CaptureError> {
        let mut state = self
            .state()
            .map_err(|error| error.of(self.access.token.to_string()))?;
        act(&mut state).map_err(|error| error.of(what))
    }
}

fn about(object: &TokenObject) -> Result<About, TokenError> {
    serde_json::from_value(object.about.clone())
        .map_err(|error| TokenError::Object(format!("the plan is damaged: {error}")))
}

impl Token for TokenStore {
    fn name(&self) -> Result<String, CaptureError> {
        self.with(&self.access.token.to_string(), |state| {
            Ok(state.token().facts.words())
        })
    }

    fn observe(&self, wanted: &WantedObjects<'_>) -> Result<TokenSeen, CaptureError> {
        self.with(&self.access.token.to_string(), |state| {
            observe(state, wanted)
        })
    }

    fn rehearse(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError> {
        self.with(&object.what, |state| {
            let about = about(object)?;
            let facts = &about.facts;
            state.know(public_of(facts, content).as_ref());
            state.look_once()?;
            let handle = state.make(&about, content, false)?;
            let checked = is_wanted(state, handle, facts);
            let destroyed = state.token().session.destroy_object(handle);
            checked?;
            destroyed.map_err(TokenError::call("destroy what was tried"))
        })
    }

    fn has(&self, object: &TokenObject) -> Result<bool, CaptureError> {
        self.with(&object.what, |state| {
            let about = about(object)?;
            state.look_once()?;
            Ok(state.find(&about)?.same.is_some())
        })
    }

    fn put(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError> {
        self.with(&object.what, |state| {
            let about = about(object)?;
            state.know(public_of(&about.facts, content).as_ref());
            state.look_once()?;
            state.clear(&about)?;
            let named = state.find(&about)?;
            for remains in named.remains {
                state.destroy(remains)?;
            }
            if named.same.is_some() {
                return Ok(());
            }
            if named.has_another {
                return Err(TokenError::Object(
                    "another one has come under its names since the plan was made".to_owned(),
                ));
            }
            state.make(&about, content, true)?;
            Ok(())
        })
    }

    fn prove(&self, objects: &[&TokenObject]) -> Result<Proof, CaptureError> {
        self.with(&self.access.token.to_string(), |state| {
            let (there, verdict) = state.look()?;
            let abouts: Vec<About> = objects
                .iter()
                .copied()
                .map(about)
                .collect::<Result<_, _>>()?;
            let is_ours = |index: &usize| {
                let facts = &there[*index].facts;
                let mut wanted = abouts.iter().map(|about| &about.facts);
                wanted.any(|wanted| wanted.class == facts.class && wanted.is_named_as(facts))
            };
            // What else is wrong in the token is no failure of this restore.
            let (ours, others): (Vec<_>, Vec<_>) = verdict
                .problems
                .into_iter()
                .partition(|(index, _)| is_ours(index));
            let mut shown = verdict.shown;
            shown.retain(|(index, _)| is_ours(index));
            let mut notes = verdict.notes;
            notes.retain(|(index, _)| is_ours(index));
            notes.extend(others);
            let mut proof = Proof {
                shown: proof::sentences(shown),
                failures: proof::sentences(ours),
                notes: proof::sentences(notes),
            };
            let mut keys = 0;
            for (object, about) in objects.iter().zip(&abouts) {
                keys += usize::from(about.facts.class.is_secret());
                if state.find(about)?.same.is_none() {
                    proof
                        .failures
                        .push(format!("{} is not in the token", object.what));
                }
                proof
                    .notes
                    .extend(uri_change(&about.facts, &state.token().facts));
            }
            proof.shown.push(format!(
                "{} objects, {keys} of them keys, are in {}",
                objects.len(),
                state.token().facts.words()
            ));
            Ok(proof)
        })
    }

    fn remove(&self, object: &TokenObject) -> Result<(), CaptureError> {
        self.with(&object.what, |state| {
            let about = about(object)?;
            state.look()?;
            state.clear(&about)?;
            let named = state.find(&about)?;
            let ours = named.same.into_iter().chain(named.remains);
            ours.into_iter()
                .try_for_each(|handle| state.destroy(handle))
        })
    }
}

/// Whether a new object is what was captured.
fn is_wanted(state: &State, handle: ObjectHandle, facts: &ObjectFacts) -> Result<(), TokenError> {
    let token = state.token();
    let mut object = objects::read_one(&token.session, &token.facts, handle)?;
    if object.facts.class == ObjectKind::PrivateKey {
        state.identify(&mut object, facts)?;
        // That it tells its public key proves nothing; that it signs does.
        if let Some(public) = object
            .public
            .as_ref()
            .filter(|public| facts.flag("sign") != Some(false) && can_sign_here(public.algorithm()))
            && !Signed::make(
                token,
                handle,
                public.algorithm(),
                object.wants_pin_each_time(),
            )?
            .is_of(public)
        {
            return Err(TokenError::Object(
                "its signature does not verify with its own public key".to_owned(),
            ));
        }
    }
    let has_digest = facts.class != ObjectKind::SecretKey || facts.check_value.is_some();
    if has_digest && !object.facts.holds_the_same(facts) {
        return Err(TokenError::Object(
            "what comes out is another key or content than was captured".to_owned(),
        ));
    }
    Ok(())
}
