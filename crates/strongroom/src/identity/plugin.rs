//! Identities that live in hardware or elsewhere, reached through an `age-plugin-NAME` program.

use std::io::{self, BufRead as _, Write as _};

use age::Callbacks;
use age::plugin::{Identity, IdentityPluginV1, ResolveError};
use age::secrecy::SecretString;
use strongroom_core::format::seal::BoxedIdentity;

use super::IdentityError;

/// Finds the program of an identity.
pub(super) fn identity(identity: Identity, origin: &str) -> Result<BoxedIdentity, IdentityError> {
    let name = identity.plugin().to_owned();
    match IdentityPluginV1::new(&name, &[identity], Operator) {
        Ok(identity) => Ok(Box::new(identity)),
        Err(ResolveError::MissingPlugin { binary_name }) => Err(IdentityError::PluginMissing {
            origin: origin.to_owned(),
            program: binary_name,
        }),
        Err(_) => Err(IdentityError::NotAnIdentity {
            origin: origin.to_owned(),
            why: "the name of its plugin is not valid".into(),
        }),
    }
}

/// Whoever sits at the terminal: plugins ask for a touch or a PIN.
#[derive(Clone, Copy)]
struct Operator;

impl Callbacks for Operator {
    fn display_message(&self, message: &str) {
        // Nobody reads it where standard error is closed.
        let _ = writeln!(io::stderr(), "{message}");
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.map(|no| format!(", \"n\" for {no}")).unwrap_or_default();
        let answer = ask(&format!("{message} (\"y\" for {yes}{no}): "))?;
        Some(answer.eq_ignore_ascii_case("y"))
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        ask(&format!("{description}: "))
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        let text = rpassword::prompt_password(format!("{description}: ")).ok()?;
        Some(SecretString::from(text))
    }
}

fn ask(prompt: &str) -> Option<String> {
    if !io::IsTerminal::is_terminal(&io::stdin()) {
        return None;
    }
    let mut error = io::stderr();
    error.write_all(prompt.as_bytes()).ok()?;
    error.flush().ok()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}
