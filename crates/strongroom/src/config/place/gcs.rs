//! The keys of a repository at `gcs`.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::gcs::GcsSettings;
use toml::Spanned;

use super::super::section::Section;
use super::Surrounding;

pub(super) fn read(
    _section: &Section<'_, '_>,
    url: &Spanned<String>,
    _around: Surrounding<'_>,
) -> Option<Place> {
    Some(Place::Gcs(GcsSettings {
        url: url.get_ref().clone(),
    }))
}
