//! The manifest: what a backup holds, as JSON Lines, written and read line by line
//! (docs/format.md, section 7).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::envelope::Status;
use super::{Digest, FormatError, Label, RepositoryId, limits};
use crate::source::Class;

const WHAT: &str = "manifest";
/// How many runs go into one line.
const RUNS_A_LINE: usize = 4096;

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// The first line.
    Manifest(Header),
    /// Begins an asset.
    Asset(Asset),
    /// Begins a stream of the asset.
    Stream(Stream),
    /// Numbers a pack.
    Pack {
        /// The pack's digest.
        object: Digest,
    },
    /// Runs of the stream before it.
    Runs {
        /// `[pack, frame, offset, length]` each.
        runs: Vec<Run>,
    },
    /// Ends an asset.
    Result(AssetResult),
    /// The last line.
    End {
        /// How many assets there were.
        assets: u64,
        /// How many streams.
        streams: u64,
        /// How many runs.
        runs: u64,
    },
}

/// The first line of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the backup.
    pub format: u32,
    /// The installation.
    pub deployment: String,
    /// The backup's name.
    pub label: Label,
    /// The repository it was written for.
    pub repository: RepositoryId,
    /// The program that wrote it.
    pub tool: String,
}

/// The line that begins an asset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// The asset's name in the configuration.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The kind of source that read it.
    pub source: String,
    /// The asset's part of the configuration.
    pub settings: serde_json::Value,
}

/// The line that ends an asset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetResult {
    /// The asset's name, once more.
    pub name: String,
    /// Whether it was captured whole.
    pub status: Status,
    /// What was found out about it while it was captured.
    pub facts: serde_json::Value,
    /// Why it is incomplete.
    pub problems: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

/// What kind of thing a stream restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier file.
    Hardlink,
    /// A database file.
    Database,
    /// A part of a logical dump; the first part of its path is the name of the database.
    Dump,
}

impl StreamKind {
    /// Whether streams of this kind have content of their own.
    pub const fn has_content(self) -> bool {
        matches!(self, Self::File | Self::Database | Self::Dump)
    }
}

/// The metadata of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// What it restores.
    pub kind: StreamKind,
    /// Where it was.
    #[serde(flatten, with = "path_field")]
    pub path: PathBuf,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The owner's name, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group's name, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, POSIX ACLs among them.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "xattr_field"
    )]
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The text of a symbolic link, or the first name of a hard-linked file.
    #[serde(flatten, with = "target_field")]
    pub target: Option<PathBuf>,
    /// The length of the content in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The digest of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Where the content is.
    #[serde(flatten)]
    pub content: Option<Content>,
}

/// Where the content of a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "content", rename_all = "lowercase")]
pub enum Content {
    /// Whole in one object.
    Artifact {
        /// The object's digest.
        object: Digest,
    },
    /// In packs; the runs follow.
    Packed,
}

/// A piece of a stream: `length` bytes at `offset` in the frame that begins at `frame` of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i32, u32, u32, u64)", into = "(i32, u32, u32, u64)")]
pub struct Run {
    /// The number of the pack, or -1 for a hole.
    pub pack: i32,
    /// Where the frame begins in the plaintext of the pack.
    pub frame: u32,
    /// Where the piece begins in the content of the frame.
    pub offset: u32,
    /// How long it is.
    pub length: u64,
}

impl Run {
    /// The pack number of a hole.
    pub const HOLE: i32 = -1;

    /// The pack, unless the run is a hole.
    pub fn pack_index(&self) -> Option<usize> {
        usize::try_from(self.pack).ok()
    }
}

impl From<(i32, u32, u32, u64)> for Run {
    fn from((pack, frame, offset, length): (i32, u32, u32, u64)) -> Self {
        Self {
            pack,
            frame,
            offset,
            length,
        }
    }
}

impl From<Run> for (i32, u32, u32, u64) {
    fn from(run: Run) -> Self {
        (run.pack, run.frame, run.offset, run.length)
    }
}

/// Writes the lines of a manifest and keeps the counts.
pub struct ManifestWriter<W: Write> {
    output: W,
    packs: u64,
    assets: u64,
    streams: u64,
    runs: u64,
}

impl<W: Write> ManifestWriter<W> {
    /// Begins a manifest.
    pub fn new(output: W, header: Header) -> Result<Self, FormatError> {
        let mut writer = Self {
            output,
            packs: 0,
            assets: 0,
            streams: 0,
            runs: 0,
        };
        writer.line(&Line::Manifest(header))?;
        Ok(writer)
    }

    /// Begins an asset.
    pub fn asset(&mut self, asset: Asset) -> Result<(), FormatError> {
        self.assets += 1;
        self.line(&Line::Asset(asset))
    }

    /// Begins a stream.
    pub fn stream(&mut self, stream: Stream) -> Result<(), FormatError> {
        self.streams += 1;
        self.line(&Line::Stream(stream))
    }

    /// Numbers a pack.
    pub fn pack(&mut self, object: Digest) -> Result<i32, FormatError> {
        let number = i32::try_from(self.packs)
            .map_err(|_| FormatError::damaged(WHAT, "more than 2^31 - 1 packs"))?;
        self.packs += 1;
        self.line(&Line::Pack { object })?;
        Ok(number)
    }

    /// Adds runs to the stream.
    pub fn runs(&mut self, runs: &[Run]) -> Result<(), FormatError> {
        self.runs += runs.len() as u64;
        for runs in runs.chunks(RUNS_A_LINE) {
            self.line(&Line::Runs {
                runs: runs.to_vec(),
            })?;
        }
        Ok(())
    }

    /// Ends an asset.
    pub fn result(&mut self, result: AssetResult) -> Result<(), FormatError> {
        self.line(&Line::Result(result))
    }

    /// Ends the manifest and hands the output back.
    pub fn finish(mut self) -> Result<W, FormatError> {
        let (assets, streams, runs) = (self.assets, self.streams, self.runs);
        self.line(&Line::End {
            assets,
            streams,
            runs,
        })?;
        Ok(self.output)
    }

    fn line(&mut self, line: &Line) -> Result<(), FormatError> {
        let mut text = serde_json::to_vec(line).expect("a line of plain values serialises");
        if text.len() >= limits::MANIFEST_LINE_MAX {
            return Err(FormatError::damaged(
                WHAT,
                "a line would be longer than 1 MiB",
            ));
        }
        text.push(b'\n');
        self.output
            .write_all(&text)
            .map_err(FormatError::io("write the manifest"))
    }
}

/// Reads the lines of a manifest, checks each and the order of all.
pub struct ManifestReader<R: BufRead> {
    input: R,
    header: Header,
    place: Place,
    packs: usize,
    counts: (u64, u64, u64),
    /// What the runs of the current packed stream must still add up to.
    outstanding: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Between,
    InAsset,
    Ended,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads the first line.
    pub fn new(mut input: R) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let Some(text) = read_line(&mut input)? else {
            return Err(FormatError::damaged(WHAT, "empty"));
        };
        let wrong = |error: serde_json::Error| FormatError::damaged(WHAT, error.to_string());
        let version: Version = serde_json::from_slice(&text).map_err(wrong)?;
        if version.format != u64::from(super::VERSION) {
            return Err(FormatError::NewerVersion {
                what: WHAT,
                found: version.format,
            });
        }
        match serde_json::from_slice(&text).map_err(wrong)? {
            Line::Manifest(header) => Ok(Self {
                input,
                header,
                place: Place::Between,
                packs: 0,
                counts: (0, 0, 0),
                outstanding: 0,
            }),
            _ => Err(FormatError::damaged(
                WHAT,
                "it does not begin with a manifest line",
            )),
        }
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next line, checked; `None` after the end line.
    pub fn next_line(&mut self) -> Result<Option<Line>, FormatError> {
        let damaged = |why: &str| FormatError::damaged(WHAT, why);
        let text = read_line(&mut self.input)?;
        let Some(text) = text else {
            return if self.place == Place::Ended {
                Ok(None)
            } else {
                Err(damaged("it stops before its end line"))
            };
        };
        if self.place == Place::Ended {
            return Err(damaged("lines after the end line"));
        }
        let line: Line = serde_json::from_slice(&text)
            .map_err(|error| FormatError::damaged(WHAT, error.to_string()))?;
        if self.outstanding != 0 && !matches!(line, Line::Runs { .. } | Line::Pack { .. }) {
            return Err(damaged("the runs of a stream do not add up to its size"));
        }
        match (&line, self.place) {
            (Line::Asset(_), Place::Between) => {
                self.place = Place::InAsset;
                self.counts.0 += 1;
            }
            (Line::Stream(stream), Place::InAsset) => {
                check_stream(stream)?;
                self.counts.1 += 1;
                if stream.content == Some(Content::Packed) {
                    self.outstanding = stream.size.unwrap_or(0);
                }
            }
            (Line::Pack { .. }, Place::InAsset) => {
                self.packs += 1;
                if self.packs > limits::PACKS_MAX {
                    return Err(damaged("more than 2^31 - 1 packs"));
                }
            }
            (Line::Runs { runs }, Place::InAsset) => {
                for run in runs {
                    self.check_run(run)?;
                }
            }
            (Line::Result(_), Place::InAsset) => self.place = Place::Between,
            (
                Line::End {
                    assets,
                    streams,
                    runs,
                },
                Place::Between,
            ) => {
                if (*assets, *streams, *runs) != self.counts {
                    return Err(damaged("its counts do not agree with its lines"));
                }
                self.place = Place::Ended;
            }
            _ => return Err(damaged("a line where it may not stand")),
        }
        Ok(Some(line))
    }

    fn check_run(&mut self, run: &Run) -> Result<(), FormatError> {
        let damaged = |why: &str| Err(FormatError::damaged(WHAT, why));
        self.counts.2 += 1;
        if run.length == 0 || run.length > self.outstanding {
            return damaged("the runs of a stream do not add up to its size");
        }
        self.outstanding -= run.length;
        if let Some(pack) = run.pack_index() {
            if pack >= self.packs {
                return damaged("a run in a pack that was not numbered");
            }
            let end = u64::from(run.offset).saturating_add(run.length);
            if run.frame as usize >= limits::PACK_MAX || end > limits::FRAME_CONTENT_MAX as u64 {
                return damaged("a run outside the bounds of packs and frames");
            }
        } else if run.pack != Run::HOLE || run.frame != 0 || run.offset != 0 {
            return damaged("a run with a negative pack that is not a hole");
        }
        Ok(())
    }
}

/// Checks what a single stream line promises.
fn check_stream(stream: &Stream) -> Result<(), FormatError> {
    let damaged = |why: String| Err(FormatError::damaged(WHAT, why));
    if !is_plain_absolute(&stream.path) {
        return damaged(format!(
            "the path {:?} is not absolute and plain",
            stream.path
        ));
    }
    if stream.mode > 0o7777 || stream.mtime.1 >= 1_000_000_000 {
        return damaged(format!(
            "mode or time of {:?} is out of bounds",
            stream.path
        ));
    }
    let has_content = (
        stream.size.is_some(),
        stream.sha256.is_some(),
        stream.content.is_some(),
    );
    let content = stream.kind.has_content();
    if has_content != (content, content, content) {
        return damaged(format!(
            "{:?} has too much or too little content",
            stream.path
        ));
    }
    if stream.size.is_some_and(|size| size > limits::SIZE_MAX) {
        return damaged(format!("{:?} is larger than 2^63 - 1 bytes", stream.path));
    }
    let target = match stream.kind {
        StreamKind::Symlink => stream.target.as_ref().is_some_and(|target| {
            let bytes = target.as_os_str().as_bytes();
            !bytes.is_empty() && !bytes.contains(&0)
        }),
        StreamKind::Hardlink => stream.target.as_deref().is_some_and(is_plain_absolute),
        _ => stream.target.is_none(),
    };
    if target {
        Ok(())
    } else {
        damaged(format!("the target of {:?} is wrong", stream.path))
    }
}

/// Whether a path is absolute, without `.` and `..` parts and NUL.
pub fn is_plain_absolute(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    path.is_absolute()
        && !bytes.contains(&0)
        && bytes
            .split(|byte| *byte == b'/')
            .all(|part| part != b"." && part != b"..")
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, FormatError> {
    let mut line = Vec::new();
    input
        .take(limits::MANIFEST_LINE_MAX as u64)
        .read_until(b'\n', &mut line)
        .map_err(|error| FormatError::damaged(WHAT, error.to_string()))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() == Some(b'\n') {
        Ok(Some(line))
    } else {
        Err(FormatError::damaged(
            WHAT,
            "a line that is cut short or longer than 1 MiB",
        ))
    }
}

/// The two ways to write a path: as text, or as base64 where it is not UTF-8.
type WrittenPath = (Option<String>, Option<String>);

fn write_path(path: Option<&Path>) -> WrittenPath {
    let plain = path.and_then(Path::to_str).map(str::to_owned);
    let encoded = path
        .filter(|_| plain.is_none())
        .map(|path| BASE64.encode(path.as_os_str().as_bytes()));
    (plain, encoded)
}

fn read_path(written: WrittenPath) -> Result<Option<PathBuf>, &'static str> {
    match written {
        (None, None) => Ok(None),
        (Some(path), None) => Ok(Some(path.into())),
        (None, Some(encoded)) => BASE64
            .decode(encoded)
            .map(|bytes| Some(OsString::from_vec(bytes).into()))
            .map_err(|_| "a path is not base64"),
        (Some(_), Some(_)) => Err("a path is given twice"),
    }
}

mod path_field {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, read_path, write_path};

    #[derive(Serialize, Deserialize)]
    struct Fields {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path_base64: Option<String>,
    }

    #[expect(clippy::ptr_arg, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(path: &PathBuf, to: S) -> Result<S::Ok, S::Error> {
        let (path, path_base64) = write_path(Some(path));
        Fields { path, path_base64 }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        use serde::de::Error as _;
        let fields = Fields::deserialize(from)?;
        let path = read_path((fields.path, fields.path_base64)).map_err(D::Error::custom)?;
        path.ok_or_else(|| D::Error::missing_field("path"))
    }
}

mod target_field {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, read_path, write_path};

    #[derive(Serialize, Deserialize)]
    struct Fields {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_base64: Option<String>,
    }

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let (target, target_base64) = write_path(path.as_deref());
        Fields {
            target,
            target_base64,
        }
        .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        use serde::de::Error as _;
        let fields = Fields::deserialize(from)?;
        read_path((fields.target, fields.target_base64)).map_err(D::Error::custom)
    }
}

mod xattr_field {
    use super::{BASE64, BTreeMap, Deserialize, Deserializer, Serialize, Serializer};
    use base64::Engine as _;

    pub(super) fn serialize<S: Serializer>(
        xattrs: &BTreeMap<String, Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let encoded: BTreeMap<_, _> = xattrs
            .iter()
            .map(|(name, value)| (name, BASE64.encode(value)))
            .collect();
        encoded.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        use serde::de::Error as _;
        let encoded = BTreeMap::<String, String>::deserialize(from)?;
        encoded
            .into_iter()
            .map(|(name, value)| Ok((name, BASE64.decode(value).map_err(D::Error::custom)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: 1,
            deployment: "example-ca".into(),
            label: "20261120-153000Z-k3f9".parse().expect("a label"),
            repository: RepositoryId::from_bytes([3; 16]),
            tool: "strongroom".into(),
        }
    }

    fn file(path: PathBuf, content: Option<Content>) -> Stream {
        Stream {
            kind: StreamKind::File,
            path,
            mode: 0o600,
            uid: 0,
            gid: 0,
            user: Some("root".into()),
            group: None,
            mtime: (1, 2),
            xattrs: [("user.x".to_owned(), vec![0, 255])].into(),
            target: None,
            size: Some(10),
            sha256: Some(Digest::of(b"")),
            content,
        }
    }

    fn written() -> Vec<u8> {
        let mut writer = ManifestWriter::new(Vec::new(), header()).expect("writes");
        writer
            .asset(Asset {
                name: "log".into(),
                class: Class::Log,
                source: "files".into(),
                settings: serde_json::json!({}),
            })
            .expect("writes");
        let object = Digest::of(b"pack");
        let odd = PathBuf::from(OsString::from_vec(b"/a\n\xff".to_vec()));
        writer
            .stream(file(odd, Some(Content::Packed)))
            .expect("writes");
        assert_eq!(writer.pack(object).expect("writes"), 0);
        let run = Run {
            pack: 0,
            frame: 0,
            offset: 3,
            length: 8,
        };
        let hole = Run {
            pack: Run::HOLE,
            frame: 0,
            offset: 0,
            length: 2,
        };
        writer.runs(&[run, hole]).expect("writes");
        writer
            .stream(file("/b".into(), Some(Content::Artifact { object })))
            .expect("writes");
        writer
            .result(AssetResult {
                name: "log".into(),
                status: Status::Complete,
                facts: serde_json::json!({"files": 2}),
                problems: vec![],
                notes: vec![],
            })
            .expect("writes");
        writer.finish().expect("writes")
    }

    fn read(bytes: &[u8]) -> Result<Vec<Line>, FormatError> {
        let mut reader = ManifestReader::new(bytes)?;
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn lines_come_back() {
        let lines = read(&written()).expect("own manifest");
        assert_eq!(lines.len(), 7);
        let Line::Stream(stream) = &lines[1] else {
            panic!("a stream: {:?}", lines[1])
        };
        assert_eq!(stream.path.as_os_str().as_bytes(), b"/a\n\xff");
        assert_eq!(stream.xattrs["user.x"], [0, 255]);
    }

    #[test]
    fn every_missing_line_is_noticed() {
        let bytes = written();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        // The pack line is missed by its run, the result by the order, the rest by the counts.
        for missing in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(missing);
            assert!(read(&fewer.concat()).is_err(), "without line {missing}");
        }
        for cut in 1..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut to {cut}");
        }
    }

    #[test]
    fn climbing_and_relative_paths_are_refused() {
        for path in ["relative", "/a/../b", "/a/./b", "", "/a\0b"] {
            assert!(!is_plain_absolute(Path::new(path)), "{path:?}");
        }
        assert!(is_plain_absolute(Path::new("/a b/c\n")));
    }
}
