//! Paths in JSON: a text, or `{"base64": ...}` of the raw bytes where they are not UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { base64: String },
}

impl Written {
    fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes {
                base64: BASE64.encode(path.as_os_str().as_bytes()),
            },
        }
    }

    fn path<E: serde::de::Error>(self) -> Result<PathBuf, E> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { base64 } => {
                let bytes = BASE64.decode(base64).map_err(E::custom)?;
                Ok(OsString::from_vec(bytes).into())
            }
        }
    }
}

pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    Written::new(path).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Written::deserialize(from)?.path()
}

/// The same for a path that may be missing.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, Written};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Written::new).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let written = Option::<Written>::deserialize(from)?;
        written.map(Written::path).transpose()
    }
}

/// The same for several paths.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, PathBuf, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| Written::new(path)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let written = Vec::<Written>::deserialize(from)?;
        written.into_iter().map(Written::path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Paths {
            #[serde(with = "super")]
            one: PathBuf,
            #[serde(with = "super::option")]
            maybe: Option<PathBuf>,
            #[serde(with = "super::list")]
            all: Vec<PathBuf>,
        }
        let odd = PathBuf::from(OsString::from_vec(b"/a\n\xff".to_vec()));
        for path in [odd, PathBuf::from("/plain")] {
            let paths = Paths {
                one: path.clone(),
                maybe: Some(path.clone()),
                all: vec![path.clone(), path],
            };
            let text = serde_json::to_string(&paths).expect("serialises");
            assert_eq!(serde_json::from_str::<Paths>(&text).expect(&text), paths);
        }
    }
}
