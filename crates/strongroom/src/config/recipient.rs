//! Recipients: the public keys that backups are sealed to.

use age::plugin::{RecipientPluginV1, ResolveError};
use strongroom_core::format::seal::BoxedRecipient;

/// What the placeholders of the template begin with.
pub(super) const PLACEHOLDER: &str = "age1REPLACE";

/// The kinds of recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum RecipientKind {
    /// X25519, `age1...`.
    X25519,
    /// P-256 in hardware, `age1tag1...`.
    Tag,
    /// ML-KEM-768 and P-256 in hardware, `age1tagpq1...`.
    TagPostQuantum,
    /// One that the program `age-plugin-NAME` seals to.
    Plugin(String),
}

/// Why a text is not a recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RecipientError {
    /// Nothing there.
    #[error("an empty recipient")]
    Empty,
    /// The template was not filled in.
    #[error("the recipient is still the placeholder of the template")]
    Placeholder,
    /// The private half; it is not quoted.
    #[error("this is an identity, the private half, not a recipient")]
    Identity,
    /// An SSH key.
    #[error("SSH keys are not recipients here")]
    Ssh,
    /// Not well-formed.
    #[error("not a recipient: {why}")]
    Malformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The program of a plugin recipient is missing.
    #[error("the program {program} that seals to this recipient was not found")]
    PluginMissing {
        /// `age-plugin-NAME`.
        program: String,
    },
}

impl RecipientError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Identity => {
                "Take it out of the file and consider it known; make a new one with `strongroom identity new`, keep it away from this host, and put its recipient (age1...) here."
            }
            Self::PluginMissing { .. } => {
                "Install the plugin so that it is in the PATH of the account that takes the backups."
            }
            Self::Malformed { .. } => {
                "Copy the whole recipient again: it begins with age1 and has a checksum against typing errors."
            }
            Self::Empty | Self::Placeholder | Self::Ssh => {
                "Put the recipient (age1...) here that `strongroom identity new --out FILE` prints."
            }
        }
    }
}

/// Tells what kind of recipient a text is, without looking for programs; also gives its canonical spelling.
pub(crate) fn check_recipient(text: &str) -> Result<(RecipientKind, String), RecipientError> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    if text.is_empty() {
        return Err(RecipientError::Empty);
    }
    if text.starts_with(PLACEHOLDER) || text.ends_with("...") {
        return Err(RecipientError::Placeholder);
    }
    if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("AGE-PLUGIN-") {
        return Err(RecipientError::Identity);
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return Err(RecipientError::Ssh);
    }
    if !upper.starts_with("AGE1") {
        return Err(RecipientError::Malformed {
            why: "it does not begin with age1",
        });
    }
    // The spelling in capitals is the same recipient; plugins know the small one only.
    let text = if text == upper {
        text.to_ascii_lowercase()
    } else {
        text.to_owned()
    };
    if text.parse::<age::x25519::Recipient>().is_ok() {
        return Ok((RecipientKind::X25519, text));
    }
    let plugin =
        text.parse::<age::plugin::Recipient>()
            .map_err(|why| RecipientError::Malformed {
                why: match why {
                    "invalid Bech32 encoding" => "its checksum is wrong, or a part is missing",
                    _ => "no kind of recipient is spelled like this",
                },
            })?;
    let kind = match plugin.plugin() {
        "tag" => text
            .parse::<age::tag::Recipient>()
            .map(|_| RecipientKind::Tag)
            .map_err(|why| RecipientError::Malformed { why })?,
        "tagpq" => text
            .parse::<age::tagpq::Recipient>()
            .map(|_| RecipientKind::TagPostQuantum)
            .map_err(|why| RecipientError::Malformed { why })?,
        name => RecipientKind::Plugin(name.to_owned()),
    };
    Ok((kind, text))
}

/// Reads a recipient, ready to seal to.
pub(crate) fn parse_recipient(text: &str) -> Result<BoxedRecipient, RecipientError> {
    let (kind, text) = check_recipient(text)?;
    let malformed = |why| RecipientError::Malformed { why };
    Ok(match kind {
        RecipientKind::X25519 => {
            Box::new(text.parse::<age::x25519::Recipient>().map_err(malformed)?)
        }
        RecipientKind::Tag => Box::new(text.parse::<age::tag::Recipient>().map_err(malformed)?),
        RecipientKind::TagPostQuantum => {
            Box::new(text.parse::<age::tagpq::Recipient>().map_err(malformed)?)
        }
        RecipientKind::Plugin(name) => {
            let recipient = text.parse::<age::plugin::Recipient>().map_err(malformed)?;
            // Nobody sits at a host that takes backups: a plugin that asks gets no answer.
            RecipientPluginV1::new(&name, &[recipient], &[], age::NoCallbacks)
                .map(Box::new)
                .map_err(|error| match error {
                    ResolveError::MissingPlugin { binary_name } => RecipientError::PluginMissing {
                        program: binary_name,
                    },
                    _ => malformed("the name of its plugin is not valid"),
                })?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X25519: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
    const TAG: &str = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";

    #[test]
    fn native_recipients_are_read_in_both_spellings() {
        let (kind, text) = check_recipient(X25519).expect("valid");
        assert_eq!((kind, text.as_str()), (RecipientKind::X25519, X25519));
        let capitals = X25519.to_uppercase();
        assert_eq!(check_recipient(&capitals).expect("valid").1, X25519);
        assert!(parse_recipient(X25519).is_ok());
        assert_eq!(check_recipient(TAG).expect("valid").0, RecipientKind::Tag);
        assert!(parse_recipient(TAG).is_ok());
    }

    #[test]
    fn post_quantum_recipients_are_read() {
        let text = include_str!("../../tests/data/age1tagpq.txt").trim();
        let (kind, again) = check_recipient(text).expect("valid");
        assert_eq!(
            (kind, again.as_str()),
            (RecipientKind::TagPostQuantum, text)
        );
        assert!(parse_recipient(text).is_ok());
    }

    #[test]
    fn a_plugin_recipient_is_valid_but_needs_its_program() {
        let text = plugin_recipient();
        let (kind, _) = check_recipient(&text).expect("valid");
        assert_eq!(kind, RecipientKind::Plugin("nowhere".into()));
        let error = parse_recipient(&text).err().expect("no such program");
        assert!(error.to_string().contains("age-plugin-nowhere"), "{error}");
    }

    #[test]
    fn what_is_no_recipient_is_refused_and_no_secret_is_shown() {
        let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        for (text, expected) in [
            ("", "empty"),
            ("age1REPLACE-THIS", "placeholder"),
            ("age1...", "placeholder"),
            (secret, "private half"),
            (&secret.to_lowercase(), "private half"),
            ("ssh-ed25519 AAAA", "SSH"),
            ("hello", "does not begin with age1"),
            (&X25519[..60], "checksum"),
            (&X25519.replace('7', "8"), "checksum"),
        ] {
            let error = check_recipient(text).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert!(!error.to_string().contains("1GFPYY"), "{error}");
            assert!(error.hint().ends_with('.'));
        }
    }

    /// A valid recipient of a plugin that nobody has.
    fn plugin_recipient() -> String {
        bech32("age1nowhere", &[1, 2, 3, 4, 5, 6, 7, 8])
    }

    /// BIP 173, for values of five bits.
    fn bech32(prefix: &str, values: &[u8]) -> String {
        const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        const GENERATOR: [u32; 5] = [
            0x3b6a_57b2,
            0x2650_8e6d,
            0x1ea1_19fa,
            0x3d42_33dd,
            0x2a14_62b3,
        ];
        let step = |checksum: u32, value: u8| {
            let top = checksum >> 25;
            let next = ((checksum & 0x01ff_ffff) << 5) ^ u32::from(value);
            (0..5)
                .filter(|bit| (top >> bit) & 1 == 1)
                .fold(next, |sum, bit| sum ^ GENERATOR[bit])
        };
        let high = prefix.bytes().map(|byte| byte >> 5);
        let low = prefix.bytes().map(|byte| byte & 31);
        let all = high.chain([0]).chain(low).chain(values.iter().copied());
        let checksum = all.chain([0; 6]).fold(1, step) ^ 1;
        let check = (0..6).map(|index| u8::try_from((checksum >> (5 * (5 - index))) & 31));
        let letters = values
            .iter()
            .copied()
            .chain(check.map(|value| value.expect("5 bits")));
        let letters = letters.map(|value| char::from(LETTERS[usize::from(value)]));
        format!("{prefix}1{}", letters.collect::<String>())
    }
}
