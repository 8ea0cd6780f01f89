//! A quorum opens backups: two of five shares are lost, shares come over a socket.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Ceremony, create};
use crate::fixture::{must, write};
use crate::reader::{must_read, read};

#[test]
fn two_of_five_are_lost_and_the_key_comes_back() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    // Lost: the share of the security officer, and one on paper. The words of the other sheet are typed into a file.
    let words = ceremony.words("bank-safe");
    assert_eq!(words.len(), 33);
    write(&host.path("typed"), words.join("\n"));
    let typed = host.text("typed");
    let (operations, deputy) = (ceremony.sealed("operations"), ceremony.sealed("deputy"));
    let identities = [host.text("id/operations"), host.text("id/deputy")];
    let few = ceremony.restore_key(
        "few",
        &[
            "--share",
            &typed,
            "--share",
            &operations,
            "-i",
            &identities[0],
        ],
    );
    let few = few.exits(4);
    assert!(
        few.has("2 of 3 shares are there: the share of bank-safe, the share of operations"),
        "{}",
        few.stderr
    );
    assert!(!host.path("few").exists());
    let quorum = [
        "--share",
        &typed,
        "--share",
        &operations,
        "--share",
        &deputy,
        "-i",
        &identities[0],
        "-i",
        &identities[1],
    ];
    ceremony.restore_key("back", &quorum).exits(0);
    ceremony.key_is_back("back");
    for verb in ["verify", "show"] {
        let mut all = vec![verb];
        all.extend(quorum);
        all.extend(if verb == "verify" {
            &["--repository", "keysafe", "--level", "L4"][..]
        } else {
            &["latest", "-i"][..]
        });
        let database = host.text("id/database");
        if verb == "show" {
            all.push(&database);
        }
        host.ok(&all);
    }
    let shown = host.ok(&["custody", "show", "--json"]).document();
    let openings = shown["sets"][0]["openings"].as_array().expect("a list");
    assert_eq!(openings.len(), 9, "{openings:?}");
    assert_eq!(openings[0]["command"], "restore");
    assert_eq!(shown["sets"][0]["repositories"][0], "keysafe");
    // A damaged record is told, and keeps nobody out.
    for entry in std::fs::read_dir(host.path("host/state/custody")).expect("reads") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            write(&path, "{}");
        }
    }
    let told = ceremony.restore_key("damaged-record", &quorum).exits(0);
    told.says("Take another copy of it");
    ceremony.key_is_back("damaged-record");
    // Nothing but the shares and the repository: no record, no state, another machine.
    std::fs::remove_dir_all(host.path("host/state/custody")).expect("removes");
    ceremony.restore_key("elsewhere", &quorum).exits(0);
    ceremony.key_is_back("elsewhere");
    // And without Strongroom.
    let place = host.text("repo/keysafe");
    let shares = [
        typed.clone(),
        ceremony.share("operations"),
        ceremony.share("notary"),
    ];
    let out = host.text("by-reader");
    must_read(
        &[
            &[
                "restore", &place, "--label", "latest", "--out", &out, "--share",
            ][..],
            &shares.each_ref().map(String::as_str),
        ]
        .concat(),
    );
    let few = read(&["verify", &place, "--share", &shares[0], &shares[1]]);
    assert!(String::from_utf8_lossy(&few.stderr).contains("2 of 3 shares are there"));
    assert!(!few.status.success());
}

/// A command that waits at a socket.
pub(super) struct Waiting {
    pub(super) child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Waiting {
    /// Starts it, and gives what it says until it waits.
    pub(super) fn start(mut command: Command) -> (Self, String) {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut waiting = Self { child, lines };
        let said = waiting.until("Waiting for shares");
        (waiting, said)
    }

    pub(super) fn until(&mut self, text: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(text) {
            let read = self.lines.read_line(&mut heard).expect("reads");
            assert!(read > 0, "it ended without {text:?}: {heard}");
        }
        heard
    }
}

#[test]
fn shares_come_from_several_processes_and_wrong_ones_do_not_end_the_wait() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    create(host, "other", "other");
    ceremony.learn("other", "other");
    let socket = host.text("quorum");
    let out = host.text("back");
    let command = host.command(&[
        "restore",
        "latest",
        "ca-key",
        "--to-dir",
        &out,
        "--apply",
        "--quorum-socket",
        &socket,
    ]);
    let (mut waiting, first) = Waiting::start(command);
    assert!(
        first.contains("any 3 of security-officer, operations, deputy, bank-safe, notary"),
        "{first}"
    );
    let give =
        |share: &str| host.run(&["custody", "combine", "--socket", &socket, "--share", share]);
    let with = |name: &str| {
        let identity = host.text(&format!("id/{name}"));
        host.run(&[
            "custody",
            "combine",
            "--socket",
            &socket,
            "--share",
            &ceremony.sealed(name),
            "-i",
            &identity,
        ])
    };
    let foreign = give(&host.text("other/notary.share")).exits(4);
    assert!(foreign.has("is of the set"), "{}", foreign.stderr);
    let said = with("operations").exits(0);
    assert!(
        said.has("the share of operations is there: 1 of 3, 2 to come"),
        "{}",
        said.stdout
    );
    assert!(
        with("operations")
            .exits(4)
            .has("the share of operations is there already")
    );
    write(
        &host.path("swapped"),
        std::fs::read_to_string(ceremony.share("deputy"))
            .expect("reads")
            .replace("custodian: deputy", "custodian: operations"),
    );
    let swapped = give(&host.text("swapped")).exits(4);
    assert!(
        swapped.has("what is said to be the share of operations is the share of deputy"),
        "{}",
        swapped.stderr
    );
    give(&ceremony.share("notary")).exits(0);
    assert!(with("deputy").exits(0).has("enough"));
    let heard = waiting.until("the share of deputy is there");
    assert!(heard.contains("the share of notary is there"), "{heard}");
    assert!(!heard.contains("SRSHARE1"));
    assert!(waiting.child.wait().expect("ends").success());
    ceremony.key_is_back("back");
    assert!(!host.path("quorum").exists(), "the socket is gone");
    give(&ceremony.share("notary")).exits(1);
    let shown = host.ok(&["custody", "show"]);
    assert!(shown.has("socket, uid"), "{}", shown.stdout);
}

#[test]
fn an_interrupt_ends_the_wait_and_takes_the_socket_away() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    let socket = host.text("quorum");
    // A socket that a killed command left does not stand in the way.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("binds"));
    let command = host.command(&[
        "export",
        "latest",
        "--out",
        &host.text("out"),
        "--quorum-socket",
        &socket,
    ]);
    let (mut waiting, _) = Waiting::start(command);
    must("kill", &["-INT", &waiting.child.id().to_string()]);
    assert_eq!(waiting.child.wait().expect("ends").code(), Some(130));
    assert!(!host.path("quorum").exists() && !host.path("out").exists());
}
