//! The keys of a repository at Google Cloud Storage.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::gcs::GcsSettings;
use toml::Spanned;

use super::super::section::Section;
use super::Surrounding;
use super::object_stores::{class, endpoint, is_name, parts, refuse_immutable};

const URL: &str = "Write gs://BUCKET/PREFIX. The prefix is of letters, digits, - _ . = + and single slashes, and may be missing.";
const IMMUTABLE: &str = "Set a retention policy on the bucket itself (gcloud storage buckets update gs://BUCKET --retention-period=90d), and take the key out.";
const CLASS: &str = "Write STANDARD, NEARLINE, COLDLINE or ARCHIVE.";

pub(super) fn read(
    section: &Section<'_, '_>,
    url: &Spanned<String>,
    around: Surrounding<'_>,
) -> Option<Place> {
    let endpoint = endpoint(section, around.directory);
    let storage_class = class(section, "storage_class", CLASS);
    refuse_immutable(section, IMMUTABLE);
    let Some((bucket, prefix)) = from_url(url.get_ref()) else {
        let what = "\"url\": not the URL of a bucket";
        section.report(&url.span(), what, URL);
        return None;
    };
    Some(Place::Gcs(GcsSettings {
        url: url.get_ref().clone(),
        bucket,
        prefix,
        endpoint,
        storage_class,
    }))
}

fn from_url(url: &str) -> Option<(String, String)> {
    let ([bucket], prefix) = parts(url, "gs")?;
    // With dots a bucket's name may be longer, up to 63 between two of them.
    is_name(&bucket, 3..=222, b"-_.").then_some((bucket, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_bucket_and_a_prefix() {
        let found = |url| from_url(url);
        let parsed = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(found("gs://my-bucket"), parsed("my-bucket", ""));
        assert_eq!(found("gs://my-bucket/"), parsed("my-bucket", ""));
        assert_eq!(found("gs://a.b_c/x/Y-1"), parsed("a.b_c", "x/Y-1"));
        assert_eq!(found("gs://a.b_c/x/"), parsed("a.b_c", "x"));
        for wrong in [
            "gs:bucket",
            "gs://",
            "gs:///x",
            "gs://ab",
            "gs://Bucket",
            "gs://bucket//x",
            "gs://bucket/x//y",
            "gs://bucket/../x",
            "gs://bucket/x?y",
            "gs://user@bucket/x",
            "gs://bucket:80/x",
            "gs://bucket/a b",
        ] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }
}
