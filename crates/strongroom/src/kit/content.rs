//! What a kit says, and the exact commands: from facts to parts. Pure.

use std::fmt::Write as _;
use std::path::Path;

use strongroom_core::custody::CustodyRecord;
use strongroom_core::format::envelope::Status;
use strongroom_core::source::Class;

use super::facts::{Asset, Facts, Location, Repository, quoted};
use super::{Kit, Part};
use crate::report::when;

/// What is left for a pen.
const BLANK: &str = "______________________________";
/// A share is opened into a file of this name, after the set and the custodian.
const OPENED: &str = "share.txt";

/// Writes a kit.
pub(crate) fn write(facts: &Facts) -> Kit {
    let mut parts = Vec::new();
    purpose(facts, &mut parts);
    people(facts, &mut parts);
    places(facts, &mut parts);
    backups(facts, &mut parts);
    tools(facts, &mut parts);
    steps(facts, &mut parts);
    Kit {
        title: format!("Break-glass kit of {}", facts.deployment),
        subtitle: format!(
            "Made {} by {}. It holds no secret. Print it anew whenever custodians, repositories or writers change, and once a year.",
            when(facts.made),
            crate::command::backup::TOOL
        ),
        parts,
    }
}

fn heading(parts: &mut Vec<Part>, text: &str) {
    parts.push(Part::Heading(text.to_owned()));
}

fn say(parts: &mut Vec<Part>, text: impl Into<String>) {
    parts.push(Part::Text(text.into()));
}

fn table(parts: &mut Vec<Part>, head: &[&str], rows: Vec<Vec<String>>) {
    let head = head.iter().map(|&title| title.to_owned()).collect();
    parts.push(Part::Table { head, rows });
}

fn purpose(facts: &Facts, parts: &mut Vec<Part>) {
    parts.push(Part::Notice(
        "For the day on which the certificate authority is gone, and with it everybody who knew it. With this, the repositories and enough \
         custodians, anybody brings the data back on a new machine, with programs that every Linux distribution has. Strongroom is \
         not needed."
            .to_owned(),
    ));
    say(
        parts,
        format!(
            "The backups of {} are sealed with age, in ordinary age files. Some hold private keys of the CA: who reads them can issue \
             certificates in its name. Work on a machine that is new, not connected to anything, and watched by two people; write down \
             who did what, and when.",
            facts.deployment
        ),
    );
    say(
        parts,
        "Do not start the CA from what you have restored before you have read section 8. A CA that comes back from the past can do \
         more harm than one that is down.",
    );
}

fn people(facts: &Facts, parts: &mut Vec<Part>) {
    heading(parts, "Who can open the backups");
    for repository in &facts.repositories {
        let holds = if repository.has_secrets() {
            "keys and secrets"
        } else {
            "databases and the rest"
        };
        let openers = repository.recipients.iter().map(|recipient| {
            let custody = facts
                .custodies
                .iter()
                .find(|one| one.recipient == *recipient);
            match custody {
                Some(record) => format!(
                    "any {} of the {} custodians of {}",
                    record.threshold,
                    record.custodians.len(),
                    record.name
                ),
                None => "the identity of the recipient below".to_owned(),
            }
        });
        let openers: Vec<String> = openers.collect();
        say(
            parts,
            format!(
                "Repository {} ({holds}): {}.",
                repository.name,
                openers.join(", or ")
            ),
        );
    }
    for record in used(facts) {
        say(
            parts,
            format!(
                "Custodians of {} (set {}, made {}). Any {} of them are enough:",
                record.name,
                record.set,
                when(record.created),
                record.threshold
            ),
        );
        let rows = record
            .custodians
            .iter()
            .zip(1..)
            .map(|(custodian, number): (_, u32)| {
                let share = match &custodian.recipient {
                    Some(_) => format!("file {}.{}.share.age", record.name, custodian.name),
                    None => "sheet of paper".to_owned(),
                };
                vec![
                    custodian.name.clone(),
                    number.to_string(),
                    share,
                    BLANK.to_owned(),
                ]
            });
        table(
            parts,
            &["custodian", "share", "is a", "person, telephone"],
            rows.collect(),
        );
    }
    let alone: Vec<&String> = alone(facts).collect();
    if !alone.is_empty() {
        say(
            parts,
            "Each of these recipients is opened by one identity alone, a file or a device. Where it is kept, and by whom:",
        );
        for recipient in alone {
            parts.push(Part::Literal(recipient.clone()));
            say(parts, BLANK);
        }
    }
}

/// The custodies that open a repository.
fn used(facts: &Facts) -> impl Iterator<Item = &CustodyRecord> {
    let opens = |record: &&CustodyRecord| {
        let mut all = facts.repositories.iter().flat_map(|one| &one.recipients);
        all.any(|recipient| *recipient == record.recipient)
    };
    facts.custodies.iter().filter(opens)
}

/// Recipients whose identity nobody has split.
fn alone(facts: &Facts) -> impl Iterator<Item = &String> {
    let mut seen: Vec<&String> = Vec::new();
    for recipient in facts.repositories.iter().flat_map(|one| &one.recipients) {
        let is_split = facts
            .custodies
            .iter()
            .any(|one| one.recipient == *recipient);
        if !is_split && !seen.contains(&recipient) {
            seen.push(recipient);
        }
    }
    seen.into_iter()
}

fn places(facts: &Facts, parts: &mut Vec<Part>) {
    heading(parts, "Where the backups are");
    let accepts = |repository: &Repository| {
        let names = repository.accepts.iter().map(|class| class.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let rows = facts.repositories.iter().map(|repository| {
        vec![
            repository.name.clone(),
            repository.url.clone(),
            accepts(repository),
        ]
    });
    table(parts, &["repository", "place", "holds"], rows.collect());
    if !facts.copies.is_empty() {
        say(
            parts,
            "Copies, each complete in itself. When a repository is lost or damaged, take its copy:",
        );
        let rows = facts
            .copies
            .iter()
            .map(|copy| vec![copy.name.clone(), copy.url.clone(), copy.of.clone()]);
        table(parts, &["copy", "place", "of"], rows.collect());
    }
    say(
        parts,
        format!("Who has credentials for these places: {BLANK}"),
    );
    say(
        parts,
        "Each backup is signed by its writer. These are the only ones; whatever is signed by another one is not of this CA:",
    );
    let rows = facts.writers.iter();
    let rows = rows.map(|(writer, digest)| vec![writer.to_string(), digest.to_string()]);
    table(
        parts,
        &["writer", "SHA-256 of its public key"],
        rows.collect(),
    );
    say(
        parts,
        format!(
            "The configuration, which tells the same and more, was {} on the host; it is of use with Strongroom only.",
            facts.configuration.display()
        ),
    );
}

fn backups(facts: &Facts, parts: &mut Vec<Part>) {
    heading(parts, "The newest backups when this was made");
    if !facts.unread.is_empty() {
        say(
            parts,
            format!(
                "{} could not be read then: its writers are not above, and a backup that lies there too is called incomplete.",
                facts.unread.join(", ")
            ),
        );
    }
    if facts.backups.is_empty() {
        say(parts, "There was none.");
        return;
    }
    let rows = facts.backups.iter().map(|backup| {
        vec![
            backup.label.clone(),
            when(backup.taken),
            backup.status.as_str().to_owned(),
            backup.repositories.join(", "),
        ]
    });
    table(parts, &["label", "taken", "status", "in"], rows.collect());
    if facts
        .backups
        .iter()
        .all(|one| one.status != Status::Complete)
    {
        say(parts, "None of them is complete.");
    }
    say(
        parts,
        "There will be newer ones by now. If the newest that you find is older than these, somebody has removed some: look at the copies.",
    );
}

fn tools(facts: &Facts, parts: &mut Vec<Part>) {
    heading(parts, "What you need");
    let row = |name: &str, version: &str, what: &str| {
        vec![name.to_owned(), version.to_owned(), what.to_owned()]
    };
    table(
        parts,
        &["program", "version", "for"],
        vec![
            row("bash, sha256sum", "any", "a Linux system has them"),
            row("age", "1.0 or later", "opens what is sealed"),
            row("zstd", "1.3 or later", "unpacks"),
            row(
                "python3",
                "3.11 or later",
                "with the package cryptography, 38 or later",
            ),
            row(
                "openssl",
                "3.0 or later",
                "proves that a key belongs to its certificate",
            ),
        ],
    );
    parts.push(Part::Show(
        "apt-get install age zstd python3-cryptography openssl".to_owned(),
    ));
    say(
        parts,
        "And these files, which lie beside this text. If they are lost, take them from the source of Strongroom, and compare:",
    );
    let rows = facts.files.iter();
    let rows = rows.map(|(name, digest)| vec![name.clone(), digest.to_string()]);
    table(parts, &["file", "SHA-256"], rows.collect());
    say(
        parts,
        "The backups are of version 1 of the format. reader.py is a few hundred lines of Python and does everything below; format.md tells how to write another one. by-hand.md restores a key with age, zstd and a shell \
         alone.",
    );
}

fn steps(facts: &Facts, parts: &mut Vec<Part>) {
    heading(parts, "1. Begin");
    say(
        parts,
        "Copy the kit into a new directory, on a disk that is encrypted or in memory (/dev/shm), and open bash in it. Run every block below \
         as it stands, one after the other, in that one shell. Compare the files:",
    );
    parts.push(Part::Run(
        "umask 077\nexport LC_ALL=C.UTF-8\nsha256sum -c SHA256SUMS".to_owned(),
    ));

    heading(parts, "2. Bring the repositories here");
    fetch(facts, parts);

    heading(parts, "3. Are they the right ones?");
    say(
        parts,
        "reader.py checks every signature. The writer must be one of those above:",
    );
    if facts.writers.is_empty() {
        say(
            parts,
            "No repository could be read when this was made, so none is known here.",
        );
    }
    for repository in &facts.repositories {
        parts.push(Part::Run(check_writer(facts, repository)));
    }

    let sets: Vec<&CustodyRecord> = used(facts).collect();
    heading(parts, "4. Shares");
    if sets.is_empty() {
        say(
            parts,
            "No identity is shared among custodians. Bring the identity files of the recipients above.",
        );
    }
    for record in sets {
        open_shares(record, parts);
    }

    heading(parts, "5. Restore");
    say(
        parts,
        "Each block restores one repository into a directory of its own. Every byte is compared with the SHA-256 of when it was captured; \
         any line that begins with error: means that something is damaged. Then try a copy, or LABEL=... with an older label.",
    );
    for repository in &facts.repositories {
        restore(facts, repository, parts);
    }

    heading(parts, "6. Prove the keys");
    prove(facts, parts);

    heading(parts, "7. What lies where");
    say(
        parts,
        "As restored-REPOSITORY/ASSET/ and then the path that it had:",
    );
    let rows = facts.assets.iter().map(|asset| {
        vec![
            asset.name.clone(),
            format!("restored-{}/{}", asset.repository, asset.name),
            format!(
                "{}: {}. {}",
                asset.class,
                asset.places.join(", "),
                form(asset)
            ),
        ]
    });
    table(parts, &["asset", "in", "what it is"], rows.collect());

    heading(parts, "8. Before the CA runs again");
    for text in [
        "Nothing that has been published may be taken back. Find the newest CRL that relying parties have, and the newest certificates that the \
         CA has issued: they may be newer than the backup.",
        "The CRL number must go on above the newest one that was published; every serial that was revoked must stay revoked; a \
         serial must not be used twice; an audit log must not be cut. What was issued after the backup is not in the database: add it from logs, or revoke it.",
        "Stop everything that would start, publish or call out by itself: timers, other nodes, OCSP responders, mail.",
        "Two people look at it together, and sign what they found.",
    ] {
        say(parts, text);
    }

    heading(parts, "9. Clean up");
    say(
        parts,
        "What was opened is worth as much as the CA. Shares that were opened here have been seen by this machine: make a new set, and rotate.",
    );
    parts.push(Part::Run(format!("rm -f -- *.{OPENED}")));
    say(
        parts,
        "The directories restored-... hold keys in clear. Move what is needed to the new CA, and destroy the rest with the disk.",
    );
}

fn fetch(facts: &Facts, parts: &mut Vec<Part>) {
    let mut variables = String::new();
    let mut commands = Vec::new();
    for repository in &facts.repositories {
        let default = match &repository.place {
            Location::Directory(directory) => directory.display().to_string(),
            Location::Fetch(command) => {
                commands.push(command.clone());
                repository.name.clone()
            }
        };
        let name = variable(&repository.name);
        let default = in_double_quotes(&default);
        // Writing to a string cannot fail.
        let _ = writeln!(variables, "{name}=\"${{{name}:-{default}}}\"");
    }
    if commands.is_empty() {
        say(
            parts,
            "They are directories: mount them, or copy them here. Where they lie; change the part after :- where it is another place:",
        );
    } else {
        say(
            parts,
            "With credentials that may list and read, on a machine with a network, then carried here:",
        );
        for command in commands {
            parts.push(Part::Show(command));
        }
        say(
            parts,
            "Where they lie now; change the part after :- where it is another place:",
        );
    }
    parts.push(Part::Run(variables));
    let copies = facts.copies.iter().filter_map(|copy| match &copy.place {
        Location::Fetch(command) => Some(command.clone()),
        Location::Directory(_) => None,
    });
    let copies: Vec<String> = copies.collect();
    if !copies.is_empty() {
        say(parts, "Copies, where the originals are lost:");
        for command in copies {
            parts.push(Part::Show(command));
        }
    }
}

fn check_writer(facts: &Facts, repository: &Repository) -> String {
    let name = variable(&repository.name);
    let known = facts
        .writers
        .values()
        .map(|digest| format!("*\"writer {digest}\"*"));
    let known: Vec<String> = known.collect();
    if known.is_empty() {
        return format!("python3 reader.py list \"${name}\"");
    }
    format!(
        r#"LISTED=$(python3 reader.py list "${name}")
echo "$LISTED"
case "$LISTED" in
    {})
        echo "{}: the writer is known" ;;
    *)
        echo "STOP: this is not the repository {}"; false ;;
esac"#,
        known.join(" | \\\n    "),
        repository.name,
        repository.name
    )
}

fn open_shares(record: &CustodyRecord, parts: &mut Vec<Part>) {
    let name = &record.name;
    say(
        parts,
        format!(
            "{name} needs {} shares. A share in a file is sealed to its custodian: put it into this directory as {name}.CUSTODIAN.share.age, and beside \
             it the identity that opens it as {name}.CUSTODIAN.identity (age asks for its passphrase). A custodian who does not want that opens it \
             elsewhere, and brings {name}.CUSTODIAN.{OPENED}.",
            record.threshold
        ),
    );
    parts.push(Part::Run(format!(
        "for share in {name}.*.share.age; do\n    if [ -e \"$share\" ]; then\n        age -d -i \"${{share%.share.age}}.identity\" -o \"${{share%.age}}.txt\" \"$share\"\n    fi\ndone"
    )));
    if record.custodians.iter().any(|one| one.recipient.is_none()) {
        say(
            parts,
            format!(
                "A share on paper is typed: its 33 words, or the line SRSHARE1..., into a file {name}.CUSTODIAN.{OPENED}."
            ),
        );
    }
}

fn restore(facts: &Facts, repository: &Repository, parts: &mut Vec<Part>) {
    let (name, place) = (&repository.name, variable(&repository.name));
    let custody = repository.recipients.iter().find_map(|recipient| {
        let mut all = facts.custodies.iter();
        all.find(|one| one.recipient == *recipient)
    });
    if custody.is_none() {
        say(
            parts,
            format!("{name} is opened by one identity: put its file here as {name}.identity."),
        );
    }
    let (before, opener) = match custody {
        Some(record) => (String::new(), format!("--share {}.*.{OPENED}", record.name)),
        None => (
            format!("{place}_IDENTITY=\"${{{place}_IDENTITY:-{name}.identity}}\"\n"),
            format!("--identity \"${place}_IDENTITY\""),
        ),
    };
    parts.push(Part::Run(format!(
        "{before}python3 reader.py restore \"${place}\" --label \"${{LABEL:-latest}}\" \\\n    {opener} --out restored-{name}"
    )));
}

fn prove(facts: &Facts, parts: &mut Vec<Part>) {
    let mut is_told = false;
    for asset in facts
        .assets
        .iter()
        .filter(|asset| asset.class == Class::Key)
    {
        let Some(certificate) = &asset.certificate else {
            continue;
        };
        let key = asset
            .places
            .iter()
            .find(|place| !place.contains(['*', '?', '[']));
        let (Some(key), Some(held)) = (key, holder(facts, certificate)) else {
            continue;
        };
        is_told = true;
        parts.push(Part::Run(format!(
            r#"KEY={}
CERTIFICATE={}
PUBLIC=$(openssl pkey -in "$KEY" -pubout)
if [ -n "$PUBLIC" ] && [ "$PUBLIC" = "$(openssl x509 -in "$CERTIFICATE" -noout -pubkey)" ]; then
    echo "{name}: the key belongs to the certificate"
else
    echo "STOP: {name} does not belong to its certificate"; false
fi"#,
            quoted(&restored(asset, Path::new(key))),
            quoted(&restored(held, certificate)),
            name = asset.name,
        )));
    }
    say(
        parts,
        if is_told {
            "For every other key, do the same with any copy of its certificate; the CA has published it. An encrypted key asks for its passphrase."
        } else {
            "For every key: openssl pkey -in KEY -pubout, and openssl x509 -in CERTIFICATE -noout -pubkey, must print the same. Any copy of the certificate \
             will do; the CA has published it."
        },
    );
}

/// The asset that a file is part of.
fn holder<'f>(facts: &'f Facts, file: &Path) -> Option<&'f Asset> {
    let mut all = facts.assets.iter().filter(|asset| asset.source == "files");
    all.find(|asset| asset.places.iter().any(|place| file.starts_with(place)))
}

/// Where `reader.py` puts a file.
fn restored(asset: &Asset, path: &Path) -> String {
    let path = path.display().to_string();
    format!("restored-{}/{}{path}", asset.repository, asset.name)
}

fn form(asset: &Asset) -> &'static str {
    match asset.source {
        "files" => "The files as they were.",
        "sqlite" => "The database file itself, which sqlite3 opens.",
        "postgresql" => "Archives for pg_restore (--format=directory), and scripts for psql.",
        "mariadb" => "Scripts for the program mariadb.",
        "pkcs11" => "What could leave the token; its vendor's procedure brings the rest back.",
        _ => "See format.md.",
    }
}

/// The name of the variable that says where a repository is.
fn variable(name: &str) -> String {
    format!("REPO_{}", name.to_uppercase().replace('-', "_"))
}

fn in_double_quotes(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if matches!(letter, '"' | '\\' | '$' | '`' | '}') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}
