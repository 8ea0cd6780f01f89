//! An identity in the hands of custodians of several kinds: the ceremony that all of these tests begin with.

mod bad_input;
mod plugin;
mod rehearse;
mod restore;
mod rotate;

use std::path::PathBuf;
use std::process::Command;

use crate::fixture::{Host, Outcome, must, write};

/// Five custodians: three with identities of their own, two with paper.
pub(super) const SEALED: [&str; 3] = ["security-officer", "operations", "deputy"];
pub(super) const PAPER: [&str; 2] = ["bank-safe", "notary"];

/// A host whose keys are sealed to an identity in custody.
pub(super) struct Ceremony {
    pub(super) host: Host,
    pub(super) recipient: String,
}

impl Ceremony {
    pub(super) fn new() -> Self {
        let host = Host::new();
        for name in SEALED {
            let file = host.text(&format!("id/{name}"));
            let made = host.ok(&["identity", "new", "--no-passphrase", "--out", &file]);
            write(&host.path(format!("id/{name}.pub")), made.stdout.trim());
        }
        let recipient = create(&host, "ca-keys", "ceremony");
        write(&host.path("id/quorum.pub"), &recipient);
        host.configure_sealed_to("database", "quorum", "");
        host.ok(&["init", "--accept-recipients", "keysafe"]);
        let ceremony = Self { host, recipient };
        ceremony.learn("ceremony", "ca-keys");
        ceremony
    }

    /// The file of a custodian's share in clear, as it is before it is sealed; for those who lost theirs it is not used.
    pub(super) fn plain(&self, directory: &str, set: &str, name: &str) -> PathBuf {
        let out = self.host.path(format!("{directory}/{name}.share"));
        if SEALED.contains(&name) {
            let sealed = self
                .host
                .text(&format!("{directory}/{set}.{name}.share.age"));
            let identity = self.host.text(&format!("id/{name}"));
            let opened = Command::new("age")
                .args(["-d", "-i", &identity, &sealed])
                .output();
            let opened = opened.expect("age starts");
            assert!(opened.status.success());
            write(&out, opened.stdout);
        } else {
            write(
                &out,
                scanned(&self.host.path(format!("{directory}/{set}.{name}.pdf"))),
            );
        }
        out
    }

    /// Remembers every share, so that all later output is searched for it.
    pub(super) fn learn(&self, directory: &str, set: &str) {
        for name in SEALED.iter().chain(&PAPER) {
            let text = std::fs::read_to_string(self.plain(directory, set, name)).expect("reads");
            self.host.learn_secret(line_of(&text));
        }
    }

    pub(super) fn share(&self, name: &str) -> String {
        self.host.text(&format!("ceremony/{name}.share"))
    }

    /// The words on a sheet of paper.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let html = self.host.path(format!("ceremony/ca-keys.{name}.html"));
        let html = std::fs::read_to_string(html).expect("reads");
        let (_, list) = html.split_once("<ol class=\"words\">").expect("words");
        let (list, _) = list.split_once("</ol>").expect("an end");
        let items = list.split("<li>").skip(1);
        items
            .filter_map(|item| item.split('<').next().map(str::to_owned))
            .collect()
    }

    pub(super) fn sealed(&self, name: &str) -> String {
        self.host
            .text(&format!("ceremony/ca-keys.{name}.share.age"))
    }

    /// A restore of the CA key alone, with these arguments.
    pub(super) fn restore_key(&self, out: &str, more: &[&str]) -> Outcome {
        let out = self.host.text(out);
        let mut all = vec!["restore", "latest", "ca-key", "--to-dir", &out, "--apply"];
        all.extend(more);
        self.host.run(&all)
    }

    #[track_caller]
    pub(super) fn key_is_back(&self, out: &str) {
        key_is_back(&self.host, out);
    }
}

/// The CA key in this directory is the one that the CA has.
#[track_caller]
fn key_is_back(host: &Host, out: &str) {
    let key = host.ca().join("private/ca.key.pem");
    let below = key.strip_prefix("/").expect("absolute");
    let restored = host.path(out).join("ca-key").join(below);
    let restored =
        std::fs::read(&restored).unwrap_or_else(|error| panic!("{}: {error}", restored.display()));
    assert_eq!(restored, std::fs::read(&key).expect("reads"));
}

/// The share itself, among what else its file says.
fn line_of(share: &str) -> &str {
    let line = share.lines().find(|line| line.starts_with("SRSHARE1"));
    line.expect("a share")
}

/// Deals three of five, and gives the recipient.
pub(super) fn create(host: &Host, set: &str, directory: &str) -> String {
    let out = host.text(directory);
    let mut arguments: Vec<String> = [
        "custody",
        "create",
        set,
        "--threshold",
        "3",
        "--json",
        "--out",
        &out,
    ]
    .map(str::to_owned)
    .to_vec();
    for name in SEALED {
        let recipient =
            std::fs::read_to_string(host.path(format!("id/{name}.pub"))).expect("reads");
        arguments.extend(["--custodian".to_owned(), format!("{name}={recipient}")]);
    }
    for name in PAPER {
        arguments.extend(["--paper".to_owned(), name.to_owned()]);
    }
    let made = host.ok(&arguments).document();
    assert_eq!(made["quorums_proved"], 10);
    made["recipient"].as_str().expect("a recipient").to_owned()
}

/// What a scanner reads from the first page of a sheet.
pub(super) fn scanned(pdf: &std::path::Path) -> String {
    let picture = pdf.with_extension("scan");
    let (pdf, stem) = (
        pdf.to_str().expect("UTF-8"),
        picture.to_str().expect("UTF-8"),
    );
    must(
        "pdftoppm",
        &[
            "-r",
            "150",
            "-gray",
            "-f",
            "1",
            "-l",
            "1",
            "-singlefile",
            pdf,
            stem,
        ],
    );
    let read = Command::new("zbarimg")
        .args(["--quiet", "--raw", &format!("{stem}.pgm")])
        .output()
        .expect("zbarimg starts");
    assert!(read.status.success(), "no QR code was found in {pdf}");
    String::from_utf8(read.stdout).expect("a line")
}
