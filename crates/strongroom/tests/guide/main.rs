//! Executes the operator guide: its `sh` blocks run as they stand, and its reference of the commands is that of the program.
//!
//! One miniature CA is backed up, damaged and restored by the pages themselves; nothing here knows what they do.

#![expect(
    clippy::disallowed_methods,
    reason = "a test starts programs, finds them in the environment and writes its reference"
)]

mod authority;
mod page;
mod reference;
mod servers;
mod storages;

use std::path::{Path, PathBuf};
use std::process::Command;

use authority::Authority;
use page::Page;
use strongroom_testkit::canary;

const PASSPHRASE: &str = "only for the tests of the guide";

/// Programs that a page may use besides the shell's own commands.
const PLAIN: [&str; 16] = [
    "base64",
    "basename",
    "bash",
    "cat",
    "cut",
    "find",
    "grep",
    "head",
    "ls",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "tail",
    "wc",
];
/// What a page without Strongroom needs besides.
const BY_HAND: [&str; 5] = ["age", "cmp", "install", "openssl", "zstd"];
/// What operators sign with.
const APPROVALS: [&str; 2] = ["dirname", "ssh-keygen"];

#[test]
fn the_pages_can_be_followed() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path();
    let authority = Authority::create(&place.join("ca"));
    let before = authority.content();
    let passphrase = place.join("passphrase");
    authority::write(&passphrase, PASSPHRASE.as_bytes());
    canary::plant(PASSPHRASE);
    plant_lines(&authority.key());

    let mut names = PLAIN.to_vec();
    let programs = programs(&place.join("bin"), &names);
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_strongroom"),
        programs.join("strongroom"),
    )
    .expect("a link to the program");
    let path = |name: &str| place.join(name).into_os_string();
    let run = |page: &str, programs: &Path, more: &[(&str, PathBuf)]| {
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", programs)
            .env("HOME", place)
            .env("LC_ALL", "C.UTF-8")
            .env("CA", path("ca"))
            .env("ETC", path("etc"))
            .env("STATE", path("state"))
            .env("BACKUPS", path("backups"))
            .env("KEYSAFE", path("keysafe"))
            .env("CUSTODIAN", path("custodian"))
            .env("STRONGROOM_PASSPHRASE_FILE", &passphrase)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .current_dir(place);
        Page::read(page).execute(&mut command);
    };

    run("first-backup.md", &programs, &[]);

    let custodian = place.join("custodian");
    let identity = |name: &str| custodian.join(name);
    authority.damage();
    let damaged = authority.content();
    assert_ne!(before, damaged);
    let variables = [
        ("STRONGROOM_CONFIG", place.join("etc/strongroom.toml")),
        ("DATABASE_IDENTITY", identity("database.identity")),
        ("KEYS_IDENTITY", identity("keys.identity")),
        ("LOOK", place.join("look")),
        ("NEW", place.join("new")),
    ];
    run("restore.md", &programs, &variables);
    assert_eq!(authority.content(), before, "after restore.md");

    let variables = [
        ("STRONGROOM_CONFIG", place.join("etc/strongroom.toml")),
        ("SECOND", place.join("second")),
    ];
    run("copies.md", &programs, &variables);

    authority.lose_key();
    // age asks for passphrases at a terminal only.
    let opened = place.join("opened.identity");
    authority::open_identity(&identity("keys.identity"), PASSPHRASE, &opened);
    plant_lines(&opened);
    names.extend(BY_HAND);
    let by_hand = self::programs(&place.join("by-hand-bin"), &names);
    let variables = [
        ("REPOSITORY", place.join("keysafe")),
        ("IDENTITY", opened),
        ("KEY", authority.key()),
        ("CERTIFICATE", authority.certificate()),
        ("OUT", place.join("by-hand")),
    ];
    run("by-hand.md", &by_hand, &variables);
    assert_eq!(authority.content(), before, "after by-hand.md");

    let variables = [("STRONGROOM_CONFIG", place.join("etc/strongroom.toml"))];
    run("retention.md", &programs, &variables);

    let with_ssh: Vec<&str> = PLAIN.iter().copied().chain(APPROVALS).collect();
    let with_ssh = self::programs(&place.join("approvals-bin"), &with_ssh);
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_strongroom"),
        with_ssh.join("strongroom"),
    )
    .expect("a link to the program");
    // The page asks for approvals, the one after it for none.
    let config = place.join("etc/with-approvals.toml");
    std::fs::copy(place.join("etc/strongroom.toml"), &config).expect("copies");
    let variables = [
        ("STRONGROOM_CONFIG", config),
        ("KEYS_IDENTITY", identity("keys.identity")),
        ("PLANS", place.join("plans")),
    ];
    run("approvals.md", &with_ssh, &variables);

    let variables = [
        ("STRONGROOM_CONFIG", place.join("etc/strongroom.toml")),
        ("KEYS_IDENTITY", identity("keys.identity")),
        ("CEREMONY", place.join("ceremony")),
        ("LOOK", place.join("look-with-shares")),
    ];
    run("custody.md", &programs, &variables);

    let variables = [
        ("STRONGROOM_CONFIG", place.join("etc/strongroom.toml")),
        ("KIT", place.join("kit")),
    ];
    run("kit.md", &programs, &variables);
}

#[test]
fn the_page_of_postgresql_can_be_followed() {
    servers::postgresql();
}

#[test]
fn the_page_of_mariadb_can_be_followed() {
    servers::mariadb();
}

#[test]
fn the_page_of_pkcs11_can_be_followed() {
    servers::pkcs11();
}

#[test]
fn the_page_of_directories_can_be_followed() {
    storages::file();
}

#[test]
fn the_page_of_s3_can_be_followed() {
    storages::s3();
}

#[test]
fn the_page_of_sftp_can_be_followed() {
    storages::sftp();
}

#[test]
fn the_page_of_gcs_can_be_followed() {
    storages::gcs();
}

#[test]
fn the_page_of_azure_can_be_followed() {
    storages::azure();
}

#[test]
fn the_worked_bytes_of_the_format_hold() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path();
    let programs = programs(&place.join("bin"), &[&PLAIN[..], &BY_HAND[..]].concat());
    let mut command = Command::new("bash");
    command
        .env_clear()
        .env("PATH", programs)
        .env("HOME", place)
        .current_dir(place);
    Page::read("../format.md").execute(&mut command);
}

#[test]
fn the_reference_of_the_commands_is_that_of_the_program() {
    reference::compare();
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let broken = page::broken_links();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Plants the lines of a file with a key.
fn plant_lines(file: &Path) {
    let text = std::fs::read_to_string(file).expect("a key");
    let lines = text.lines().filter(|line| !line.starts_with(['#', '-']));
    lines.filter(|line| line.len() > 30).for_each(canary::plant);
}

/// A directory with links to these programs and no others.
fn programs(directory: &Path, names: &[&str]) -> PathBuf {
    std::fs::create_dir(directory).expect("a directory for programs");
    let path = std::env::var_os("PATH").expect("a PATH");
    for name in names {
        let found = std::env::split_paths(&path)
            .map(|place| place.join(name))
            .find(|file| file.is_file());
        let found =
            found.unwrap_or_else(|| panic!("the program {name} is missing; ./test installs it"));
        std::os::unix::fs::symlink(found, directory.join(name)).expect("a link");
    }
    directory.to_owned()
}
