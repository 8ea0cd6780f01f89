//! Buckets that keep versions: how one was at a time, and what deleting for good takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::types::BucketVersioningStatus;
use bytes::Bytes;
use jiff::Timestamp;
use strongroom_core::storage::{ObjectStat, Put};

use super::super::remote::{RequestError, Requests};
use super::errors;
use super::requests::{S3Requests, can_be_listed, stat, timestamp, wait};

/// One version of an object, or the mark that it was deleted.
struct Version {
    name: String,
    id: String,
    stored: Option<Timestamp>,
    /// `None` for the mark of a deletion.
    stat: Option<ObjectStat>,
}

impl S3Requests {
    /// The versions of all objects whose names begin so, and the marks of deletions.
    fn versions(&self, prefix: &str) -> Result<Vec<Version>, RequestError> {
        let (mut key_marker, mut version_marker) = (None, None);
        let mut found = Vec::new();
        loop {
            let request = self
                .client
                .list_object_versions()
                .bucket(&self.place.bucket)
                .prefix(self.place.key(prefix))
                .set_key_marker(key_marker)
                .set_version_id_marker(version_marker);
            let page = wait(0, request.send())?;
            let page = page.map_err(|error| self.judge(&error))?;
            let name = |key: Option<&str>| self.place.name(key?).map(str::to_owned);
            for version in page.versions() {
                let (Some(name), Some(id)) = (name(version.key()), version.version_id()) else {
                    continue;
                };
                found.push(Version {
                    name,
                    id: id.to_owned(),
                    stored: version.last_modified().and_then(timestamp),
                    stat: Some(stat(version.size(), version.last_modified())),
                });
            }
            for mark in page.delete_markers() {
                let (Some(name), Some(id)) = (name(mark.key()), mark.version_id()) else {
                    continue;
                };
                found.push(Version {
                    name,
                    id: id.to_owned(),
                    stored: mark.last_modified().and_then(timestamp),
                    stat: None,
                });
            }
            if page.is_truncated() != Some(true) {
                return Ok(found);
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
            if key_marker.is_none() {
                return Err(RequestError::transient(
                    "a list of versions that does not go on",
                ));
            }
        }
    }

    /// Deletes an object with all its versions where the bucket keeps any, so that it frees room.
    ///
    /// Who may not list versions deletes the newest only, as the storage understands it.
    pub(super) fn delete_for_good(&self, key: &str) -> Result<(), RequestError> {
        if !self.keeps_versions()? {
            return self.delete_version(key, None);
        }
        let versions = match self.versions(key) {
            Ok(versions) => versions,
            Err(RequestError::Refused { why, .. }) => {
                tracing::warn!(key, why, "versions cannot be listed; they stay");
                return self.delete_version(key, None);
            }
            Err(error) => return Err(error),
        };
        let mut own: Vec<_> = versions.into_iter().filter(|one| one.name == key).collect();
        // The oldest first, marks of deletions last: what is left by an interruption is still seen, and tried again.
        own.sort_by_key(|version| (version.stat.is_none(), version.stored));
        own.iter()
            .try_for_each(|version| self.delete_version(key, Some(&version.id)))
    }

    fn delete_version(&self, key: &str, version: Option<&str>) -> Result<(), RequestError> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .set_version_id(version.map(str::to_owned));
        match wait(0, request.send())? {
            Ok(_) => Ok(()),
            Err(error) => match self.judge(&error) {
                RequestError::NotFound => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Whether the bucket keeps versions; it counts as one that does when it does not tell.
    fn keeps_versions(&self) -> Result<bool, RequestError> {
        if let Some(known) = self.keeps_versions.get() {
            return Ok(*known);
        }
        let request = self
            .client
            .get_bucket_versioning()
            .bucket(&self.place.bucket);
        let keeps = match wait(0, request.send())? {
            // Suspended versioning keeps what there was.
            Ok(answer) => matches!(
                answer.status(),
                Some(BucketVersioningStatus::Enabled | BucketVersioningStatus::Suspended)
            ),
            Err(error) => match errors::status(&error) {
                Some(403 | 405 | 501) => true,
                _ => return Err(self.judge(&error)),
            },
        };
        Ok(*self.keeps_versions.get_or_init(|| keeps))
    }
}

/// A bucket as it was; only read.
pub(super) struct Past {
    bucket: S3Requests,
    at: Timestamp,
    /// What was there then, once it was asked for; the past does not change.
    view: Mutex<Option<Arc<View>>>,
}

/// Names, each with the version that was the newest.
type View = BTreeMap<String, (String, ObjectStat)>;

impl Past {
    pub(super) fn new(bucket: S3Requests, at: Timestamp) -> Self {
        Self {
            bucket,
            at,
            view: Mutex::default(),
        }
    }

    fn view(&self) -> Result<Arc<View>, RequestError> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*view {
            return Ok(Arc::clone(view));
        }
        let seen = Arc::new(seen_at(self.bucket.versions("")?, self.at));
        *view = Some(Arc::clone(&seen));
        Ok(seen)
    }

    fn refused(&self) -> RequestError {
        RequestError::Refused {
            why: format!("it is shown as it was at {}", self.at),
            hint: "The past is only read. Leave out --as-of to write or delete.",
        }
    }
}

/// What was there at a time: of each name the newest version until then, unless that is a deletion.
fn seen_at(versions: Vec<Version>, at: Timestamp) -> View {
    let mut newest: BTreeMap<String, Version> = BTreeMap::new();
    for version in versions {
        let Some(stored) = version.stored.filter(|stored| *stored <= at) else {
            continue;
        };
        // Lists have the newest first, so of two in one instant the first counts.
        let is_newer = newest
            .get(&version.name)
            .is_none_or(|known| known.stored < Some(stored));
        if is_newer {
            newest.insert(version.name.clone(), version);
        }
    }
    let seen = newest.into_iter();
    seen.filter_map(|(name, version)| Some((name, (version.id, version.stat?))))
        .collect()
}

impl Requests for Past {
    fn location(&self) -> &str {
        self.bucket.location()
    }

    fn put_new(&self, _: &str, _: Bytes) -> Result<Put, RequestError> {
        Err(self.refused())
    }

    fn put_new_file(&self, _: &str, _: &Path, _: u64) -> Result<Put, RequestError> {
        Err(self.refused())
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError> {
        let view = self.view()?;
        let (version, _) = view.get(key).ok_or(RequestError::NotFound)?;
        self.bucket.read(key, Some(version), offset, length)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError> {
        Ok(self.view()?.get(key).map(|(_, stat)| *stat))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError> {
        if !can_be_listed(prefix) {
            return Ok(Vec::new());
        }
        let view = self.view()?;
        let from = view.range(prefix.to_owned()..);
        let begin_so = from.take_while(|(name, _)| name.starts_with(prefix));
        Ok(begin_so
            .map(|(name, (_, stat))| (name.clone(), *stat))
            .collect())
    }

    fn delete(&self, _: &str) -> Result<(), RequestError> {
        Err(self.refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, second: i64, size: Option<u64>) -> Version {
        let stored = Timestamp::from_second(second).ok();
        Version {
            name: name.into(),
            id: format!("v{second}"),
            stored,
            stat: size.map(|size_bytes| ObjectStat { size_bytes, stored }),
        }
    }

    #[test]
    fn the_newest_version_until_then_is_seen() {
        let all = || {
            vec![
                version("a", 30, Some(3)),
                version("a", 10, Some(1)),
                version("a", 20, None),
                version("b", 20, Some(7)),
                version("b", 20, None),
            ]
        };
        let at = |second| {
            let at = Timestamp::from_second(second).expect("a time");
            let seen = seen_at(all(), at);
            let found = seen
                .into_iter()
                .map(|(name, (id, _))| format!("{name} {id}"));
            found.collect::<Vec<_>>()
        };
        assert_eq!(at(9), Vec::<String>::new());
        assert_eq!(at(10), ["a v10"]);
        assert_eq!(at(19), ["a v10"]);
        assert_eq!(at(20), ["b v20"]);
        assert_eq!(at(30), ["a v30", "b v20"]);
    }
}
