#!/usr/bin/env python3
"""Read a Strongroom backup repository without Strongroom; written from docs/format.md alone.

    reader.py list REPO_DIR
    reader.py verify REPO_DIR [--label LABEL|latest|all] [--identity FILE]...
    reader.py restore REPO_DIR --label LABEL|latest --identity FILE... --out DIR

Needs Python 3.11, its package `cryptography`, and the programs `age` and `zstd`. `verify` checks level L1, with an
identity L1 to L3. `restore` writes to DIR/<asset>/<absolute path>. Plaintext is kept in a private directory below
$TMPDIR and removed at the end. Each problem is one line on standard error; the exit status is then 1.
"""
import argparse, base64, contextlib, functools, hashlib, itertools, json, mmap, os, re, signal, subprocess, sys, tempfile
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MIB = 1 << 20
SIGNED, LINE, PACK, FRAME, KEY, PACKS = 64 * MIB, MIB, 64 * MIB, 4 * MIB, 64 << 10, 2**31 - 1  # section 8
HEX16, HEX64, COUNT, STATUS = "[0-9a-f]{16}", "[0-9a-f]{64}", range(2**63), "complete|incomplete"
HOLE, ZSTD = memoryview(bytes(MIB)), ("zstd", "-d", "-c", "-q")
TYPES = {  # what the fields hold: a string of this pattern, an integer in this range, or a value of this type
    "repository": "[0-9a-f]{32}", "writer": HEX16, "id": HEX16, "manifest": HEX64, "object": HEX64, "sha256": HEX64,
    "label": r"\d{8}-\d{6}Z-[0-9a-z]{4}", "status": STATUS, "scope": "all|partial", "content": "artifact|packed",
    "kind": "file|directory|symlink|hardlink|database", "asset": r"(?!\.\.?$)[^/\0\n]+", "sequence": COUNT, "revision": COUNT,
    "run": COUNT, "size": COUNT, "mode": range(0o10000), "uid": range(2**32 - 1), "gid": range(2**32 - 1), "mtime": list,
    "payload": str, "signatures": list, "writers": dict, "recipients": list, "epoch": dict, "objects": list}
FIELDS = {  # what an object must have
    "signed": "payloadType payload signatures", "epoch": "id object",
    "repository": "repository revision previous deployment name created accepts recipients writers",
    "envelope": "repository deployment writer sequence previous run label started finished tool scope status repositories"
                " assets epoch manifest objects lock_until",
    "manifest": "deployment label repository tool", "asset": "name class source settings", "pack": "object",
    "stream": "kind mode uid gid mtime", "content": "size sha256 content", "artifact": "object", "runs": "runs",
    "result": "name status facts problems notes", "end": "assets streams runs"}
FOLLOWS = {"": "manifest", "manifest": "asset pack end", "asset": "stream pack result", "result": "asset pack end",
           "stream": "stream pack result", "packed": "stream pack runs result", "end": ""}
INVALID = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what unexpected JSON leads to
object_name, unbase64 = "objects/{0:.2}/{0}.age".format, functools.partial(base64.b64decode, validate=True)
problems = []

class Problem(Exception):
    """Something is wrong with an object; the text begins with its name."""

def must(condition, text):
    if not condition:
        raise Problem(text)

def say(text, to=None):
    print("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), file=to)

@contextlib.contextmanager
def reporting(prefix=""):
    """Report a problem, once, instead of stopping."""
    try:
        yield
    except (Problem, OSError, OverflowError) as problem:
        if (text := f"{prefix}{problem}") not in problems:
            problems.append(text)
            say("error: " + text, sys.stderr)

def fits(value, want):
    if isinstance(want, range):
        return type(value) is int and value in want
    return isinstance(value, str) and re.fullmatch(want, value, re.A) if isinstance(want, str) else isinstance(value, want)

def check(name, doc, kind):
    """Check the fields of a JSON object, which is parsed first if it is not."""
    field = "format"
    try:
        doc = json.loads(doc.decode()) if isinstance(doc, bytes) else doc
        if kind in ("repository", "envelope", "manifest") and not fits(doc[field], range(1, 2)):
            raise Problem(f"{name}: has format version {doc[field]!r}; this reader knows version 1")
        for field in FIELDS.get(kind, kind).split():
            must(fits(doc[field], TYPES.get(field, object)), f"{name}: the field {field} has no valid value")
    except INVALID:
        raise Problem(f"{name}: is not valid JSON with a field {field}") from None
    return doc

@contextlib.contextmanager
def run(name, source, *command):
    """Feed an open file to a program; all of its output must be read, and it may not fail."""
    with source:
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            yield process.stdout
            must(process.stdout.closed or not process.stdout.read(1), f"{name}: holds more than it may")
            must(process.wait() == 0, f"{name}: {process.stderr.readline().decode(errors='replace').strip()}")
        finally:
            process.kill()

def frame_at(name, data, start):
    """The end of the zstd frame at an offset, and the size of its content (RFC 8878, section 3.1.1)."""
    number = lambda at, length: int.from_bytes(data[at:at + length], "little")
    flags, block = number(start + 4, 1), 0
    single, length = flags >> 5 & 1, (flags >> 5 & 1, 2, 4, 8)[flags >> 6]
    at = start + 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]  # window descriptor, dictionary ID
    size, at = number(at, length) + (256 if length == 2 else 0), at + length
    must(number(start, 4) == 0xFD2FB528 and length and size <= FRAME,
         f"{name}: at {start} is no zstd frame that gives a content size of at most {FRAME}")
    while not block & 1 and at + 3 <= len(data):
        block = number(at, 3)
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
    at += 4 * (flags >> 2 & 1)  # checksum
    must(block & 1 and at <= len(data), f"{name}: the frame at {start} is cut off")
    return at, size

class Repository:
    """The signed documents of a repository, checked, and its objects."""
    def __init__(self, root):
        self.root, self.hashed, self.keys, self.doc, self.backups = root, {}, {}, None, []
        for self.doc in self.chain("repository", "repository", r"\d{8}\.json"):
            self.keys.update(self.doc["writers"])
        must(self.doc, f"{root}: holds no valid repository document")
        for writer in self.names("envelopes", HEX16):
            for doc in self.chain("envelope", f"envelopes/{writer}", r"\d{10}\.json"):
                self.backups.append(doc | {"objects": len(doc["objects"]), "bytes": sum(dict(doc["objects"]).values())})

    def names(self, folder, pattern):
        """The names in a folder that fit, sorted; whatever has another name is no part of a repository."""
        path = os.path.join(self.root, folder)
        return sorted(n for n in os.listdir(path) if re.fullmatch(pattern, n, re.A)) if os.path.isdir(path) else []

    def open(self, name, digest=None, size=None):
        """Open an object whose stored bytes have this digest and this size."""
        path = os.path.join(self.root, name)
        must(os.path.isfile(path), f"{name}: is missing")
        file = open(path, "rb", buffering=0)
        stored = os.fstat(file.fileno()).st_size
        must(size in (None, stored), f"{name}: has {stored} bytes instead of {size}")
        if digest and name not in self.hashed:
            self.hashed[name] = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        must(not digest or self.hashed[name] == digest, f"{name}: its SHA-256 is {self.hashed.get(name)}")
        return file

    def signed(self, name, kind):
        """The payload of a signed document, once the signature of a writer holds."""
        with self.open(name) as file:
            stored = file.read(SIGNED + 1)
        must(len(stored) <= SIGNED, f"{name}: is longer than {SIGNED} bytes")
        sealed, media = check(name, stored, "signed"), f"application/vnd.strongroom.{kind}+json"
        try:
            [signature], payload = sealed["signatures"], unbase64(sealed["payload"])
            keys = self.keys if kind == "envelope" else self.doc["writers"] if self.doc else None
            if name == "repository/00000001.json":  # signed by one of its own writers
                keys = check(name, payload, kind)["writers"]
            key = unbase64(keys[signature["keyid"]])
            fingerprint = hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + key).hexdigest()
            message = b"DSSEv1 %d %s %d %s" % (len(media), media.encode(), len(payload), payload)
            Ed25519PublicKey.from_public_bytes(key).verify(unbase64(signature["sig"]), message)
            must(sealed["payloadType"] == media and fingerprint[:16] == signature["keyid"], f"{name}: is of the type ...")
        except (InvalidSignature, *INVALID):
            raise Problem(f"{name}: has not exactly one signature, a valid one of a known writer") from None
        doc = check(name, payload, kind) | {"object": name, "digest": hashlib.sha256(stored).hexdigest(), "key": fingerprint}
        ...
        return doc

