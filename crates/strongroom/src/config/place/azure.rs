//! The keys of a repository at `azure`.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::azure::AzureSettings;
use toml::Spanned;

use super::super::section::Section;
use super::Surrounding;

pub(super) fn read(
    _section: &Section<'_, '_>,
    url: &Spanned<String>,
    _around: Surrounding<'_>,
) -> Option<Place> {
    Some(Place::Azure(AzureSettings {
        url: url.get_ref().clone(),
    }))
}
