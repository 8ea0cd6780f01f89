//! Shared access signatures and containers of Azurite, signed with its well-known key.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::clouds::{AZURE_ACCOUNT, AZURE_KEY};

const VERSION: &str = "2022-11-02";
/// Long after all tests.
const LATER: &str = "2999-01-01T00:00:00Z";

/// A signature for one container, with these permissions, until `expiry` (later when `None`).
pub fn of_container(container: &str, permissions: &str, expiry: Option<&str>) -> String {
    let expiry = expiry.unwrap_or(LATER);
    let resource = format!("/blob/{AZURE_ACCOUNT}/{container}");
    let text = format!("{permissions}\n\n{expiry}\n{resource}\n\n\n\n{VERSION}\nc\n\n\n\n\n\n\n");
    let signature = encoded(&sign(&text));
    format!(
        "sv={VERSION}&sr=c&sp={permissions}&se={}&sig={signature}",
        encoded(expiry)
    )
}

/// Makes a container.
pub fn create_container(endpoint: &str, container: &str) {
    let text = format!("{AZURE_ACCOUNT}\nc\nb\nc\n\n{LATER}\n\n\n{VERSION}\n\n");
    let signature = encoded(&sign(&text));
    let rest = endpoint.strip_prefix("http://").expect("a plain URL");
    let (host, account) = rest.split_once('/').expect("the account in the path");
    let mut connection = TcpStream::connect(host).expect("Azurite answers");
    write!(
        connection,
        "PUT /{account}/{container}?restype=container&sv={VERSION}&ss=b&srt=c&sp=c&se={}&sig={signature} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\nx-ms-version: {VERSION}\r\n\r\n",
        encoded(LATER)
    )
    .expect("sends");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("answers");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

fn sign(text: &str) -> String {
    let key = STANDARD.decode(AZURE_KEY).expect("a key");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}
