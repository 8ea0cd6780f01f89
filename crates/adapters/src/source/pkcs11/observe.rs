//! A look at a token for a plan: what is there already, what is in the way, what the backup does not hold.

use strongroom_core::source::token::{TokenObject, TokenSeen, WantedObjects};

use super::error::TokenError;
use super::facts::{ObjectFacts, ObjectKind, from_hex};
use super::module::TokenFacts;
use super::objects::{self, Object};
use super::store::{About, State, is_nameless, no_wrapping_key};
use super::wrap::{self, WrapFacts};

/// How servers named a private key, and how they must name it now.
pub(super) fn uri_change(facts: &ObjectFacts, token: &TokenFacts) -> Option<String> {
    let id = from_hex(&facts.id)?;
    let now = token
        .uri()
        .object(facts.class.uri_type(), &id, &facts.label);
    (facts.class == ObjectKind::PrivateKey && now != facts.uri).then(|| {
        format!(
            "the configuration of the server must change: {} becomes {now}",
            facts.uri
        )
    })
}

/// Looks.
pub(super) fn observe(
    state: &mut State,
    wanted: &WantedObjects<'_>,
) -> Result<TokenSeen, TokenError> {
    let (there, verdict) = state.look()?;
    let token = state.token();
    let mut seen = TokenSeen {
        token: token.facts.words(),
        ..TokenSeen::default()
    };
    seen.notes.extend(
        verdict
            .problems
            .into_iter()
            .map(|(_, problem)| format!("in the token now: {problem}")),
    );
    let damaged =
        |error| TokenError::Object(format!("the facts of the asset are damaged: {error}"));
    let objects = wanted.facts.get("objects").cloned().unwrap_or_default();
    let objects: Vec<ObjectFacts> = serde_json::from_value(objects).map_err(damaged)?;
    let wrapping = wanted.facts.get("wrapping").cloned();
    let wrapping: Option<WrapFacts> = wrapping
        .map(serde_json::from_value)
        .transpose()
        .map_err(damaged)?;
    let vendor = wanted
        .streams
        .iter()
        .any(|stream| stream.path.ends_with("vendor-backup"));
    if vendor {
        seen.notes.push(
            "the vendor's backup is not put into the token, the vendor's procedure does that; --to-dir restores it as a file"
                .to_owned(),
        );
    }
    let whatever = objects::read_whatever(&token.session, &token.facts)?;
    let had_nameless = whatever.iter().any(is_nameless);
    let (mut makes, mut needs_wrapping_key) = (false, false);
    for facts in &objects {
        let same = there
            .iter()
            .filter(|object| object.facts.holds_the_same(facts));
        let same: Vec<&Object> = same.collect();
        let Some(stream) = &facts.stream else {
            let is_wrapping = wrapping.as_ref().is_some_and(|wrapping| {
                facts.label == wrapping.key_label && facts.id == wrapping.key_id
            });
            if facts.class.is_secret() && !is_wrapping && same.is_empty() {
                seen.missing.push(format!(
                    "{} is neither in the backup nor in this token: it comes back by the vendor's procedure, or not at all",
                    facts.words()
                ));
            }
            continue;
        };
        let is_there = same.iter().any(|object| object.facts.is_named_as(facts));
        if !is_there {
            makes = true;
            needs_wrapping_key |= facts.class.is_secret();
            seen.refusals
                .extend(in_the_way(facts, &same, &there, &objects));
            seen.notes.extend(uri_change(facts, &token.facts));
            if facts.flag("trusted") == Some(true) {
                seen.notes.push(format!(
                    "{} was marked as trusted; the security officer of the token marks it again",
                    facts.words()
                ));
            }
        }
        let object = TokenObject {
            stream: stream.into(),
            what: facts.words(),
            about: serde_json::to_value(About {
                facts: facts.clone(),
                wrapping: wrapping.clone().filter(|_| facts.class.is_secret()),
                had_nameless,
            })
            .expect("facts of plain values serialise"),
        };
        seen.objects.push((object, is_there));
    }
    if makes && token.is_write_protected {
        seen.refusals
            .push(format!("{} is write-protected", seen.token));
    }
    if let Some(wrapping) = wrapping.filter(|_| needs_wrapping_key) {
        if wrap::unwrapping(&there, &wrapping).is_none() {
            seen.refusals.push(no_wrapping_key(&wrapping).to_string());
        }
        seen.notes.push(
            "a key that is put into a token is never called local, always sensitive or never extractable, whatever it was before"
                .to_owned(),
        );
    }
    Ok(seen)
}

/// Why an object cannot be made: its key is there under other names, or its names belong to another key.
fn in_the_way(
    facts: &ObjectFacts,
    same: &[&Object],
    there: &[Object],
    wanted: &[ObjectFacts],
) -> Vec<String> {
    if let Some(object) = same.first() {
        return vec![format!(
            "{} is in the token already, but as {}: give it the names of the backup (pkcs11-tool --set-id), or remove it",
            facts.words(),
            object.facts.words()
        )];
    }
    let is_wanted = |object: &Object| {
        wanted
            .iter()
            .any(|facts| object.facts.holds_the_same(facts))
    };
    let mut refusals = Vec::new();
    for object in there {
        let other = &object.facts;
        let same_names = other.class == facts.class
            && (!other.id.is_empty() && other.id == facts.id
                || !other.label.is_empty() && other.label == facts.label);
        if same_names && !is_wanted(object) {
            refusals.push(format!(
                "another {} is in the token as {:?} (id {}), where {} goes; nothing in a token is replaced: choose another token",
                other.class.words(),
                other.label,
                other.id,
                facts.words()
            ));
        }
    }
    refusals
}
