//! What the tables say together: which asset goes where, and who can open what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use strongroom_core::plan::backup::part_name;
use strongroom_core::source::Class;

use super::asset::ParsedAsset;
use super::error::Problems;
use super::parse::{Parsed, is_valid_name};
use super::recipient::RecipientKind;
use super::repository::ParsedRepository;
use super::suggest::did_you_mean;
use super::{AssetConfig, Config, Settings};

/// Checks the whole, and makes a configuration of it when nothing was found, now or before.
pub(super) fn validate(
    mut parsed: Parsed,
    problems: &Problems<'_>,
    directory: &Path,
) -> Option<Config> {
    urls_differ(&parsed.repositories, problems);
    let (copies, originals) = std::mem::take(&mut parsed.repositories)
        .into_iter()
        .partition(|repository| repository.copy_of.is_some());
    parsed.repositories = originals;
    at_least_one(&parsed, problems);
    copies_have_originals(&copies, &parsed.repositories, problems);
    sealing_works(&parsed.repositories, problems);
    databases_and_secrets_are_apart(&parsed.repositories, problems);
    for asset in &parsed.assets {
        not_to_a_copy(asset, &copies, problems);
        one_repository(asset, &parsed.repositories, &copies, problems);
    }
    let redirected = redirected(&parsed, problems);
    keys_and_passwords_are_apart(&parsed, &redirected, problems);
    paths_are_not_shared(&parsed.assets, problems);
    databases_are_not_shared(&parsed.assets, problems);
    tokens_are_not_shared(&parsed.assets, problems);
    if !problems.is_empty() {
        return None;
    }
    let mut repositories = BTreeMap::new();
    for repository in parsed.repositories {
        let repository = repository.finish(problems)?;
        repositories.insert(repository.name.clone(), repository);
    }
    let mut finished = BTreeMap::new();
    for copy in copies {
        let original = copy.copy_of.as_ref().map(|name| name.get_ref().as_str())?;
        let original = repositories.get(original)?;
        let copy = copy.finish_copy(original, problems)?;
        finished.insert(copy.name.clone(), copy);
    }
    let assets = parsed.assets.into_iter();
    let mut assets: Vec<AssetConfig> = assets
        .map(|asset| asset.finish(problems))
        .collect::<Option<_>>()?;
    for (asset, repository) in redirected {
        let whole = assets.iter().find(|whole| whole.name == asset)?;
        assets.push(whole.redirected(repository));
    }
    Some(Config {
        file: problems.file().to_owned(),
        directory: directory.to_owned(),
        deployment: parsed.deployment?,
        writer: parsed.writer?,
        custody: parsed.custody,
        repositories,
        copies: finished,
        assets,
        approvals: parsed.approvals,
    })
}

fn at_least_one(parsed: &Parsed, problems: &Problems<'_>) {
    if !problems.is_empty() {
        return;
    }
    if parsed.repositories.is_empty() {
        problems.report(
            &(0..0),
            "no repository: there is no [repository.NAME] table",
            "Say where the backups go; `strongroom init` writes an example when there is no configuration.",
        );
    }
    if parsed.assets.is_empty() {
        problems.report(
            &(0..0),
            "no asset: there is no [asset.NAME] table, so nothing is backed up",
            "Say what must come back, one table for each database, key and directory.",
        );
    }
}

fn urls_differ(repositories: &[ParsedRepository], problems: &Problems<'_>) {
    for (index, repository) in repositories.iter().enumerate() {
        let Some(place) = &repository.place else {
            continue;
        };
        let same = repositories[..index].iter().find(|other| {
            let there = other.place.as_ref();
            there.is_some_and(|there| there.settings.place == place.settings.place)
        });
        if let Some(other) = same {
            problems.report(
                &place.url.span(),
                format!(
                    "repository \"{}\": the same url as repository \"{}\"",
                    repository.name, other.name
                ),
                "Two repositories cannot share a directory; give one of them its own.",
            );
        }
    }
}

fn copies_have_originals(
    copies: &[ParsedRepository],
    originals: &[ParsedRepository],
    problems: &Problems<'_>,
) {
    let names: Vec<&str> = originals.iter().map(|one| one.name.as_str()).collect();
    for copy in copies {
        let Some(original) = &copy.copy_of else {
            continue;
        };
        let text = original.get_ref().as_str();
        if names.contains(&text) {
            continue;
        }
        let report = |what: String, hint: String| {
            let label = format!("repository \"{}\": {what}", copy.name);
            problems.report(&original.span(), label, hint);
        };
        if copies.iter().any(|other| other.name == text) {
            report(
                format!("\"{}\" is a copy itself", text.escape_debug()),
                "Name the repository that backups are written to.".to_owned(),
            );
        } else {
            report(
                format!("there is no repository \"{}\"", text.escape_debug()),
                did_you_mean(text, &names),
            );
        }
    }
}

/// Backups go to originals; what they hold reaches a copy by `strongroom copy`.
fn not_to_a_copy(asset: &ParsedAsset, copies: &[ParsedRepository], problems: &Problems<'_>) {
    let Some(name) = &asset.repository else {
        return;
    };
    let copy = copies.iter().find(|copy| copy.name == *name.get_ref());
    if let Some(original) = copy.and_then(|copy| copy.copy_of.as_ref()) {
        problems.report(
            &name.span(),
            format!(
                "asset \"{}\": repository \"{}\" is a copy",
                asset.name,
                name.get_ref().escape_debug()
            ),
            format!(
                "Backups go to \"{}\"; `strongroom copy` brings them to its copy.",
                original.get_ref().escape_debug()
            ),
        );
    }
}

/// age seals to post-quantum recipients or to others, never to both: the weakest would decide.
fn sealing_works(repositories: &[ParsedRepository], problems: &Problems<'_>) {
    for repository in repositories {
        let post_quantum = |kind: &RecipientKind| *kind == RecipientKind::TagPostQuantum;
        let classic =
            |kind: &RecipientKind| matches!(kind, RecipientKind::X25519 | RecipientKind::Tag);
        let all = &repository.recipients;
        let mixed = all.iter().any(|one| post_quantum(&one.kind));
        if let Some(one) = all.iter().find(|one| mixed && classic(&one.kind)) {
            problems.report_at(
                &one.file,
                one.place,
                format!(
                    "repository \"{}\": this recipient is not post-quantum, and others are",
                    repository.name
                ),
                "What is sealed to both would be as weak as this one; use post-quantum recipients only, or none.",
            );
        }
    }
}

/// Whoever opens the databases must not open the keys, unless the operator writes down why.
fn databases_and_secrets_are_apart(repositories: &[ParsedRepository], problems: &Problems<'_>) {
    let classes = |repository: &ParsedRepository| -> Vec<Class> {
        let accepts = repository.accepts.as_ref();
        accepts.map_or_else(Vec::new, |accepts| accepts.get_ref().clone())
    };
    let secret = |repository: &ParsedRepository| {
        classes(repository)
            .into_iter()
            .find(|class| class.is_secret())
    };
    let database = |repository: &ParsedRepository| classes(repository).contains(&Class::Database);
    let allowed = |repository: &ParsedRepository| repository.allow_shared.is_some();
    for repository in repositories {
        if let (Some(class), true, false, Some(accepts)) = (
            secret(repository),
            database(repository),
            allowed(repository),
            &repository.accepts,
        ) {
            problems.report(
                &accepts.span(),
                format!(
                    "repository \"{}\": it accepts both \"{class}\" and \"database\", so one identity opens both",
                    repository.name
                ),
                SHARED_HINT,
            );
        }
    }
    for (index, right) in repositories.iter().enumerate() {
        for left in &repositories[..index] {
            let split = (secret(left).is_some() && database(right))
                || (database(left) && secret(right).is_some());
            if !split || allowed(left) || allowed(right) {
                continue;
            }
            let shared = right
                .recipients
                .iter()
                .find(|one| left.recipients.iter().any(|other| other.text == one.text));
            if let Some(one) = shared {
                let (keys, databases) = match secret(left) {
                    Some(_) if database(right) => (left, right),
                    _ => (right, left),
                };
                problems.report_at(
                    &one.file,
                    one.place,
                    format!(
                        "repository \"{}\": one recipient opens the keys or secrets in \"{}\" and the databases in \"{}\"",
                        right.name, keys.name, databases.name
                    ),
                    SHARED_HINT,
                );
            }
        }
    }
}

const SHARED_HINT: &str = "Use another recipient for the keys, in another repository; or write allow_shared_recipient = true and shared_recipient_reason = \"...\".";

/// Whoever opens an encrypted key must not open its password too, unless the operator writes down why. A password file may go with
/// the asset that has it, or with what that one redirects.
fn keys_and_passwords_are_apart(
    parsed: &Parsed,
    redirected: &[(String, String)],
    problems: &Problems<'_>,
) {
    let (assets, repositories) = (&parsed.assets, &parsed.repositories);
    let of = |asset: &ParsedAsset| {
        let accepts = |one: &&ParsedRepository| match (&asset.repository, &asset.class) {
            (Some(name), _) => one.name == *name.get_ref(),
            (None, Some(class)) => {
                let accepts = one.accepts.as_ref();
                accepts.is_some_and(|accepts| accepts.get_ref().contains(class.get_ref()))
            }
            (None, None) => false,
        };
        repositories.iter().find(accepts)
    };
    for asset in assets {
        let Some(Settings::Files {
            key_password_file: Some(file),
            shared_password_reason: None,
            ..
        }) = &asset.settings
        else {
            continue;
        };
        let Some(keys) = of(asset) else {
            continue;
        };
        let covering = assets.iter().filter(|other| {
            let settings = other.settings.as_ref();
            settings.is_some_and(|settings| settings.covers(file))
        });
        let places = covering.flat_map(|other| {
            let whole = of(other).map(|repository| (other.name.clone(), repository));
            let part = redirected.iter().find(|(whole, _)| *whole == other.name);
            let part = part.and_then(|(_, to)| {
                let repository = repositories.iter().find(|one| one.name == *to)?;
                Some((part_name(&other.name), repository))
            });
            whole.into_iter().chain(part)
        });
        for (other, passwords) in places {
            let shared = keys
                .recipients
                .iter()
                .any(|one| passwords.recipients.iter().any(|two| one.text == two.text));
            let how = if keys.name == passwords.name {
                format!("to repository \"{}\" like the keys", passwords.name)
            } else if shared {
                format!(
                    "to repository \"{}\", which has a recipient of \"{}\" with the keys",
                    passwords.name, keys.name
                )
            } else {
                continue;
            };
            problems.report(
                &asset.header,
                format!(
                    "asset \"{}\": one identity opens the keys and their password: \"key_password_file\" goes with asset \"{other}\" {how}",
                    asset.name
                ),
                "Send the password to a repository with other recipients; or write allow_shared_password = true and shared_password_reason = \"...\" in this asset.",
            );
        }
    }
}

fn one_repository(
    asset: &ParsedAsset,
    repositories: &[ParsedRepository],
    copies: &[ParsedRepository],
    problems: &Problems<'_>,
) {
    let report = |span, what: String, hint: String| {
        problems.report(span, format!("asset \"{}\": {what}", asset.name), hint);
    };
    let names: Vec<&str> = repositories.iter().map(|one| one.name.as_str()).collect();
    // What a repository accepts is unknown when its own table is faulty.
    let known = repositories.iter().all(|one| one.accepts.is_some());
    let accepting = |class: Class| {
        repositories
            .iter()
            .filter(move |one| {
                let accepts = one.accepts.as_ref();
                accepts.is_some_and(|accepts| accepts.get_ref().contains(&class))
            })
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>()
    };
    let is_copy = |name: &str| copies.iter().any(|copy| copy.name == name);
    match (&asset.repository, &asset.class) {
        (Some(name), _) if is_copy(name.get_ref()) => {}
        (Some(name), _) if !names.contains(&name.get_ref().as_str()) => {
            let text = name.get_ref();
            let what = format!("there is no repository \"{}\"", text.escape_debug());
            report(&name.span(), what, did_you_mean(text, &names));
        }
        (Some(name), Some(class)) => {
            let accepting = accepting(*class.get_ref());
            if known && !accepting.contains(&name.get_ref().as_str()) {
                let (name_text, class) = (name.get_ref(), class.get_ref());
                let what = format!("repository \"{name_text}\" does not accept class \"{class}\"");
                let hint = match accepting.as_slice() {
                    [] => format!("No repository does; add \"{class}\" to the \"accepts\" of one."),
                    some => format!("These do: {}.", some.join(", ")),
                };
                report(&name.span(), what, hint);
            }
        }
        (None, Some(class)) => {
            let text = class.get_ref();
            match accepting(*text).as_slice() {
                [] if known && !repositories.is_empty() => report(
                    &class.span(),
                    format!("no repository accepts class \"{text}\""),
                    format!(
                        "Add \"{text}\" to the \"accepts\" of a repository; keys and secrets need one apart from the databases."
                    ),
                ),
                [] | [_] => {}
                several => report(
                    &class.span(),
                    format!(
                        "several repositories accept class \"{text}\": {}",
                        several.join(", ")
                    ),
                    format!(
                        "Say which one, for instance repository = \"{}\".",
                        several[0]
                    ),
                ),
            }
        }
        (_, None) => {}
    }
}

/// The assets whose files with secrets go elsewhere, with the repository where they go.
fn redirected(parsed: &Parsed, problems: &Problems<'_>) -> Vec<(String, String)> {
    let accepting: Vec<&str> = parsed
        .repositories
        .iter()
        .filter(|one| {
            let accepts = one.accepts.as_ref();
            accepts.is_some_and(|accepts| accepts.get_ref().contains(&Class::Secret))
        })
        .map(|one| one.name.as_str())
        .collect();
    let known = parsed.repositories.iter().all(|one| one.accepts.is_some());
    let mut found = Vec::new();
    for asset in &parsed.assets {
        let Some(redirect) = &asset.redirect else {
            continue;
        };
        let report = |span, what: String, hint: String| {
            problems.report(span, format!("asset \"{}\": {what}", asset.name), hint);
        };
        let part = part_name(&asset.name);
        if let Some(other) = parsed.assets.iter().find(|other| other.name == part) {
            report(
                &redirect.span,
                format!(
                    "what is redirected becomes the asset \"{part}\", and there is one already"
                ),
                format!("Give the asset \"{}\" another name.", other.name),
            );
        } else if !is_valid_name(&part) && is_valid_name(&asset.name) {
            report(
                &redirect.span,
                format!(
                    "what is redirected becomes the asset \"{part}\", which is longer than 64 characters"
                ),
                "Give this asset a shorter name.".to_owned(),
            );
        }
        match (&redirect.repository, accepting.as_slice()) {
            (Some(name), names) if names.contains(&name.get_ref().as_str()) => {
                found.push((asset.name.clone(), name.get_ref().clone()));
            }
            (Some(name), names) if known => report(
                &name.span(),
                format!(
                    "there is no repository \"{}\" that accepts class \"secret\"",
                    name.get_ref().escape_debug()
                ),
                match names {
                    [] => "No repository does; add \"secret\" to the \"accepts\" of one, apart from the databases.".to_owned(),
                    some => format!("These do: {}.", some.join(", ")),
                },
            ),
            (None, [one]) => found.push((asset.name.clone(), (*one).to_owned())),
            (None, []) if known => report(
                &redirect.span,
                "no repository accepts class \"secret\", so there is nowhere to redirect to".to_owned(),
                "Add \"secret\" to the \"accepts\" of a repository apart from the databases.".to_owned(),
            ),
            (None, several @ [_, _, ..]) => report(
                &redirect.span,
                format!("several repositories accept class \"secret\": {}", several.join(", ")),
                format!("Say which one, for instance redirect_to = \"{}\".", several[0]),
            ),
            _ => {}
        }
    }
    found
}

/// One database in two assets would be two cuts of one thing.
fn paths_are_not_shared(assets: &[ParsedAsset], problems: &Problems<'_>) {
    let database = |asset: &ParsedAsset| match &asset.settings {
        Some(Settings::Sqlite { path, .. }) => Some(path.clone()),
        _ => None,
    };
    for (index, asset) in assets.iter().enumerate() {
        let Some(path) = database(asset) else {
            continue;
        };
        let other = assets[..index]
            .iter()
            .find(|other| database(other).as_ref() == Some(&path));
        if let Some(other) = other {
            problems.report(
                &asset.header,
                format!(
                    "asset \"{}\": the same database as asset \"{}\"",
                    asset.name, other.name
                ),
                "One database is one asset; take one of them out.",
            );
        }
    }
}

/// The same for tokens.
fn tokens_are_not_shared(assets: &[ParsedAsset], problems: &Problems<'_>) {
    let token = |asset: &ParsedAsset| match &asset.settings {
        Some(Settings::Pkcs11 { source, .. }) => Some(source.access.clone()),
        _ => None,
    };
    for (index, asset) in assets.iter().enumerate() {
        let Some(access) = token(asset) else { continue };
        let same = |other: &&ParsedAsset| {
            token(other)
                .is_some_and(|other| other.module == access.module && other.token == access.token)
        };
        if let Some(other) = assets[..index].iter().find(same) {
            problems.report(
                &asset.header,
                format!(
                    "asset \"{}\": the same token as asset \"{}\"",
                    asset.name, other.name
                ),
                "One token is one asset; take one of them out.",
            );
        }
    }
}

/// The same for the databases of one server, as far as its url tells that it is one.
fn databases_are_not_shared(assets: &[ParsedAsset], problems: &Problems<'_>) {
    for (index, asset) in assets.iter().enumerate() {
        let databases = databases(asset);
        for other in &assets[..index] {
            let theirs = self::databases(other);
            for (_, name) in databases.intersection(&theirs) {
                let what = match name {
                    Some(name) => format!("database \"{}\"", name.escape_debug()),
                    None => "the database of this service".to_owned(),
                };
                problems.report(
                    &asset.header,
                    format!("asset \"{}\": {what} is in asset \"{}\" too", asset.name, other.name),
                    "One database belongs to one asset, else it is captured twice, and a restore does not know which; take it out of one of them.",
                );
            }
        }
    }
}

/// The server and the name of each database of an asset; no name for the one that a service file names.
fn databases(asset: &ParsedAsset) -> BTreeSet<(String, Option<String>)> {
    let (place, names) = match &asset.settings {
        Some(Settings::Postgresql(server)) => {
            let settings = &server.source.settings;
            let own = || settings.url.as_ref().and_then(|url| url.database());
            let names: Vec<Option<String>> = match (settings.class, settings.databases.as_slice()) {
                (Class::Database, []) => vec![own().map(str::to_owned)],
                (Class::Database, names) => names.iter().cloned().map(Some).collect(),
                _ => Vec::new(),
            };
            let via = settings.via.join(" ");
            (format!("postgresql {} {via}", server.source.place()), names)
        }
        Some(Settings::Mariadb(server)) => {
            let settings = &server.source;
            let names = settings.databases.iter().cloned().map(Some).collect();
            (format!("mariadb {}", settings.connection.place()), names)
        }
        _ => return BTreeSet::new(),
    };
    names
        .into_iter()
        .map(|name| (place.clone(), name))
        .collect()
}
