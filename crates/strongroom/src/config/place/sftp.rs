//! The keys of a repository at `sftp`.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::sftp::SftpSettings;
use toml::Spanned;

use super::super::location::resolve;
use super::super::section::Section;
use super::Surrounding;

pub(super) fn read(
    section: &Section<'_, '_>,
    url: &Spanned<String>,
    around: Surrounding<'_>,
) -> Option<Place> {
    let rest = url.get_ref().strip_prefix("sftp://")?;
    let (authority, path) = rest.split_once('/')?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (host, None),
    };
    let known_hosts = section.string("known_hosts");
    Some(Place::Sftp(SftpSettings {
        url: url.get_ref().clone(),
        host: host.to_owned(),
        port,
        user,
        directory: format!("/{path}"),
        known_hosts: known_hosts.map(|file| resolve(around.directory, file.get_ref())),
        host_key: section.string("host_key").map(Spanned::into_inner),
    }))
}
