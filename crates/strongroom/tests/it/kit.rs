//! The break-glass kit, followed to the letter by somebody who has nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faults::SmallDisk;
use crate::fixture::{Host, must, write};
use crate::reader::PYTHON;

/// What a stranger's machine has: what the kit asks for, and what is needed to start it.
const PROGRAMS: [&str; 7] = [
    "age",
    "bash",
    "openssl",
    "python3",
    "rm",
    "sha256sum",
    "zstd",
];
const CUSTODIANS: [&str; 5] = ["anna", "boris", "chen", "dora", "emil"];

/// The blocks of a kit that are to be run.
fn commands(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => {
                blocks.push(String::new());
                inside = true;
            }
            "```" => inside = false,
            line if inside => {
                let block = blocks.last_mut().expect("was begun");
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// A host whose keys three of five custodians open, with a backup; and the databases opened by one identity.
fn host() -> Host {
    let host = Host::without_repositories();
    let mut arguments: Vec<String> = ["custody", "create", "ca-keys", "--threshold", "3"]
        .map(str::to_owned)
        .to_vec();
    for name in CUSTODIANS {
        let file = host.text(&format!("id/{name}"));
        let made = host.ok(&["identity", "new", "--no-passphrase", "--out", &file]);
        arguments.push("--custodian".to_owned());
        arguments.push(format!("{name}={}", made.stdout.trim()));
    }
    arguments.extend(["--out".to_owned(), host.text("ceremony")]);
    host.configure("");
    host.ok(&["init"]);
    // The record is kept on the host whose configuration is read.
    let made = host.ok(&arguments);
    let line = made.stdout.lines().last().expect("the recipient");
    let recipient = line.split('"').nth(1).expect("in quotes");
    write(&host.path("id/keys.pub"), recipient);
    for place in ["repo/keysafe", "repo/offsite"] {
        std::fs::remove_dir_all(host.path(place)).expect("is there");
    }
    host.configure("");
    host.ok(&["init"]);
    host.learn_secrets();
    host
}

/// Where a program lies.
fn find(program: &str) -> PathBuf {
    if program == "python3" {
        return PYTHON.into();
    }
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut found = std::env::split_paths(&path).map(|place| place.join(program));
    found.find(|file| file.is_file()).expect(program)
}

#[test]
fn a_stranger_with_three_of_five_restores_by_the_letter() {
    let host = host();
    let label = host.backup();
    let kit = host.text("kit");
    host.ok(&["kit", "--out", &kit])
        .says("Nothing in it is secret");
    host.run(&["kit", "--out", &kit])
        .exits(4)
        .says("is not empty");

    // Another machine: the kit, the repositories, three sealed shares with what opens them, one identity.
    let machine = host.path("machine");
    must("cp", &["-r", &kit, machine.to_str().expect("UTF-8")]);
    for name in ["emil", "boris", "dora"] {
        let share = format!("ca-keys.{name}.share.age");
        let bring = |from: &Path, to: &str| {
            std::fs::copy(from, machine.join(to)).expect("copies");
        };
        bring(&host.path(format!("ceremony/{share}")), &share);
        bring(
            &host.path(format!("id/{name}")),
            &format!("ca-keys.{name}.identity"),
        );
    }
    std::fs::copy(host.path("id/database"), machine.join("offsite.identity")).expect("copies");
    let wanted = host.contents();
    std::fs::rename(host.ca(), host.path("lost")).expect("the CA is gone");
    std::fs::rename(host.path("host"), host.path("lost-host")).expect("and so is the host");

    let text = std::fs::read_to_string(machine.join("break-glass.txt")).expect("a kit");
    for told in [
        &label,
        "any 3 of the 5 custodians of ca-keys",
        "emil",
        "reader.py",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    let blocks = commands(&text);
    assert!(blocks.len() >= 8, "{blocks:#?}");
    let bin = host.path("bin");
    std::fs::create_dir(&bin).expect("creates");
    for program in PROGRAMS {
        std::os::unix::fs::symlink(find(program), bin.join(program)).expect("links");
    }
    let script = format!("set -euo pipefail\n{}", blocks.concat());
    let run = host.finish(
        Command::new(bin.join("bash"))
            .args(["-c", &script])
            .env_clear()
            .env("PATH", &bin)
            .env("HOME", &machine)
            .current_dir(&machine),
    );
    let run = run
        .exits(0)
        .says("keysafe: the writer is known")
        .says("ca-key: the key belongs to the certificate");
    assert!(run.has(&label));

    let below = host.ca();
    let below = below.strip_prefix("/").expect("absolute");
    let restored = |asset: &str, path: &str| {
        let repository = if asset == "ca-key" || asset == "token" {
            "keysafe"
        } else {
            "offsite"
        };
        let place = machine.join(format!("restored-{repository}/{asset}"));
        place.join(below).join(path)
    };
    for (asset, path) in [
        ("ca-key", "private/ca.key.pem"),
        ("token", "private/token"),
        ("certificates", "certs/ca.cert.pem"),
        ("config", "conf/ca.toml"),
        ("log", "var/log/ca.log"),
    ] {
        let found = std::fs::read(restored(asset, path)).expect(path);
        assert_eq!(found, wanted[Path::new(path)], "{path}");
    }
    let database = std::fs::read(restored("database", "var/ca.sqlite3")).expect("a database");
    let before = std::fs::read(host.path("lost/var/ca.sqlite3")).expect("reads");
    assert_eq!(database, before, "byte for byte");

    // Another certificate, or none: the proof fails, also where nothing stops at the first failure.
    let proof = blocks.iter().find(|block| block.starts_with("KEY="));
    let prove = || {
        let mut command = Command::new("bash");
        command
            .args(["-c", proof.expect("a proof")])
            .current_dir(&machine);
        let run = host.finish(&mut command);
        assert!(run.status != 0 && !run.has("the key belongs"), "{run:?}");
        run.says("STOP: ca-key does not belong to its certificate");
    };
    let certificate = restored("certificates", "certs/ca.cert.pem");
    let another = rcgen::generate_simple_self_signed(["ca.example".to_owned()]);
    write(&certificate, another.expect("a certificate").cert.pem());
    prove();
    for file in [&certificate, &restored("ca-key", "private/ca.key.pem")] {
        std::fs::remove_file(file).expect("is there");
    }
    prove();

    let left = std::fs::read_dir(&machine).expect("reads").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".share.txt"));
    assert_eq!(left.count(), 0, "opened shares do not stay");
}

#[test]
fn two_of_five_do_not_restore_and_a_strange_repository_stops_it() {
    let host = host();
    host.backup();
    let kit = host.path("kit");
    host.ok(&["kit", "--out", &host.text("kit")]);
    for name in ["anna", "chen"] {
        let share = format!("ca-keys.{name}.share.age");
        std::fs::copy(host.path(format!("ceremony/{share}")), kit.join(&share)).expect("copies");
        std::fs::copy(
            host.path(format!("id/{name}")),
            kit.join(format!("ca-keys.{name}.identity")),
        )
        .expect("copies");
    }
    let text = std::fs::read_to_string(kit.join("break-glass.txt")).expect("a kit");
    let script = format!("set -euo pipefail\n{}", commands(&text).concat());
    let mut few = Command::new("bash");
    few.args(["-c", &script]).current_dir(&kit);
    let few = host.finish(&mut few);
    assert_ne!(few.status, 0);
    few.says("2 of 3 shares are there");

    // Somebody else's repository in its place.
    let other = Host::new();
    other.backup();
    let mut strange = Command::new("bash");
    strange
        .args(["-c", &script])
        .env("REPO_KEYSAFE", other.path("repo/keysafe"))
        .current_dir(&kit);
    let strange = host.finish(&mut strange);
    assert_ne!(strange.status, 0);
    strange.says("STOP: this is not the repository keysafe");
}

#[test]
fn a_repository_that_cannot_be_reached_is_told() {
    let host = host();
    host.backup();
    std::fs::rename(host.path("repo/offsite"), host.path("away")).expect("renames");
    let kit = host.text("kit");
    host.run(&["kit", "--out", &kit])
        .exits(3)
        .says("the kit does not tell its writers and backups");
    let text = std::fs::read_to_string(host.path("kit/break-glass.txt")).expect("a kit");
    assert!(
        text.contains("repo/offsite"),
        "its place is told all the same"
    );
}

#[test]
fn a_kit_that_cannot_be_written_whole_leaves_nothing() {
    let test = "kit::a_kit_that_cannot_be_written_whole_leaves_nothing";
    let host = host();
    let Some(_disk) = SmallDisk::mount(test, host.path("small"), "40k") else {
        return;
    };
    let kit = host.text("small/kit");
    host.run(&["kit", "--out", &kit])
        .exits(1)
        .says("No space left on device");
    let left = std::fs::read_dir(&kit).expect("reads").count();
    assert_eq!(left, 0, "half a kit is left");
}
