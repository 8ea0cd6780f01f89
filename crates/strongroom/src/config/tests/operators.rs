//! Who must approve, and every refusal.

use super::*;

const ALICE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDSZiVjuH7dEVPgLUyEbG7rz16GVKgi7fcnPiD2EnQIG";
const BOB: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM/JkNgALhmpBhthMX+8f7/q11oZwq3mobMy7S4dSSdB";

/// The example with these lines in `[deployment]`, and more at its end.
fn with(rule: &str, more: &str) -> String {
    let name = "name = \"example-ca\"\n";
    example().replace(name, &format!("{name}{rule}")) + more
}

fn operator(name: &str, key: &str) -> String {
    format!("[operator.{name}]\nkey = \"{key}\"\n")
}

#[test]
fn operators_and_their_number_are_read() {
    assert_eq!(parse(&example()).expect("valid").approvals, None);
    let two = operator("alice", &format!("{ALICE} alice@laptop")) + &operator("bob", BOB);
    let config = parse(&with("approvals = 2\n", &two)).expect("valid");
    let rule = config.approvals.expect("there");
    assert_eq!((rule.needed, rule.plan_hours), (2, 24));
    let names: Vec<&str> = rule.operators.keys().map(String::as_str).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(
        rule.operators["alice"],
        OperatorKey::parse(ALICE).expect("a key")
    );
    let config = parse(&with("approvals = 1\nplan_hours = 3\n", &two)).expect("valid");
    assert_eq!(config.approvals.expect("there").plan_hours, 3);
}

#[test]
fn what_approves_nothing_is_refused() {
    let alice = operator("alice", ALICE);
    let cases = [
        (
            "",
            &*alice,
            "22: operator \"alice\": nothing asks for this operator's approval",
        ),
        (
            "approvals = 0\n",
            &*alice,
            "3: [deployment]: \"approvals\" is 0",
        ),
        (
            "approvals = -1\n",
            &*alice,
            "3: [deployment]: \"approvals\" is -1",
        ),
        (
            "approvals = \"2\"\n",
            "",
            "3: [deployment]: \"approvals\" must be an integer, not a string",
        ),
        (
            "approvals = 1\n",
            "",
            "3: [deployment]: \"approvals\" is 1, and there is no operator",
        ),
        (
            "approvals = 2\n",
            &*alice,
            "3: [deployment]: \"approvals\" is 2, and there is 1 operator",
        ),
        (
            "approvals = 1\nplan_hours = 721\n",
            &*alice,
            "4: [deployment]: \"plan_hours\" is 721",
        ),
        (
            "plan_hours = 2\n",
            "",
            "3: [deployment]: \"plan_hours\" without approvals",
        ),
    ];
    for (rule, more, fault) in cases {
        assert_eq!(faults(&with(rule, more)), [fault], "{rule}");
    }
    let two = alice + &operator("bob", &format!("{ALICE} bob@laptop"));
    assert_eq!(
        faults(&with("approvals = 2\n", &two)),
        ["26: operator \"bob\": the same key as operator \"alice\""]
    );
}

#[test]
fn what_is_no_key_is_refused_and_never_shown() {
    let secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    let private = format!("-----BEGIN OPENSSH PRIVATE KEY-----\\n{secret}");
    let cases = [
        (
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB",
            "\"key\" is of a kind that is not accepted",
        ),
        (
            "/home/alice/.ssh/id_ed25519.pub",
            "\"key\" is not the public key of OpenSSH",
        ),
        (&private, "\"key\" is a private key"),
    ];
    for (key, fault) in cases {
        let text = with("approvals = 1\n", &operator("alice", key));
        let found = faults(&text);
        assert_eq!(found, [format!("24: operator \"alice\": {fault}")]);
        let errors = parse(&text).expect_err("refused");
        let hints: Vec<&str> = errors.iter().filter_map(ConfigError::hint).collect();
        assert!(!format!("{found:?}{hints:?}").contains(secret));
    }
    let unknown = with("approvals = 1\n", "[operator.alice]\nkeys = \"x\"\n");
    assert_eq!(
        faults(&unknown),
        [
            "23: operator \"alice\": \"key\" is missing",
            "24: operator \"alice\": unknown key \"keys\""
        ]
    );
}
