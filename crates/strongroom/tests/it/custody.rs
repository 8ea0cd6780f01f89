//! A ceremony, its losses, and what comes after: the built program with custodians of several kinds.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::fixture::{Host, Outcome, copy_tree, must, write};
use crate::reader::{must_read, read};

/// Five custodians: three with identities of their own, two with paper.
const SEALED: [&str; 3] = ["security-officer", "operations", "deputy"];
const PAPER: [&str; 2] = ["bank-safe", "notary"];

/// A host whose keys are sealed to an identity in custody.
struct Ceremony {
    host: Host,
    recipient: String,
}

impl Ceremony {
    fn new() -> Self {
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
    fn plain(&self, directory: &str, set: &str, name: &str) -> PathBuf {
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
    fn learn(&self, directory: &str, set: &str) {
        for name in SEALED.iter().chain(&PAPER) {
            let text = std::fs::read_to_string(self.plain(directory, set, name)).expect("reads");
            let line = text.lines().find(|line| line.starts_with("SRSHARE1"));
            self.host.learn_secret(line.expect("a share"));
        }
    }

    fn share(&self, name: &str) -> String {
        self.host.text(&format!("ceremony/{name}.share"))
    }

    fn sealed(&self, name: &str) -> String {
        self.host
            .text(&format!("ceremony/ca-keys.{name}.share.age"))
    }

    /// A restore of the CA key alone, with these arguments.
    fn restore_key(&self, out: &str, more: &[&str]) -> Outcome {
        let out = self.host.text(out);
        let mut all = vec!["restore", "latest", "ca-key", "--to-dir", &out, "--apply"];
        all.extend(more);
        self.host.run(&all)
    }

    #[track_caller]
    fn key_is_back(&self, out: &str) {
        let ca = self.host.ca();
        let below = ca.strip_prefix("/").expect("absolute");
        let restored = self
            .host
            .path(out)
            .join("ca-key")
            .join(below)
            .join("private/ca.key.pem");
        let restored = std::fs::read(&restored)
            .unwrap_or_else(|error| panic!("{}: {error}", restored.display()));
        assert_eq!(
            restored,
            std::fs::read(ca.join("private/ca.key.pem")).expect("reads")
        );
    }
}

/// Deals three of five, and gives the recipient.
fn create(host: &Host, set: &str, directory: &str) -> String {
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
fn scanned(pdf: &std::path::Path) -> String {
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

#[test]
fn two_of_five_are_lost_and_the_key_comes_back() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    // Lost: the share of the security officer, and one on paper. The words of the other sheet are typed into a file.
    let html =
        std::fs::read_to_string(host.path("ceremony/ca-keys.bank-safe.html")).expect("reads");
    let words: Vec<&str> = html
        .split_once("<ol class=\"words\">")
        .and_then(|(_, rest)| rest.split_once("</ol>"))
        .expect("words")
        .0
        .split("<li>")
        .skip(1)
        .filter_map(|item| item.split('<').next())
        .collect();
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
struct Waiting {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Waiting {
    fn until(&mut self, text: &str) -> String {
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
    let mut command = host.command(&[
        "restore",
        "latest",
        "ca-key",
        "--to-dir",
        &out,
        "--apply",
        "--quorum-socket",
        &socket,
    ]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut waiting = Waiting { child, lines };
    let first = waiting.until("Waiting for shares");
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
fn rehearsals_prove_single_shares() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    let overdue = host.run(&["check"]).exits(3);
    assert!(
        overdue.has("shares not rehearsed in the last 180 days: security-officer (never)"),
        "{}",
        overdue.stdout
    );
    let record = host.text("ceremony/ca-keys.custody.json");
    for name in SEALED.iter().chain(&PAPER) {
        let share = ceremony.share(name);
        host.ok(&[
            "custody",
            "rehearse",
            "--share",
            &share,
            "--custodian",
            name,
        ]);
    }
    let good = host.run(&["check"]);
    assert!(good.has("every custodian has rehearsed"), "{}", good.stdout);
    // On a machine of the custodian's own, and brought to the host.
    std::fs::remove_dir_all(host.path("host/state/custody")).expect("removes");
    let statement = host.text("rehearsal.json");
    let rehearse = [
        "custody",
        "rehearse",
        "--record",
        &record,
        "--share",
        &ceremony.share("notary"),
        "--out",
        &statement,
    ];
    host.ok(&rehearse);
    assert!(
        host.run(&["custody", "import", &statement])
            .exits(4)
            .has("unknown set")
    );
    host.ok(&["custody", "import", &record, &statement]);
    let shown = host.ok(&["custody", "show", "--json"]).document();
    let custodians = &shown["sets"][0]["custodians"];
    assert!(
        custodians[4]["rehearsed"].is_string() && custodians[0]["rehearsed"].is_null(),
        "{custodians}"
    );
    // What was signed is bound to who signed.
    let forged = std::fs::read_to_string(&statement)
        .expect("reads")
        .replacen("\"sig\":\"", "\"sig\":\"AA", 1);
    write(&host.path("forged.json"), forged);
    host.run(&["custody", "import", &host.text("forged.json")])
        .exits(1);
    let wrong = host.run(&[
        "custody",
        "rehearse",
        "--share",
        &ceremony.share("notary"),
        "--custodian",
        "deputy",
    ]);
    assert!(
        wrong
            .exits(4)
            .has("what is said to be the share of deputy is the share of notary")
    );
}

/// Types lines at a terminal of its own, one at each prompt; what the terminal shows.
const TYPIST: &str = r#"
import json, os, pty, sys
job = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(job["argv"][0], job["argv"])
shown, lines, prompts = b"", job["lines"], 0
try:
    while piece := os.read(terminal, 4096):
        shown += piece
        while lines and shown.count(b"Enter ") > prompts:
            prompts += 1
            os.write(terminal, lines.pop(0).encode() + b"\n")
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(shown)
sys.exit(status)
"#;

fn typed(host: &Host, arguments: &[&str], lines: &[String]) -> (Option<i32>, String) {
    let config = host.text("host/strongroom.toml");
    let mut argv = vec![env!("CARGO_BIN_EXE_strongroom"), "--config", &config];
    argv.extend(arguments);
    let job = serde_json::json!({ "argv": argv, "lines": lines });
    write(&host.path("typist.json"), job.to_string());
    let stdin = std::fs::File::open(host.path("typist.json")).expect("opens");
    let typist = Command::new("python3")
        .args(["-c", TYPIST])
        .stdin(stdin)
        .output();
    let typist = typist.expect("python3 starts");
    (
        typist.status.code(),
        String::from_utf8_lossy(&typist.stdout).into_owned(),
    )
}

#[test]
fn words_are_typed_and_a_wrong_one_is_told_at_once() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    let words = |name: &str| -> Vec<String> {
        let html = std::fs::read_to_string(host.path(format!("ceremony/ca-keys.{name}.html")))
            .expect("reads");
        let list = html
            .split_once("<ol class=\"words\">")
            .expect("words")
            .1
            .to_owned();
        let list = list.split_once("</ol>").expect("words").0.to_owned();
        list.split("<li>")
            .skip(1)
            .map(|item| item[..item.find('<').expect("an end")].to_owned())
            .collect()
    };
    let lines = |words: &[String]| {
        words
            .chunks(11)
            .map(|line| line.join(" "))
            .collect::<Vec<_>>()
    };
    let notary = words("notary");
    let mut all = vec![format!("{} nonsense {}", notary[0], notary[2])];
    all.extend(lines(&notary));
    let (status, shown) = typed(
        host,
        &["custody", "rehearse", "--custodian", "notary"],
        &all,
    );
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("word 2 is not in the list"), "{shown}");
    assert!(shown.contains("Proved: the share of notary"), "{shown}");
    // Two sheets and a line, at the terminal of the restore; one of them is given twice.
    let operations = std::fs::read_to_string(ceremony.share("operations")).expect("reads");
    let mut all = lines(&notary);
    all.extend(lines(&notary));
    all.extend(
        operations
            .lines()
            .filter(|line| line.starts_with("SRSHARE1"))
            .map(str::to_owned),
    );
    all.extend(lines(&words("bank-safe")));
    let out = host.text("typed-back");
    let (status, shown) = typed(
        host,
        &[
            "restore",
            "latest",
            "ca-key",
            "--to-dir",
            &out,
            "--apply",
            "--type-shares",
        ],
        &all,
    );
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.contains("the share of notary is there already"),
        "{shown}"
    );
    ceremony.key_is_back("typed-back");
}

#[test]
fn damaged_shares_are_named_and_nothing_of_them_is_shown() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    let good = std::fs::read_to_string(ceremony.share("operations")).expect("reads");
    let line = good
        .lines()
        .find(|line| line.starts_with("SRSHARE1"))
        .expect("a share");
    let turned = if line.ends_with('Q') { "P" } else { "Q" };
    let cases = [
        (
            "flipped",
            good.replace(line, &format!("{}{turned}", &line[..81])),
            "its checksum is wrong",
        ),
        (
            "cut",
            good.replace(line, &line[..60]),
            "its checksum is wrong",
        ),
        ("empty", String::new(), "there is no share in it"),
        (
            "identity",
            std::fs::read_to_string(host.path("id/stranger")).expect("reads"),
            "it is not a share but an identity",
        ),
        (
            "words",
            "abandon ability".to_owned(),
            "it has 2 words, a share has 33",
        ),
    ];
    for (name, content, expected) in &cases {
        let file = host.path(format!("bad/{name}"));
        write(&file, content);
        let refused = ceremony
            .restore_key("never", &["--share", &host.text(&format!("bad/{name}"))])
            .exits(4);
        assert!(
            refused.has(expected) && refused.has(&format!("bad/{name}")),
            "{}",
            refused.stderr
        );
    }
    // A sealed share, cut; and one that is opened with somebody else's identity.
    let sealed = std::fs::read_to_string(ceremony.sealed("operations")).expect("reads");
    write(&host.path("bad/sealed"), &sealed[..sealed.len() / 2]);
    let identity = host.text("id/operations");
    let cut = ceremony.restore_key(
        "never",
        &["--share", &host.text("bad/sealed"), "-i", &identity],
    );
    assert!(cut.exits(4).has("cannot open the sealed share"));
    let stranger = host.text("id/stranger");
    let strange = ceremony.restore_key(
        "never",
        &["--share", &ceremony.sealed("operations"), "-i", &stranger],
    );
    assert!(
        strange
            .exits(4)
            .has("none of the identities given opens this sealed share")
    );
    // Bad shares among enough good ones are told, and do no harm.
    let shares: Vec<String> = ["operations", "deputy", "notary"]
        .iter()
        .map(|name| ceremony.share(name))
        .collect();
    let bad = host.text("bad/flipped");
    let done = ceremony.restore_key(
        "back",
        &[
            "--share", &bad, "--share", &shares[0], "--share", &shares[1], "--share", &shares[2],
        ],
    );
    assert!(done.exits(0).has("its checksum is wrong"));
    ceremony.key_is_back("back");
    assert!(!host.path("never").exists());
}

#[test]
fn a_ceremony_refuses_what_it_must_not_make() {
    let host = Host::new();
    let out = host.text("ceremony");
    let recipient = host.recipient("stranger");
    let (one, two) = (format!("one={recipient}"), format!("two={recipient}"));
    let create = |more: &[&str]| {
        let mut all = vec!["custody", "create", "x", "--out", &out];
        all.extend(more);
        host.run(&all)
    };
    for (more, expected) in [
        (
            &["--threshold", "1", "--paper", "a"][..],
            "every custodian opens everything alone",
        ),
        (
            &["--threshold", "3", "--paper", "a", "--paper", "b"],
            "3 of 2 custodians is not possible",
        ),
        (
            &["--threshold", "2", "--paper", "a", "--paper", "a"],
            "custodian a is given twice",
        ),
        (
            &["--threshold", "2", "--paper", "A b", "--paper", "a"],
            "is not valid",
        ),
        (
            &["--threshold", "2", "--custodian", &one, "--custodian", &two],
            "one and two have the same recipient",
        ),
        (
            &["--threshold", "2", "--custodian", "one", "--paper", "a"],
            "a custodian is written NAME=RECIPIENT",
        ),
        (
            &[
                "--threshold",
                "2",
                "--custodian",
                "one=age1nonsense",
                "--paper",
                "a",
            ],
            "custodian one",
        ),
    ] {
        let refused = create(more).exits(2);
        assert!(refused.has(expected), "{more:?}: {}", refused.stderr);
    }
    assert!(!host.path("ceremony").exists());
    let alone = create(&[
        "--threshold",
        "1",
        "--each-opens-alone",
        "--custodian",
        &one,
    ])
    .exits(0);
    assert!(alone.has("recipients = [\"age1"), "{}", alone.stdout);
    write(&host.path("more/x.a.pdf"), "there");
    let out = host.text("more");
    let refused = host.run(&[
        "custody",
        "create",
        "x",
        "--threshold",
        "2",
        "--paper",
        "a",
        "--paper",
        "b",
        "--out",
        &out,
    ]);
    assert!(
        refused
            .exits(4)
            .has("x.a.pdf exists already; nothing was made")
    );
    assert_eq!(
        std::fs::read_dir(host.path("more")).expect("reads").count(),
        1
    );
}

#[test]
fn after_a_rotation_the_new_quorum_opens_old_and_new_and_the_old_one_nothing_new() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    let old = host.backup();
    let objects = host.path("repo/keysafe/objects");
    copy_tree(&objects, &host.path("objects-before"));
    let recipient = create(host, "next-keys", "next");
    assert_ne!(recipient, ceremony.recipient);
    write(&host.path("id/next.pub"), &recipient);
    host.configure_sealed_to("database", "next", "");
    for (set, directory) in [("next-keys", "next")] {
        ceremony.learn(directory, set);
    }
    let shares = |directory: &str| -> Vec<String> {
        let all = ["operations", "bank-safe", "deputy"].iter();
        all.flat_map(|name| {
            [
                "--share".to_owned(),
                host.text(&format!("{directory}/{name}.share")),
            ]
        })
        .collect()
    };
    let (old_quorum, new_quorum) = (shares("ceremony"), shares("next"));
    let run = |arguments: &[&str], quorum: &[String]| {
        let mut all: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        all.extend_from_slice(quorum);
        host.run(&all)
    };
    let plan = run(&["custody", "rotate"], &[]).exits(0);
    assert!(
        plan.has("keysafe: 1 epochs to seal") && plan.has("Nothing was changed"),
        "{}",
        plan.stdout
    );
    host.run(&["backup"]).exits(4);
    run(&["custody", "rotate", "--apply"], &new_quorum).exits(12);
    run(&["custody", "rotate", "--apply"], &old_quorum).exits(0);
    let again = run(&["custody", "rotate"], &[]).exits(0);
    assert!(again.has("keysafe: 0 epochs to seal"), "{}", again.stdout);
    must(
        "diff",
        &[
            "-r",
            objects.to_str().expect("UTF-8"),
            &host.text("objects-before"),
        ],
    );
    let new = host.backup();
    let again = run(&["custody", "rotate"], &[]).exits(0);
    assert!(
        again.has("keysafe: 0 epochs to seal") && again.has("2 are sealed"),
        "{}",
        again.stdout
    );
    let restore = |label: &str, out: &str, quorum: &[String]| {
        let out = host.text(out);
        run(
            &["restore", label, "ca-key", "--to-dir", &out, "--apply"],
            quorum,
        )
    };
    restore(&old, "old-by-new", &new_quorum).exits(0);
    ceremony.key_is_back("old-by-new");
    restore(&new, "new-by-new", &new_quorum).exits(0);
    ceremony.key_is_back("new-by-new");
    restore(&old, "old-by-old", &old_quorum).exits(0);
    restore(&new, "new-by-old", &old_quorum).exits(12);
    host.ok(&["verify", "--all"]);
    let place = host.text("repo/keysafe");
    let files: Vec<&str> = new_quorum
        .iter()
        .map(String::as_str)
        .filter(|one| *one != "--share")
        .collect();
    must_read(&[&["verify", &place, "--share"][..], &files].concat());
}
