//! Single shares are proved, also typed at a terminal.

use super::{Ceremony, PAPER, SEALED, line_of};
use crate::fixture::write;
use crate::terminal::typed;

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

#[test]
fn words_are_typed_and_a_wrong_one_is_told_at_once() {
    let ceremony = Ceremony::new();
    let host = &ceremony.host;
    host.backup();
    let lines = |words: &[String]| {
        words
            .chunks(11)
            .map(|line| line.join(" "))
            .collect::<Vec<_>>()
    };
    let notary = ceremony.words("notary");
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
    all.push(line_of(&operations).to_owned());
    all.extend(lines(&ceremony.words("bank-safe")));
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
