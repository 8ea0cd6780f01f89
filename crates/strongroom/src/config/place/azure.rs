//! The keys of a repository at Azure Blob Storage.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::azure::AzureSettings;
use toml::Spanned;

use super::super::section::Section;
use super::Surrounding;
use super::object_stores::{class, endpoint, is_name, parts, refuse_immutable};

const URL: &str = "Write az://ACCOUNT/CONTAINER/PREFIX. The prefix is of letters, digits, - _ . = + and single slashes, and may be missing.";
const IMMUTABLE: &str = "Set a time-based retention policy on the container itself (az storage container immutability-policy create), and take the key out.";
const TIER: &str =
    "Write Hot, Cool or Cold. Blobs in the archive tier cannot be read before they are rehydrated.";

pub(super) fn read(
    section: &Section<'_, '_>,
    url: &Spanned<String>,
    around: Surrounding<'_>,
) -> Option<Place> {
    let endpoint = endpoint(section, around.directory);
    let access_tier = class(section, "access_tier", TIER);
    if let (Some(tier), Some(value)) = (&access_tier, section.value("access_tier"))
        && tier.eq_ignore_ascii_case("archive")
    {
        section.report(&value.span(), "\"access_tier\" is the archive", TIER);
    }
    refuse_immutable(section, IMMUTABLE);
    let Some(([account, container], prefix)) = from_url(url.get_ref()) else {
        let what = "\"url\": not the URL of a container";
        section.report(&url.span(), what, URL);
        return None;
    };
    Some(Place::Azure(AzureSettings {
        url: url.get_ref().clone(),
        account,
        container,
        prefix,
        endpoint,
        access_tier,
    }))
}

fn from_url(url: &str) -> Option<([String; 2], String)> {
    let ([account, container], prefix) = parts(url, "az")?;
    let is_good = is_name(&account, 3..=24, b"")
        && is_name(&container, 3..=63, b"-")
        && !container.contains("--");
    is_good.then_some(([account, container], prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_an_account_a_container_and_a_prefix() {
        let parsed = |account: &str, container: &str, prefix: &str| {
            let names = [account.to_owned(), container.to_owned()];
            Some((names, prefix.to_owned()))
        };
        assert_eq!(from_url("az://account/box"), parsed("account", "box", ""));
        assert_eq!(
            from_url("az://account1/a-box/x/y/"),
            parsed("account1", "a-box", "x/y")
        );
        for wrong in [
            "az://account",
            "az://account/",
            "az:///box",
            "az://Account/box",
            "az://account/$root",
            "az://account/a--b",
            "az://account/-box",
            "az://account.blob.core.windows.net/box",
            "az://account/box/x//y",
            "az://account/box/x?sv=planted",
        ] {
            assert_eq!(from_url(wrong), None, "{wrong}");
        }
    }
}
