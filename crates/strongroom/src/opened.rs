//! A run, opened with identities: its readers, and what its manifests say.

use std::collections::BTreeMap;

use strongroom_core::format::envelope::Status;
use strongroom_core::format::manifest::{Asset, AssetResult, Stream};
use strongroom_core::format::seal::BoxedIdentity;
use strongroom_core::plan::restore::RestoreAsset;
use strongroom_core::repository::Repository;
use strongroom_core::repository::reader::{BackupReader, Item};

use crate::failure::{Exit, Failure};
use crate::runs::Run;

/// An asset as the manifest tells it, without the runs of its streams.
pub(crate) struct OpenedAsset {
    pub(crate) repository: String,
    pub(crate) asset: Asset,
    pub(crate) streams: Vec<Stream>,
    pub(crate) result: AssetResult,
}

impl OpenedAsset {
    /// The asset as restore plans see it.
    pub(crate) fn outline(&self) -> RestoreAsset {
        RestoreAsset {
            name: self.asset.name.clone(),
            class: self.asset.class,
            source: self.asset.source.clone(),
            repository: self.repository.clone(),
            complete: self.result.status == Status::Complete,
            streams: self.streams.clone(),
            facts: self.result.facts.clone(),
        }
    }
}

/// Opens the parts of a run that hold `only`, or all of them; those with keys come last, so that a key
/// finds its certificate restored.
pub(crate) fn open<'r>(
    run: &'r Run,
    repositories: &'r BTreeMap<String, Repository>,
    only: &[String],
    identities: &[BoxedIdentity],
) -> Result<Vec<(&'r str, BackupReader<'r>)>, Failure> {
    let holds = |name: &String| {
        run.envelopes.values().any(|stored| {
            stored
                .envelope
                .assets
                .iter()
                .any(|asset| asset.name == *name)
        })
    };
    if let Some(missing) = only.iter().find(|name| !holds(name)) {
        let message = format!("backup {} has no asset {missing:?}", run.label);
        return Err(Failure::new(Exit::Refused, "no-such-asset", message)
            .hint(format!("`strongroom show {}` lists its assets.", run.label)));
    }
    let mut parts: Vec<_> = run
        .envelopes
        .iter()
        .filter(|(_, stored)| {
            let mut assets = stored.envelope.assets.iter();
            only.is_empty() || assets.any(|asset| only.contains(&asset.name))
        })
        .collect();
    parts.sort_by_key(|(_, stored)| stored.envelope.assets.iter().map(|asset| asset.class).max());
    parts
        .into_iter()
        .map(|(name, stored)| {
            let reader = BackupReader::open(&repositories[name], &stored.envelope, identities)
                .map_err(|error| Failure::from(error).context(format_args!("repository {name}")))?;
            Ok((name.as_str(), reader))
        })
        .collect()
}

/// Reads what the manifests tell of the assets, in their order.
pub(crate) fn assets(
    readers: &[(&str, BackupReader<'_>)],
    only: &[String],
) -> Result<Vec<OpenedAsset>, Failure> {
    let mut all = Vec::new();
    for (name, reader) in readers {
        let mut manifest = reader.manifest()?;
        let mut current: Option<(Asset, Vec<Stream>)> = None;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| reader.manifest_error(error))?
        {
            match item {
                Item::Asset(asset) => {
                    let wanted = only.is_empty() || only.contains(&asset.name);
                    current = wanted.then_some((asset, Vec::new()));
                }
                Item::Stream(stream, _) => {
                    if let Some((_, streams)) = &mut current {
                        streams.push(stream);
                    }
                }
                Item::Result(result) => {
                    if let Some((asset, streams)) = current.take() {
                        let repository = (*name).to_owned();
                        all.push(OpenedAsset {
                            repository,
                            asset,
                            streams,
                            result,
                        });
                    }
                }
            }
        }
    }
    Ok(all)
}
