//! The keys of a repository at `s3`.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::s3::S3Settings;
use toml::Spanned;

use super::super::section::Section;
use super::Surrounding;

pub(super) fn read(
    _section: &Section<'_, '_>,
    url: &Spanned<String>,
    _around: Surrounding<'_>,
) -> Option<Place> {
    Some(Place::S3(S3Settings {
        url: url.get_ref().clone(),
    }))
}
