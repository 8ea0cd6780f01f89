//! Shares that are none, and ceremonies that must not be.

use super::{Ceremony, line_of};
use crate::fixture::{Host, write};

#[test]
fn damaged_shares_are_named_and_nothing_of_them_is_shown() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    let good = std::fs::read_to_string(ceremony.share("operations")).expect("reads");
    let line = line_of(&good);
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
