//! Sealing to age recipients and opening with age identities.

use std::io::{Read, Write};

use age::secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::FormatError;

/// Someone to seal to: an X25519 recipient, a tagged (hardware, also post-quantum) one, or a plugin's.
pub type BoxedRecipient = Box<dyn age::Recipient + Send + Sync>;
/// Something that opens what was sealed.
pub type BoxedIdentity = Box<dyn age::Identity + Send + Sync>;

/// The public half of an epoch; kept by the writer, stored nowhere in clear.
#[derive(Clone)]
pub struct EpochRecipient(age::x25519::Recipient);

impl EpochRecipient {
    /// Reads the `age1...` form.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        text.parse()
            .map(Self)
            .map_err(|_| FormatError::damaged("epoch recipient", "not an X25519 recipient"))
    }

    /// The `age1...` form.
    pub fn to_text(&self) -> String {
        self.0.to_string()
    }

    /// Begins an age file for this epoch.
    pub fn seal<W: Write>(&self, output: W) -> Result<age::stream::StreamWriter<W>, FormatError> {
        seal(std::iter::once(&self.0 as &dyn age::Recipient), output)
    }
}

/// The private half of an epoch.
pub struct EpochIdentity(age::x25519::Identity);

impl EpochIdentity {
    /// Makes a new one.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The public half.
    pub fn recipient(&self) -> EpochRecipient {
        EpochRecipient(self.0.to_public())
    }

    /// Seals the identity file to the recipients of a repository.
    pub fn seal_to(&self, recipients: &[BoxedRecipient]) -> Result<Vec<u8>, FormatError> {
        let text = self.0.to_string();
        let mut sealed = Vec::new();
        let recipients = recipients
            .iter()
            .map(|recipient| &**recipient as &dyn age::Recipient);
        let mut writer = seal(recipients, &mut sealed)?;
        let write = FormatError::io("seal the epoch identity");
        writer
            .write_all(b"# The identity of a Strongroom epoch\n")
            .and_then(|()| writer.write_all(text.expose_secret().as_bytes()))
            .and_then(|()| writer.write_all(b"\n"))
            .and_then(|()| writer.finish())
            .map_err(write)?;
        Ok(sealed)
    }

    /// Opens a sealed identity file with a recipient's identity; one that refuses keeps no other from being tried.
    pub fn open(sealed: &[u8], identities: &[BoxedIdentity]) -> Result<Self, FormatError> {
        const WHAT: &str = "epoch identity";
        let (mut opened, mut refused) = (None, None);
        for identity in identities {
            let identity = std::iter::once(&**identity as &dyn age::Identity);
            match open(WHAT, sealed, identity) {
                Err(FormatError::WrongIdentity { .. }) => {}
                Err(error @ FormatError::IdentityRefused { .. }) => {
                    refused.get_or_insert(error);
                }
                found => {
                    opened = Some(found?);
                    break;
                }
            }
        }
        let Some(opened) = opened else {
            return Err(refused.unwrap_or(FormatError::WrongIdentity { what: WHAT }));
        };
        let mut text = Zeroizing::new(String::new());
        opened
            .take(super::limits::EPOCH_MAX as u64)
            .read_to_string(&mut text)
            .map_err(|error| FormatError::damaged(WHAT, error.to_string()))?;
        text.lines()
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .and_then(|line| line.parse().ok())
            .map(Self)
            .ok_or_else(|| FormatError::damaged(WHAT, "no X25519 identity in it"))
    }

    /// Opens an artifact, a pack or a manifest of this epoch.
    pub fn open_object<R: Read>(
        &self,
        what: &'static str,
        sealed: R,
    ) -> Result<age::stream::StreamReader<R>, FormatError> {
        open(what, sealed, std::iter::once(&self.0 as &dyn age::Identity))
    }
}

fn seal<'a, W: Write>(
    recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    output: W,
) -> Result<age::stream::StreamWriter<W>, FormatError> {
    age::Encryptor::with_recipients(recipients)
        .map_err(|error| FormatError::Age {
            operation: "seal",
            source: Box::new(error),
        })?
        .wrap_output(output)
        .map_err(FormatError::io("begin an age file"))
}

fn open<'a, R: Read>(
    what: &'static str,
    sealed: R,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<age::stream::StreamReader<R>, FormatError> {
    use age::DecryptError;
    let sort = |error: DecryptError| match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => {
            FormatError::WrongIdentity { what }
        }
        DecryptError::InvalidHeader | DecryptError::InvalidMac | DecryptError::DecryptionFailed => {
            FormatError::damaged(what, error.to_string())
        }
        DecryptError::Io(error) => FormatError::damaged(what, error.to_string()),
        other => FormatError::Age {
            operation: "open",
            source: Box::new(other),
        },
    };
    age::Decryptor::new(sealed)
        .map_err(sort)?
        .decrypt(identities)
        .map_err(|error| match refusal(&error) {
            Some(why) => FormatError::IdentityRefused { what, why },
            None => sort(error),
        })
}

/// What a plugin says that does not open, or how it ended; `None` when `decrypt` failed for another reason.
pub fn refusal(error: &age::DecryptError) -> Option<String> {
    match error {
        age::DecryptError::Plugin(_) => Some(plugin_says(&error.to_string())),
        // The header was read before: this is the conversation with a plugin.
        age::DecryptError::Io(error) => Some(plugin_ended(error)),
        _ => None,
    }
}

/// What a plugin says, in one line that does nothing to a terminal.
pub fn plugin_says(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The age library marks where inserted text begins and ends, for scripts of both directions.
    let is_mark = |c: &char| c.is_control() || ('\u{2066}'..='\u{2069}').contains(c);
    let line = lines.join(" ");
    line.chars().filter(|c| !is_mark(c)).collect()
}

/// How a plugin ended; the advice for its author that follows is left out.
pub fn plugin_ended(error: &std::io::Error) -> String {
    // Which of the two it is depends on how quickly it ended.
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return "the plugin unexpectedly died.".to_owned();
    }
    plugin_says(error.to_string().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_opens_for_its_recipients_only() {
        let custodian = age::x25519::Identity::generate();
        let stranger = age::x25519::Identity::generate();
        let epoch = EpochIdentity::generate();
        let sealed = epoch
            .seal_to(&[Box::new(custodian.to_public())])
            .expect("seals");
        let opened = EpochIdentity::open(&sealed, &[Box::new(custodian)]).expect("opens");
        assert_eq!(opened.recipient().to_text(), epoch.recipient().to_text());
        let error = EpochIdentity::open(&sealed, &[Box::new(stranger)])
            .err()
            .expect("refused");
        assert!(
            matches!(error, FormatError::WrongIdentity { .. }),
            "{error}"
        );
    }
}
