//! Java keystores (JKS and JCEKS): what is in them, by name. Their keys stay closed: Sun's own encryption is not read here.
//!
//! The layout is that of `sun.security.provider.JavaKeyStore` and `com.sun.crypto.provider.JceKeyStore`.

/// How many entries are listed.
const ENTRIES_MAX: usize = 1000;

/// A keystore, listed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keystore {
    /// `JKS` or `JCEKS`.
    pub(crate) format: &'static str,
    /// Its entries, as far as they could be read.
    pub(crate) entries: Vec<Entry>,
    /// How many it says that it has.
    pub(crate) count: u32,
    /// Whether all were read.
    pub(crate) is_whole: bool,
    /// The certificates in it, in DER.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// An entry of a keystore.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) alias: String,
    /// Whether it is a private key with its chain, and not only a certificate.
    pub(crate) is_key: bool,
}

/// Whether a file is a keystore by its first bytes.
pub(super) fn is_keystore(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

fn format(bytes: &[u8]) -> Option<&'static str> {
    match bytes.first_chunk()? {
        [0xfe, 0xed, 0xfe, 0xed] => Some("JKS"),
        [0xce, 0xce, 0xce, 0xce] => Some("JCEKS"),
        _ => None,
    }
}

/// Lists a keystore.
pub(super) fn list(bytes: &[u8]) -> Option<Keystore> {
    let format = format(bytes)?;
    let mut reader = Bytes(&bytes[4..]);
    let version = reader.u32()?;
    let count = reader.u32()?;
    let mut keystore = Keystore {
        format,
        entries: Vec::new(),
        count,
        is_whole: false,
        certificates: Vec::new(),
    };
    keystore.is_whole = keystore.read(&mut reader, version).is_some();
    Some(keystore)
}

impl Keystore {
    /// Reads the entries; nothing when they end too early, or cannot be skipped.
    fn read(&mut self, reader: &mut Bytes<'_>, version: u32) -> Option<()> {
        for _ in 0..self.count {
            if self.entries.len() == ENTRIES_MAX {
                return None;
            }
            let tag = reader.u32()?;
            let alias = String::from_utf8_lossy(reader.short()?).into_owned();
            reader.take(8)?;
            let certificates = match tag {
                1 => {
                    reader.long()?;
                    reader.u32()?
                }
                2 => 1,
                // A secret key is a serialized object of Java, which says nowhere how long it is.
                _ => return None,
            };
            for _ in 0..certificates {
                if version != 1 {
                    reader.short()?;
                }
                self.certificates.push(reader.long()?.to_vec());
            }
            self.entries.push(Entry {
                alias,
                is_key: tag == 1,
            });
        }
        // The digest of the whole, under the password: SHA-1.
        (reader.0.len() == 20).then_some(())
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*taken))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        self.take(usize::from(u16::from_be_bytes(*length)))
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}
