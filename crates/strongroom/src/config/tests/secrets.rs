//! What follows when an asset holds secrets: `on_secret` and its companions.

use super::*;

/// The example with one more asset, whose table has these lines after its first four.
fn with(class: &str, lines: &str) -> String {
    format!(
        "{}[asset.config]\nsource = \"files\"\nclass = \"{class}\"\npaths = [\"/etc/ca\"]\n{lines}",
        example()
    )
}

fn on_secret(text: &str) -> Option<OnSecret> {
    let config = parse(text).expect("valid");
    match &config.asset("config").expect("there").settings {
        Settings::Files { on_secret, .. } => on_secret.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_is_to_refuse_and_of_logs_to_note() {
    for (class, expected) in [
        ("config", Some(OnSecret::Refuse)),
        ("certificate", Some(OnSecret::Refuse)),
        ("log", Some(OnSecret::Note)),
        ("audit", Some(OnSecret::Note)),
        ("secret", None),
        ("key", None),
        ("database", None),
    ] {
        assert_eq!(on_secret(&with(class, "")), expected, "{class}");
    }
    let refused = on_secret(&with("log", "on_secret = \"refuse\"\n"));
    assert_eq!(refused, Some(OnSecret::Refuse));
    let allowed = "on_secret = \"allow\"\non_secret_reason = \"a lab\"\n";
    let reason = "a lab".to_owned();
    assert_eq!(
        on_secret(&with("config", allowed)),
        Some(OnSecret::Allow { reason })
    );
}

#[test]
fn what_is_redirected_is_an_asset_of_its_own() {
    let text = with(
        "config",
        "on_secret = \"redirect\"\nretention = { keep_daily = 3 }\n",
    );
    let config = parse(&text).expect("valid");
    let asset = "config-secrets".to_owned();
    assert_eq!(on_secret(&text), Some(OnSecret::Redirect { asset }));
    let part = config.asset("config-secrets").expect("made");
    assert_eq!(config.repository_of(part).name, "keysafe");
    assert_eq!(
        (part.class, part.source(), part.part_of()),
        (Class::Secret, "files", Some("config"))
    );
    assert_eq!(part.retention.as_ref().map(|kept| kept.daily), Some(3));

    // Certificates are not there to be asked when they expire: it is kept.
    let lines = "on_secret = \"redirect\"\nretention = { keep_until_expiry_plus = \"9d\" }\n";
    let config = parse(&with("certificate", lines)).expect("valid");
    let part = config.asset("config-secrets").expect("made");
    assert_eq!(part.retention.as_ref().map(|kept| kept.forever), Some(true));

    let second = format!(
        "[repository.second]\nurl = \"file:second\"\nrecipients = [\"{B}\"]\naccepts = [\"secret\"]\n"
    );
    let lines = format!("on_secret = \"redirect\"\nredirect_to = \"second\"\n{second}");
    let config = parse(&with("config", &lines)).expect("valid");
    let part = config.asset("config-secrets").expect("made");
    assert_eq!(config.repository_of(part).name, "second");
}

#[test]
fn faults_of_on_secret() {
    let second = format!(
        "\n[repository.second]\nurl = \"file:second\"\nrecipients = [\"{B}\"]\naccepts = [\"secret\"]"
    );
    let several = format!("on_secret = \"redirect\"{second}");
    for (class, lines, fault) in [
        (
            "config",
            "on_secret = \"ignore\"",
            "26: asset \"config\": \"on_secret\" is \"ignore\"",
        ),
        (
            "config",
            "on_secret = \"allow\"",
            "26: asset \"config\": on_secret = \"allow\" needs an \"on_secret_reason\"",
        ),
        (
            "config",
            "on_secret_reason = \"so\"",
            "26: asset \"config\": \"on_secret_reason\" has no effect without on_secret = \"allow\"",
        ),
        (
            "config",
            "on_secret = \"refuse\"\nredirect_to = \"keysafe\"",
            "27: asset \"config\": \"redirect_to\" has no effect without on_secret = \"redirect\"",
        ),
        (
            "config",
            "on_secret = \"redirect\"\nredirect_to = \"offsite\"",
            "27: asset \"config\": there is no repository \"offsite\" that accepts class \"secret\"",
        ),
        (
            "config",
            several.as_str(),
            "26: asset \"config\": several repositories accept class \"secret\": keysafe, second",
        ),
        (
            "config",
            "on_secret = \"redirect\"\n[asset.config-secrets]\nsource = \"files\"\nclass = \"secret\"\npaths = [\"/x\"]",
            "26: asset \"config\": what is redirected becomes the asset \"config-secrets\", and there is one already",
        ),
        (
            "log",
            "on_secret = \"redirect\"",
            "26: asset \"config\": a log cannot be redirected",
        ),
        (
            "secret",
            "on_secret = \"refuse\"",
            "26: asset \"config\": \"on_secret\" has no effect in an asset of class \"secret\"",
        ),
        (
            "database",
            "on_secret = \"refuse\"",
            "26: asset \"config\": \"on_secret\" has no effect in an asset of class \"database\"",
        ),
    ] {
        assert_eq!(
            faults(&with(class, &format!("{lines}\n"))),
            [fault],
            "{lines}"
        );
    }
    let none =
        with("config", "on_secret = \"redirect\"\n").replace("[\"key\", \"secret\"]", "[\"key\"]");
    assert_eq!(
        faults(&none),
        [
            "26: asset \"config\": no repository accepts class \"secret\", so there is nowhere to redirect to"
        ]
    );
    let name = "c".repeat(60);
    let long = with("config", "on_secret = \"redirect\"\n")
        .replace("asset.config", &format!("asset.{name}"));
    assert_eq!(faults(&long).len(), 1, "{:?}", faults(&long));
    refused(
        "path = ",
        "on_secret = \"refuse\"\npath = ",
        16,
        "asset \"database\": unknown key \"on_secret\"",
    );
}
