//! Tokens of SoftHSM2: captured, proved, restored, and in bad luck. Each test runs in a process of its own, because the
//! library reads its configuration from the environment.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and write files"
)]

mod capture;
mod faults;
mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use strongroom_adapters::source::pkcs11::{
    Access, Export, PinFile, Pkcs11Settings, Pkcs11Source, TokenStore, TokenUri, VendorBackup,
};
use strongroom_core::format::manifest::Stream;
use strongroom_core::source::server::LoadOptions;
use strongroom_core::source::token::{Token as _, TokenObject, TokenSeen, WantedObjects};
use strongroom_core::source::{Capture, CaptureError, Source as _};
use strongroom_testkit::recording_sink::{Recorded, RecordingSink};
use strongroom_testkit::servers::softhsm::{PIN, SoftHsm};

/// The custody that the tests state.
const CUSTODY: &str = "three of five custodians, in the bank's safe";

fn access(token: &str) -> Access {
    Access {
        module: SoftHsm::module().expect("is installed"),
        token: TokenUri::of_label(token),
        use_final_try: false,
    }
}

fn wrapped() -> Export {
    Export::Wrapped {
        wrapping_key: "kek".into(),
        custody: CUSTODY.into(),
        stay_in_token: Vec::new(),
    }
}

fn inventory() -> Export {
    Export::Inventory(VendorBackup::default())
}

fn pin(hsm: &SoftHsm) -> PathBuf {
    hsm.pin_file("pin", PIN)
}

fn source(hsm: &SoftHsm, token: &str, export: Export) -> Pkcs11Source {
    let settings = Pkcs11Settings {
        access: access(token),
        export,
    };
    Pkcs11Source::new(settings, Arc::new(PinFile(pin(hsm))))
}

/// What a capture pushed and found.
struct Captured {
    capture: Capture,
    recorded: Vec<Recorded>,
}

impl Captured {
    #[track_caller]
    fn of(source: &Pkcs11Source) -> Self {
        Self::with(source, &RecordingSink::new()).expect("captures")
    }

    fn with(source: &Pkcs11Source, sink: &RecordingSink) -> Result<Self, CaptureError> {
        let capture = source.capture(sink)?;
        Ok(Self {
            capture,
            recorded: sink.recorded(),
        })
    }

    fn paths(&self) -> Vec<&str> {
        let paths = self.recorded.iter().map(|one| one.entry.path.as_path());
        paths.map(|path| path.to_str().expect("UTF-8")).collect()
    }

    #[track_caller]
    fn content(&self, path: &str) -> &[u8] {
        let found = self
            .recorded
            .iter()
            .find(|one| one.entry.path == Path::new(path));
        let found = found.unwrap_or_else(|| panic!("{path} is not in {:?}", self.paths()));
        found.content.as_deref().expect("has content")
    }

    #[track_caller]
    fn object(&self, class: &str, label: &str) -> &Value {
        let objects = self.capture.facts["objects"].as_array().expect("a list");
        let found = objects
            .iter()
            .find(|object| object["class"] == class && object["label"] == label);
        found.unwrap_or_else(|| panic!("no {class} {label} in {objects:?}"))
    }

    /// Its streams, as a manifest has them.
    fn streams(&self) -> Vec<Stream> {
        let stream = |recorded: &Recorded| Stream {
            kind: recorded.entry.kind,
            path: recorded.entry.path.clone(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: (0, 0),
            xattrs: std::collections::BTreeMap::new(),
            target: None,
            size: recorded
                .content
                .as_ref()
                .map(|content| content.len() as u64),
            sha256: None,
            content: None,
        };
        self.recorded.iter().map(stream).collect()
    }

    fn observe(&self, store: &TokenStore) -> Result<TokenSeen, CaptureError> {
        store.observe(&WantedObjects {
            facts: &self.capture.facts,
            streams: &self.streams(),
            options: &LoadOptions::default(),
        })
    }

    fn content_of(&self, object: &TokenObject) -> &[u8] {
        self.content(object.stream.to_str().expect("UTF-8"))
    }
}

fn store(hsm: &SoftHsm, token: &str) -> TokenStore {
    TokenStore::new(access(token), Arc::new(PinFile(pin(hsm))))
}

/// Whether one of the sentences has these words.
#[track_caller]
fn says(sentences: &[String], words: &str) {
    assert!(
        sentences.iter().any(|sentence| sentence.contains(words)),
        "{words:?} is not in {sentences:#?}"
    );
}
