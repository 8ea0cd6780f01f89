//! New identities.

use std::io::Write as _;
use std::path::Path;

use age::armor::{ArmoredWriter, Format};
use age::secrecy::{ExposeSecret as _, SecretString};
use strongroom_core::clock::whole_seconds;
use strongroom_core::private_file;
use zeroize::Zeroizing;

use super::IdentityError;

/// The logarithm of scrypt's N for new identities: 128 MiB and a fraction of a second to open one. What the
/// library would choose for a second of work on a fast machine takes 512 MiB, more than a whole restore.
const WORK_FACTOR: u8 = 17;

/// Makes an X25519 identity, writes its file and returns its recipient.
///
/// The file is 0600 from its first byte and never replaces another. With a passphrase it is an armored age
/// file that `age -d -i` takes as it is; scrypt's N is `2^work_factor`, [`WORK_FACTOR`] unless said.
pub(crate) fn new_identity(
    out: &Path,
    passphrase: Option<SecretString>,
    now: jiff::Timestamp,
    work_factor: Option<u8>,
) -> Result<String, IdentityError> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let (secret, now) = (identity.to_string(), whole_seconds(now));
    let text = Zeroizing::new(format!(
        "# created: {now}\n# public key: {recipient}\n{}\n",
        secret.expose_secret()
    ));
    match passphrase {
        None => write(out, text.as_bytes())?,
        Some(passphrase) => {
            let mut sealer = age::scrypt::Recipient::new(passphrase);
            sealer.set_work_factor(work_factor.unwrap_or(WORK_FACTOR));
            write(out, &seal(&sealer, text.as_bytes(), out)?)?;
        }
    }
    Ok(recipient)
}

fn seal(
    sealer: &age::scrypt::Recipient,
    text: &[u8],
    out: &Path,
) -> Result<Vec<u8>, IdentityError> {
    let sealer = std::iter::once(sealer as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(sealer).map_err(IdentityError::Seal)?;
    ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)
        .and_then(|armor| encryptor.wrap_output(armor))
        .and_then(|mut writer| {
            writer.write_all(text)?;
            writer.finish()?.finish()
        })
        .map_err(IdentityError::io("seal the identity for", out))
}

/// Writes the file durably; what could not be written whole is taken away again.
fn write(out: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let io = || IdentityError::io("write the identity file", out);
    let mut file = match private_file::create_new(out) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(IdentityError::Exists {
                path: out.to_owned(),
            });
        }
        Err(error) => return Err(io()(error)),
    };
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| private_file::sync_parent(out));
    written.map_err(|error| {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(out);
        io()(error)
    })
}
