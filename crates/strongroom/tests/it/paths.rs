//! Odd names, links, holes and attributes: what a file system may hold comes back as it was.

use std::ffi::OsStr;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use strongroom_testkit::skip;

use crate::fixture::{Host, must, write};
use crate::snapshot::Snapshot;

const ODD: [&[u8]; 6] = [
    b"line\nbreak.conf",
    b"carriage\rreturn\\and backslash",
    b"not-utf8-\xff\xfe.conf",
    b"-starts-with-a-dash",
    b" spaces and \t tab ",
    "umlaut-\u{e4}-\u{1f512}".as_bytes(),
];

#[test]
fn odd_names_are_captured_shown_restored_and_exported() {
    let host = Host::new();
    let odd = host.path("ca/conf/odd");
    for (number, name) in ODD.into_iter().enumerate() {
        write(&odd.join(OsStr::from_bytes(name)), format!("{number}\n"));
    }
    write(
        &odd.join(OsStr::from_bytes(b"dir\n\xff")).join("inside"),
        "inside\n",
    );
    symlink(
        OsStr::from_bytes(b"line\nbreak.conf"),
        odd.join(OsStr::from_bytes(b"link\n\xfe")),
    )
    .expect("links");
    let label = host.backup();

    let shown = host.ok(&host.with_identities(&["show", "-v", &label]));
    shown
        .says("not-utf8-\\xFF\\xFE.conf")
        .says("line\\nbreak.conf");
    let shown = host.ok(&host.with_identities(&["show", &label, "--json"]));
    shown.document();

    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    let link = host
        .ca()
        .strip_prefix("/")
        .expect("absolute")
        .join("conf/odd");
    let link = host
        .path("out/config")
        .join(link)
        .join(OsStr::from_bytes(b"link\n\xfe"));
    let target = std::fs::read_link(link).expect("a link");
    assert_eq!(target.as_os_str().as_bytes(), b"line\nbreak.conf");

    let out = host.text("export");
    host.ok(&host.with_identities(&["export", &label, "--out", &out]));
    let sums = Command::new("sha256sum")
        .args(["-c", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&out)
        .output()
        .expect("sha256sum starts");
    let said = String::from_utf8_lossy(&sums.stderr);
    assert!(sums.status.success() && sums.stdout.is_empty(), "{said}");

    let before = Snapshot::of(&host.ca(), &[host.path("ca/conf")]);
    std::fs::remove_dir_all(&odd).expect("removes");
    host.ok(&host.with_identities(&["restore", "--apply"]));
    host.ok(&["restore", "--sign-off"]);
    Snapshot::of(&host.ca(), &[host.path("ca/conf")]).assert_is(&before, "in place");
    let changed = host.ok(&host.with_identities(&["diff", &label, "latest"]));
    changed.says("Nothing differs");
}

#[test]
fn links_modes_times_and_attributes_come_back() {
    let host = Host::new();
    let conf = host.path("ca/conf");
    write(&conf.join("suid"), "x");
    must(
        "chmod",
        &["6751", conf.join("suid").to_str().expect("UTF-8")],
    );
    must(
        "chmod",
        &["0400", conf.join("ca.toml").to_str().expect("UTF-8")],
    );
    must(
        "chmod",
        &["0550", conf.join("sub").to_str().expect("UTF-8")],
    );
    symlink("/nowhere/at all", conf.join("dangling")).expect("links");
    symlink("sub", conf.join("to-directory")).expect("links");
    for (path, time) in [
        ("ca.toml", "2001-02-03 04:05:06.123456789 UTC"),
        ("empty", "1969-12-31 23:59:58.5 UTC"),
        ("sub", "2033-05-18 03:33:20.000000001 UTC"),
    ] {
        let path = conf.join(path);
        must(
            "touch",
            &[OsStr::new("-d"), OsStr::new(time), path.as_os_str()],
        );
    }
    let toml = conf.join("ca.toml");
    let name = "paths::links_modes_times_and_attributes_come_back";
    let xattr = [
        "-n",
        "user.comment",
        "-v",
        "0s AAE=",
        toml.to_str().expect("UTF-8"),
    ];
    let xattrs = Command::new("setfattr").args(xattr).output();
    let has_xattrs = xattrs.is_ok_and(|output| output.status.success());
    let acl = ["-m", "u:65534:r", toml.to_str().expect("UTF-8")];
    let acls = Command::new("setfacl").args(acl).output();
    let has_acls = acls.is_ok_and(|output| output.status.success());
    if !has_xattrs || !has_acls {
        skip(name, "extended attributes and ACLs cannot be set here");
    }
    let attributes = || {
        let get = |program: &str, options: &[&str]| {
            let output = Command::new(program).args(options).arg(&toml).output();
            output.map_or(Vec::new(), |output| output.stdout)
        };
        let xattrs = get("getfattr", &["-d", "-m", "^user"]);
        (xattrs, get("getfacl", &["-n"]))
    };
    // Setting attributes changes no time; what is set now is what must come back.
    let wanted = attributes();
    let before = Snapshot::of(&conf, std::slice::from_ref(&conf));
    host.backup();

    std::fs::remove_dir_all(&conf).expect("removes");
    host.ok(&host.with_identities(&["restore", "latest", "config", "--apply"]));
    Snapshot::of(&conf, std::slice::from_ref(&conf)).assert_is(&before, "restored");
    assert_eq!(attributes(), wanted);
    let links = std::fs::metadata(conf.join("sub/extra.conf"))
        .expect("there")
        .nlink();
    assert_eq!(links, 2);
}

/// Makes a file with a few bytes far apart; false where the file system cannot hold it.
fn sparse(path: &Path, size: u64) -> bool {
    let mut file = std::fs::File::create(path).expect("creates");
    if file.set_len(size).is_err() {
        return false;
    }
    for place in [0, size / 3, size - 5] {
        file.write_all_at(b"bytes", place).expect("writes");
    }
    file.seek(SeekFrom::Start(size / 2)).expect("seeks");
    file.write_all(&vec![7; 70_000]).expect("writes");
    file.sync_all().expect("writes");
    file.metadata().expect("there").blocks() * 512 < 4 << 20
}

#[test]
fn a_file_of_50_gb_that_is_nearly_all_hole_is_quick() {
    const SIZE: u64 = 50_000_000_000;
    let name = "paths::a_file_of_50_gb_that_is_nearly_all_hole_is_quick";
    let host = Host::new();
    let file = host.path("ca/var/log/sparse.log");
    if !sparse(&file, SIZE) {
        skip(
            name,
            "the file system of the temporary directory cannot hold it",
        );
        return;
    }
    let start = Instant::now();
    let taken = host.ok(&["backup", "log", "--json"]).document();
    let seconds = start.elapsed().as_secs();
    eprintln!("the backup took {seconds} s");
    assert!(seconds < 180, "{seconds} s");
    let asset = &taken["assets"][0];
    assert!(asset["size_bytes"].as_u64() > Some(SIZE), "{asset}");
    assert!(asset["new_chunk_bytes"].as_u64() < Some(4 << 20), "{asset}");

    let label = taken["label"].as_str().expect("a label");
    let room = rustix::fs::statvfs(&host.root).expect("asks");
    if room.f_bavail * room.f_frsize < SIZE + (1 << 30) {
        // The plan counts holes as bytes.
        skip(name, "the restore needs 50 GB of free space to be planned");
        return;
    }
    let start = Instant::now();
    host.restore_to(label, "out").exits(0);
    eprintln!("the restore took {} s", start.elapsed().as_secs());
    let original = file.strip_prefix("/").expect("absolute");
    let restored = std::fs::File::open(host.path("out/log").join(original)).expect("is there");
    let metadata = restored.metadata().expect("is there");
    assert_eq!(metadata.len(), SIZE);
    assert!(
        metadata.blocks() * 512 < 4 << 20,
        "{} blocks",
        metadata.blocks()
    );
    let mut bytes = [0; 5];
    for place in [0, SIZE / 3, SIZE - 5] {
        restored.read_exact_at(&mut bytes, place).expect("reads");
        assert_eq!(&bytes, b"bytes");
    }
}

#[test]
fn holes_and_empty_files_come_back() {
    let host = Host::new();
    let log = host.path("ca/var/log/sparse.log");
    let conf = host.path("ca/conf/sparse.conf");
    for path in [&log, &conf] {
        if !sparse(path, 20_000_000) {
            skip(
                "paths::holes_and_empty_files_come_back",
                "no sparse files here",
            );
            return;
        }
    }
    write(&host.path("ca/var/log/empty.log"), "");
    let label = host.backup();
    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    for (asset, path) in [("log", &log), ("config", &conf)] {
        let path = path.strip_prefix("/").expect("absolute");
        let restored = host.path(format!("out/{asset}")).join(path);
        let blocks = std::fs::metadata(restored).expect("there").blocks();
        assert!(blocks * 512 < 4 << 20, "{asset}: {blocks} blocks");
    }
}
