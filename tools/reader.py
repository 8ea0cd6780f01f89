#!/usr/bin/env python3
"""Read a Strongroom backup repository without Strongroom; written from docs/format.md alone.

    reader.py list REPO_DIR
    reader.py verify REPO_DIR [--label LABEL|latest|all] [--identity FILE]...
    reader.py restore REPO_DIR --label LABEL|latest --identity FILE... --out DIR

Needs Python 3.11, its package `cryptography`, and the programs `age` and `zstd`. `verify` checks level L1, with an
identity L1 to L3. `restore` writes to DIR/<asset>/<absolute path>. Plaintext is kept in a private directory below
$TMPDIR, removed at the end. Each problem is one line on standard error, and the exit status then 1."""
import argparse, base64, contextlib, functools, hashlib, itertools, json, mmap, operator, os, re, signal, subprocess
import sys, tempfile
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MIB = 1 << 20
SIGNED, LINE, PACK, FRAME, KEY, PACKS = 64 * MIB, MIB, 64 * MIB, 4 * MIB, 64 << 10, 2**31 - 1  # section 8
FIELDS = {  # what the signed documents must have
    "repository": "repository revision previous deployment name created accepts recipients writers",
    "envelope": "repository deployment writer sequence previous run label started finished tool scope status assets "
                "repositories epoch manifest objects lock_until"}
INVALID = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what unexpected JSON leads to
NAME, PATH = r"(?!\.\.?\Z)[^/\0]+", rb"/|(/(?!\.\.?(/|\Z))[^/\0]+)+"
UNZSTD, HOLE = ("zstd", "-d", "-c", "-q"), memoryview(bytes(MIB))
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

def hexes(digits, *values):
    return all(isinstance(v, str) and re.fullmatch("[0-9a-f]{%d}" % digits, v) for v in values)

def ints(*values, low=0, high=2**63 - 1):
    return all(type(v) is int and low <= v <= high for v in values)

def parse(name, raw, kind=""):
    """Parse a JSON object; of a signed document, check that it has its fields."""
    try:
        doc = json.loads(raw.decode())
        if kind and not ints(doc["format"], low=1, high=1):
            raise Problem(f"{name}: has format version {doc['format']!r}; this reader knows version 1")
        return {"type": doc[""]...} 
    except INVALID as error:
        raise Problem(f"{name}: is not valid JSON, or lacks a field ({error!r})") from None

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

class Repository:
    """The signed documents of a repository, checked, and its objects."""
    def __init__(self, root):
        self.root, self.hashed, self.keys, self.doc, self.backups = root, {}, {}, None, []
        for self.doc in self.chain("repository", "repository", r"\d{8}\.json"):
            self.keys |= self.doc["writers"]
        must(self.doc, f"{root}: holds no valid repository document")
        for writer in self.names("envelopes", "[0-9a-f]{16}"):
            for doc in self.chain("envelope", f"envelopes/{writer}", r"\d{10}\.json"):
                self.backups.append(doc | {"objects": len(doc["objects"]), "bytes": sum(dict(doc["objects"]).values())})

    def names(self, folder, pattern):
        """The names in a folder that fit, sorted; whatever has another name is no part of a repository."""
        path = os.path.join(self.root, folder)
        return sorted(n for n in os.listdir(path) if re.fullmatch(pattern, n, re.A)) if os.path.isdir(path) else []

    def open(self, name, digest=None, size=None):
        """Open an object whose stored bytes have this digest and this size."""
        must(os.path.isfile(os.path.join(self.root, name)), f"{name}: is missing")
        file = open(os.path.join(self.root, name), "rb", buffering=0)
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
        sealed, media = parse(name, stored), f"application/vnd.strongroom.{kind}+json"
        try:
            [signature], payload = sealed["signatures"], unbase64(sealed["payload"])
            first = name == "repository/00000001.json"  # signed by one of its own writers
            keys = parse(name, payload, kind)["writers"] if first else self.keys if kind == "envelope" else self.doc["writers"]
            key = unbase64(keys[signature["keyid"]])
            message = b"DSSEv1 %d %s %d %s" % (len(media), media.encode(), len(payload), payload)
            Ed25519PublicKey.from_public_bytes(key).verify(unbase64(signature["sig"]), message)
        except (InvalidSignature, *INVALID):
            raise Problem(f"{name}: does not have one signature, a valid one of a known writer") from None
        ...
