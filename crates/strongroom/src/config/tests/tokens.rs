//! Assets in PKCS#11 tokens: their faults, and that a token belongs to one asset.

use strongroom_adapters::source::pkcs11::Export;

use super::*;

/// The beginning of an asset without a fault.
const TOKEN: &str = "source = \"pkcs11\"\nclass = \"key\"\nmodule = \"m.so\"\n";

/// Lines after [`TOKEN`], and the line and the message of the fault; the asset begins at line 17.
const FAULTS: &[(&str, usize, &str)] = &[
    ("export = \"inventory\"", 17, "no token is named"),
    ("token = \"ca\"", 17, "\"export\" is missing"),
    (
        "token = \"ca\"\nexport = \"all\"",
        22,
        "unknown export \"all\"",
    ),
    (
        "token = \"ca\"\nuri = \"pkcs11:token=ca\"\nexport = \"inventory\"",
        21,
        "\"uri\" and \"token\" or \"serial\" both say which token is meant",
    ),
    (
        "token = \"pkcs11:token=ca\"\nexport = \"inventory\"",
        21,
        "\"token\" is the label of the token, and this is a URI",
    ),
    (
        "uri = \"pkcs11:token=ca;pin-value=planted\"\nexport = \"inventory\"",
        21,
        "\"uri\": it holds a PIN, which belongs into a file",
    ),
    (
        "uri = \"pkcs11:object=planted\"\nexport = \"inventory\"",
        21,
        "\"uri\": \"object\" does not tell which token is meant",
    ),
    (
        "token = \"ca\"\nexport = \"wrapped\"\nwrapping_key = \"k\"",
        17,
        "\"wrapping_key_custody\" is missing",
    ),
    (
        "token = \"ca\"\nexport = \"wrapped\"\nwrapping_key_custody = \"c\"",
        17,
        "\"wrapping_key\" is missing",
    ),
    (
        "token = \"ca\"\nexport = \"softhsm\"",
        17,
        "\"softhsm_tokens\" is missing",
    ),
    (
        "token = \"ca\"\nexport = \"inventory\"\nstay_in_token = [\"k\"]",
        23,
        "\"stay_in_token\" does nothing with export = \"inventory\"",
    ),
    (
        "token = \"ca\"\nexport = \"inventory\"\nvendor_backup = [\"a\"]\nvendor_backup_file = \"f\"",
        24,
        "\"vendor_backup\" and \"vendor_backup_file\" both say where the vendor's backup is",
    ),
    (
        "token = \"ca\"\nexport = \"inventory\"\nvendor_backup_max_age = 5",
        23,
        "\"vendor_backup_max_age\" needs a \"vendor_backup_file\"",
    ),
    (
        "token = \"ca\"\nexport = \"inventory\"\nvendor_backup_file = \"f\"\nvendor_backup_max_age = 0",
        24,
        "\"vendor_backup_max_age\" is out of bounds",
    ),
    (
        "token = \"ca\"\nexport = \"inventory\"\npin = \"planted\"",
        23,
        "unknown key \"pin\"",
    ),
];

const OWN: &str = "source = \"files\"\nclass = \"key\"\npaths = [\"ca.key.pem\"]\ncertificate = \"../example/ca.cert.pem\"";

#[test]
fn single_faults_of_tokens() {
    for &(lines, line, message) in FAULTS {
        let to = format!("{TOKEN}{lines}");
        let hint = refused(OWN, &to, line, &format!("asset \"ca-key\": {message}"));
        assert!(
            !hint.is_empty() && !hint.contains("planted"),
            "{lines}: {hint}"
        );
    }
    let other = TOKEN.replace("\"key\"", "\"secret\"");
    let to = format!("{other}token = \"ca\"\nexport = \"inventory\"");
    let message = "asset \"ca-key\": class is \"secret\", and a token has keys";
    refused(OWN, &to, 19, message);
    let missing = "source = \"pkcs11\"\nclass = \"key\"\ntoken = \"ca\"\nexport = \"inventory\"";
    refused(OWN, missing, 17, "asset \"ca-key\": \"module\" is missing");
}

#[test]
fn a_token_is_read_with_paths_from_the_directory_of_the_file() {
    let to = format!(
        "{TOKEN}serial = \"12\"\npin_file = \"hsm.pin\"\nexport = \"softhsm\"\nsofthsm_tokens = \"/var/lib/softhsm/tokens\""
    );
    let config = parse(&example().replace(OWN, &to)).expect("valid");
    let asset = config.asset("ca-key").expect("there");
    assert_eq!(asset.source(), "pkcs11");
    let Settings::Pkcs11 { source, pin_file } = &asset.settings else {
        panic!("{asset:?}");
    };
    assert_eq!(source.access.module, Path::new("/etc/s/m.so"));
    assert_eq!(source.access.token.to_string(), "pkcs11:serial=12");
    assert_eq!(pin_file.as_deref(), Some(Path::new("/etc/s/hsm.pin")));
    let tokens = "/var/lib/softhsm/tokens".into();
    assert_eq!(source.export, Export::SoftHsm { tokens });
}

#[test]
fn a_token_belongs_to_one_asset() {
    let first = format!("{TOKEN}token = \"ca\"\nexport = \"inventory\"");
    let with = |other: &str| {
        parse(&format!(
            "{}[asset.other]\n{other}\n",
            example().replace(OWN, &first)
        ))
    };
    let same = format!("{TOKEN}uri = \"pkcs11:token=ca\"\nexport = \"inventory\"");
    let errors = with(&same).expect_err("refused").to_string();
    let message = "asset \"other\": the same token as asset \"ca-key\"";
    assert!(errors.contains(message), "{errors}");
    let other = format!("{TOKEN}token = \"va\"\nexport = \"inventory\"");
    assert!(with(&other).is_ok());
}
