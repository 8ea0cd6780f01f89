//! Writes the seed corpora: `cargo +nightly run --example seeds`, from fuzz/.
//!
//! Sealed seeds differ from run to run, as age has it; all others come out the same.

#![allow(clippy::disallowed_methods, reason = "a generator of files")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use strongroom_core::format::envelope::{Envelope, EnvelopeAsset, EnvelopeEpoch, Scope, Status};
use strongroom_core::format::expiry::{ExpiredRanges, ExpiryRecord};
use strongroom_core::format::frame::FrameEncoder;
use strongroom_core::format::hold::Hold;
use strongroom_core::format::manifest::{
    Asset, AssetResult, Content, Header, ManifestWriter, Run, Stream, StreamKind,
};
use strongroom_core::format::name::ObjectName;
use strongroom_core::format::{Digest, EpochId, Label, RepositoryId};
use strongroom_core::source::Class;
use strongroom_fuzz::{
    DOCUMENT, DOCUMENT_DIGEST, ENVELOPE_KIND, EPOCH_RECIPIENT, PKCS8_PREFIX, SIGNER, base64,
    seal_to_custodian, seal_to_epoch,
};

fn main() {
    dsse();
    envelope();
    kept();
    repository_document();
    manifest();
    frames();
    artifact();
    epoch_identity();
    writer_key();
    names();
}

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    std::fs::create_dir_all(&folder).expect("a folder for seeds");
    std::fs::write(folder.join(name), bytes).expect("a seed");
}

fn label() -> Label {
    "20261120-153000Z-k3f9".parse().expect("a label")
}

fn dsse() {
    write(
        "dsse",
        "signed",
        SIGNER.sign(ENVELOPE_KIND, b"{\"format\":1}"),
    );
    write("dsse", "other-type", SIGNER.sign("text/plain", b"x"));
    let two = r#"{"payloadType":"application/vnd.strongroom.envelope+json","payload":"","signatures":[{"keyid":"0011223344556677","sig":""},{"keyid":"","sig":""}]}"#;
    write("dsse", "two-signatures", two);
}

fn envelope() {
    let manifest = Digest::of(b"manifest");
    let mut objects = vec![(manifest, 300), (Digest::of(b"pack"), 8 << 20)];
    objects.sort_unstable();
    let first = Envelope {
        format: 1,
        repository: DOCUMENT.repository,
        deployment: "example-ca".into(),
        writer: SIGNER.id(),
        sequence: 1,
        previous: None,
        run: 1,
        label: label(),
        started: jiff::Timestamp::UNIX_EPOCH,
        finished: jiff::Timestamp::UNIX_EPOCH,
        tool: "strongroom 0.1.0".into(),
        scope: Scope::All,
        status: Status::Complete,
        repositories: vec!["keysafe".into(), "offsite".into()],
        assets: vec![EnvelopeAsset {
            name: "database".into(),
            class: Class::Database,
            source: "sqlite".into(),
            status: Status::Complete,
            size_bytes: 4096,
            certificates: None,
        }],
        epoch: EnvelopeEpoch {
            id: EpochId::from_bytes([5; 8]),
            object: Digest::of(b"epoch"),
        },
        manifest,
        objects,
        lock_until: None,
    };
    let second = Envelope {
        sequence: 2,
        previous: Some(Digest::of(b"first")),
        scope: Scope::Partial,
        status: Status::Incomplete,
        assets: vec![],
        lock_until: Some(jiff::Timestamp::UNIX_EPOCH),
        ..first.clone()
    };
    write("envelope", "signed", first.sign(&SIGNER));
    for (name, envelope) in [("first", first), ("second", second)] {
        let payload = serde_json::to_vec(&envelope).expect("an envelope serialises");
        write("envelope", name, payload);
    }
}

fn kept() {
    let hold = Hold {
        format: 1,
        repository: DOCUMENT.repository,
        label: label(),
        reason: "case 7".into(),
        placed: jiff::Timestamp::UNIX_EPOCH,
        tool: "strongroom 0.1.0".into(),
    };
    let record = ExpiryRecord {
        format: 1,
        repository: DOCUMENT.repository,
        number: 1,
        time: jiff::Timestamp::UNIX_EPOCH,
        tool: "strongroom 0.1.0".into(),
        expired: ExpiredRanges::of([1, 2, 3, 7].map(|number| (SIGNER.id(), number))),
    };
    write("hold", "signed", hold.sign(&SIGNER));
    write("expiry", "signed", record.sign(&SIGNER));
    let payload = serde_json::to_vec(&hold).expect("a hold serialises");
    write("hold", "first", payload);
    let payload = serde_json::to_vec(&record).expect("a record serialises");
    write("expiry", "first", payload);
}

fn repository_document() {
    let mut second = DOCUMENT.clone();
    second.revision = 2;
    second.previous = Some(*DOCUMENT_DIGEST);
    write("repository_document", "signed", DOCUMENT.sign(&SIGNER));
    for (name, document) in [("first", &*DOCUMENT), ("second", &second)] {
        let payload = serde_json::to_vec(document).expect("a document serialises");
        write("repository_document", name, payload);
    }
}

fn stream(kind: StreamKind, path: &str, content: Option<Content>) -> Stream {
    let has_content = content.is_some();
    Stream {
        kind,
        path: path.into(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: Some("root".into()),
        group: None,
        mtime: (1_763_650_000, 120_000_000),
        xattrs: [("user.comment".to_owned(), vec![0, 255])].into(),
        target: matches!(kind, StreamKind::Symlink | StreamKind::Hardlink).then(|| "/etc/a".into()),
        size: has_content.then_some(10),
        sha256: has_content.then(|| Digest::of(b"content")),
        content,
    }
}

fn manifest() {
    let header = Header {
        format: 1,
        deployment: "example-ca".into(),
        label: label(),
        repository: RepositoryId::from_bytes([3; 16]),
        tool: "strongroom 0.1.0".into(),
    };
    let object = Digest::of(b"object");
    let begin = |name: &str| {
        let mut writer = ManifestWriter::new(Vec::new(), header.clone()).expect("memory");
        let asset = Asset {
            name: name.into(),
            class: Class::Log,
            source: "files".into(),
            settings: serde_json::json!({"paths": ["/etc"]}),
        };
        writer.asset(asset).expect("memory");
        writer
    };
    let end = |mut writer: ManifestWriter<Vec<u8>>, name: &str, status| {
        let result = AssetResult {
            name: name.into(),
            status,
            facts: serde_json::json!({"files": 2}),
            problems: vec!["x".into()],
            notes: vec![],
        };
        writer.result(result).expect("memory");
        writer.finish().expect("memory")
    };

    let mut files = begin("config");
    for (kind, content) in [
        (StreamKind::Directory, None),
        (StreamKind::File, Some(Content::Artifact { object })),
        (StreamKind::Symlink, None),
        (StreamKind::Hardlink, None),
    ] {
        files
            .stream(stream(kind, "/etc/a", content))
            .expect("memory");
    }
    write(
        "manifest",
        "files",
        end(files, "config", Status::Incomplete),
    );

    let mut packed = begin("database");
    let database = stream(StreamKind::Database, "/var/db", Some(Content::Packed));
    packed.stream(database).expect("memory");
    let pack = packed.pack(object).expect("memory");
    let run = |pack, frame, offset, length| Run {
        pack,
        frame,
        offset,
        length,
    };
    let runs = [run(pack, 9, 3, 6), run(Run::HOLE, 0, 0, 4)];
    packed.runs(&runs).expect("memory");
    write(
        "manifest",
        "packed",
        end(packed, "database", Status::Complete),
    );

    let empty = ManifestWriter::new(Vec::new(), header.clone()).expect("memory");
    write("manifest", "empty", empty.finish().expect("memory"));
}

fn frames() {
    let mut encoder = FrameEncoder::new().expect("zstd");
    let text = b"-----BEGIN CERTIFICATE----- ".repeat(40);
    let frames = [b"one".as_slice(), &text, &[0; 5000], b""]
        .map(|content| encoder.encode(content).expect("zstd"));
    let unsized_frame = zstd::stream::encode_all(&text[..], 1).expect("zstd");
    let all = frames.concat();
    for target in ["frame", "pack"] {
        write(target, "one", &frames[0]);
        write(target, "text", &frames[1]);
        write(target, "zeros", &frames[2]);
        write(target, "four", &all);
        write(target, "no-size", &unsized_frame);
    }
    write("pack", "sealed", seal_to_epoch(&all));
    // One raw block in the format of zstd 0.7, which no decoder may take.
    let legacy = b"\x27\xb5\x2f\xfd\x20\x05\x40\x00\x05hello\xc0\x00\x00";
    for target in ["frame", "pack", "artifact"] {
        write(target, "legacy", legacy);
    }
}

fn artifact() {
    let text = b"-----BEGIN PRIVATE KEY----- ".repeat(20);
    let one = zstd::stream::encode_all(&text[..], 1).expect("zstd");
    write("artifact", "one", &one);
    write("artifact", "two", [one.as_slice(), &one].concat());
    let mut checked = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("zstd");
    checked.include_checksum(true).expect("zstd");
    checked.write_all(&text).expect("memory");
    write("artifact", "checksum", checked.finish().expect("memory"));
    write("artifact", "sealed", seal_to_epoch(&one));
    // Opened by nobody here, but it goes through the header's parser.
    write("artifact", "header", {
        let mut sealed = EPOCH_RECIPIENT.seal(Vec::new()).expect("age");
        sealed.write_all(b"").expect("memory");
        sealed.finish().expect("memory")
    });
}

fn epoch_identity() {
    let secret = "AGE-SECRET-KEY-1QJLEQ8L5MT5CTRHM534YNR7N90WQ38EXF6N6C0PU86H0AS8K5LZSFT9RLQ";
    let file = format!("# The identity of a Strongroom epoch\n{secret}\n");
    write("epoch_identity", "file", &file);
    write(
        "epoch_identity",
        "sealed",
        seal_to_custodian(file.as_bytes()),
    );
    write("epoch_identity", "comments", "# one\n\n# two\n");
}

fn writer_key() {
    let der = [PKCS8_PREFIX.as_slice(), &[7; 32]].concat();
    let block = |label: &str, bytes: &[u8]| {
        let body = base64(bytes);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let key = block("PRIVATE KEY", &der);
    let secret = block("STRONGROOM CHUNK SECRET", &[9; 32]);
    write("writer_key", "file", format!("# a comment\n{key}{secret}"));
    write(
        "writer_key",
        "short-secret",
        key + &block("STRONGROOM CHUNK SECRET", &[9]),
    );
    write("writer_key", "der", der);
}

fn names() {
    let (digest, epoch) = (Digest::of(b"x"), EpochId::from_bytes([5; 8]));
    for (name, text) in [
        ("repository", ObjectName::repository(1).to_string()),
        ("epoch", ObjectName::epoch(epoch, digest).to_string()),
        ("object", ObjectName::object(digest).to_string()),
        (
            "envelope",
            ObjectName::envelope(SIGNER.id(), 12).to_string(),
        ),
        ("label", label().to_string()),
        ("digest", digest.to_string()),
        ("repository-id", DOCUMENT.repository.to_string()),
        ("writer", SIGNER.id().to_string()),
        ("key", SIGNER.verifying_key().to_base64()),
        ("recipient", EPOCH_RECIPIENT.to_text()),
    ] {
        write("names", name, text);
    }
}
