//! A token in memory, with its source: objects are names and content, and a key is one whose content never changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::token::{Token, TokenObject, TokenSeen, WantedObjects};
use strongroom_core::source::{
    Capture, CaptureError, Chunking, Inspection, Proof, RestoredAsset, Restorer, Sink, Source,
};

use crate::entry::entry;

/// The name of this kind of source.
pub const KIND: &str = "memory-token";

/// Objects by name.
pub type Objects = BTreeMap<String, Vec<u8>>;

/// A token; clones share it.
#[derive(Clone, Default)]
pub struct MemoryToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: Objects,
    serial: u32,
    is_away: bool,
}

impl MemoryToken {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds.
    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    /// Puts an object in, whatever was there.
    pub fn insert(&self, name: &str, content: &[u8]) {
        let content = content.to_vec();
        self.lock().objects.insert(name.to_owned(), content);
    }

    /// Takes an object out.
    pub fn take(&self, name: &str) {
        self.lock().objects.remove(name);
    }

    /// Makes it another token, with the same objects.
    pub fn set_serial(&self, serial: u32) {
        self.lock().serial = serial;
    }

    /// Pulls it out, or puts it back.
    pub fn set_away(&self, is_away: bool) {
        self.lock().is_away = is_away;
    }
}

impl Source for MemoryToken {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> Value {
        Value::Null
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        Ok(Inspection::default())
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let objects = self.objects();
        for (name, content) in &objects {
            let mut stream = sink.begin(Chunking::Content)?;
            stream.write(content)?;
            stream.finish(entry(StreamKind::Dump, format!("/token/{name}")))?;
        }
        Ok(Capture {
            facts: json!({ "objects": objects }),
            ..Capture::default()
        })
    }
}

fn about(object: &TokenObject) -> (String, Vec<u8>) {
    serde_json::from_value(object.about.clone()).expect("written by observe")
}

fn no(why: &str, object: &TokenObject) -> CaptureError {
    CaptureError::Unsuitable {
        path: object.stream.clone().into(),
        why: why.to_owned(),
        hint: "",
    }
}

impl Token for MemoryToken {
    fn name(&self) -> Result<String, CaptureError> {
        let state = self.lock();
        if state.is_away {
            return Err(CaptureError::Unsuitable {
                path: "a token in memory".into(),
                why: "the token is not there".to_owned(),
                hint: "Plug it in.",
            });
        }
        Ok(format!("a token in memory, serial {}", state.serial))
    }

    fn observe(&self, wanted: &WantedObjects<'_>) -> Result<TokenSeen, CaptureError> {
        let objects = wanted.facts["objects"].clone();
        let objects: Objects = serde_json::from_value(objects).expect("written by capture");
        let mut seen = TokenSeen {
            token: self.name()?,
            ..TokenSeen::default()
        };
        for (name, content) in objects {
            let there = self.lock().objects.get(&name).cloned();
            if there.as_ref().is_some_and(|there| *there != content) {
                seen.refusals.push(format!("another {name} is there"));
            }
            let object = TokenObject {
                stream: format!("/token/{name}").into(),
                what: name.clone(),
                about: json!([name, content]),
            };
            seen.objects.push((object, there.is_some()));
        }
        Ok(seen)
    }

    fn rehearse(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError> {
        let (_, wanted) = about(object);
        if content == wanted {
            Ok(())
        } else {
            Err(no("is not what was captured", object))
        }
    }

    fn has(&self, object: &TokenObject) -> Result<bool, CaptureError> {
        let (name, content) = about(object);
        Ok(self.lock().objects.get(&name) == Some(&content))
    }

    fn put(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError> {
        let (name, _) = about(object);
        let objects = &mut self.lock().objects;
        match objects.get(&name) {
            Some(there) if there != content => Err(no("is another one now", object)),
            Some(_) => Ok(()),
            None => {
                objects.insert(name, content.to_vec());
                Ok(())
            }
        }
    }

    fn prove(&self, objects: &[&TokenObject]) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        for object in objects {
            if self.has(object)? {
                proof.shown.push(format!("{} is there", object.what));
            } else {
                proof.failures.push(format!("{} is missing", object.what));
            }
        }
        Ok(proof)
    }

    fn remove(&self, object: &TokenObject) -> Result<(), CaptureError> {
        let (name, content) = about(object);
        let objects = &mut self.lock().objects;
        if objects.get(&name) == Some(&content) {
            objects.remove(&name);
        }
        Ok(())
    }
}

/// The restorer of the kind [`KIND`].
pub struct MemoryTokenRestorer;

impl Restorer for MemoryTokenRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn is_proved_by_digest(&self) -> bool {
        true
    }

    fn loads_into_token(&self) -> bool {
        true
    }

    fn prove(&self, _: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        Ok(Proof::default())
    }
}
