#!/usr/bin/env python3
"""Read a Strongroom backup repository without Strongroom; written from docs/format.md alone.

    reader.py list REPO_DIR
    reader.py verify REPO_DIR [--label LABEL|latest|all] [--identity FILE]...
    reader.py restore REPO_DIR --label LABEL|latest --identity FILE... --out DIR

Needs Python 3.11 with the package `cryptography` and the programs `age` and `zstd`. `verify` checks level L1, with an
identity L1 to L3. `restore` writes to DIR/<asset>/<absolute path>. Plaintext is kept in a private directory below
$TMPDIR and removed at the end. Each problem is one line on standard error; the exit status is then 1.
"""
import argparse, array, base64, contextlib, functools, hashlib, itertools, json, mmap, os, re, signal, subprocess
import sys, tempfile
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MIB = 1 << 20
SIGNED, LINE, PACK, FRAME, KEY, PACKS = 64 * MIB, MIB, 64 * MIB, 4 * MIB, 64 << 10, 2**31 - 1  # section 8
HEX = r"[0-9a-f]{%d}"
TYPES = {  # strings by pattern, integers by range, others by type; `x[]` is a list of x, `x?` may be null
    "text": "(?s:.*)", "hex16": HEX % 16, "hex32": HEX % 32, "hex64": HEX % 64, "name": r"(?!\.\.?$)[^/\0\n]+",
    "label": r"\d{8}-\d{6}Z-[0-9a-z]{4}", "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "status": "complete|incomplete",
    "scope": "all|partial", "kind": "file|directory|symlink|hardlink|database", "content": "artifact|packed",
    "list": list, "map": dict, "count": range(2**63), "integer": range(-2**63, 2**63), "mode": range(0o10000),
    "owner": range(2**32 - 1)}
FIELDS = {
    "repository": "repository:hex32 revision:count previous:hex64? deployment:text name:text created:time "
                  "accepts:text[] recipients:text[] writers:map",
    "envelope": "repository:hex32 deployment:text writer:hex16 sequence:count previous:hex64? run:count label:label "
                "started:time finished:time tool:text scope:scope status:status repositories:text[] assets:map[] "
                "epoch:map manifest:hex64 objects:list[] lock_until:time?",
    "listed": "name:name class:text source:text status:status size_bytes:count", "epoch": "id:hex16 object:hex64",
    "signed": "payloadType:text payload:text signatures:map[]", "signature": "keyid:text sig:text",
    "manifest": "deployment:text label:label repository:hex32 tool:text", "pack": "object:hex64", "runs": "runs:list[]",
    "asset": "name:name class:text source:text settings:map", "end": "assets:count streams:count runs:count",
    "stream": "kind:kind mode:mode uid:owner gid:owner mtime:integer[]",
    "content": "size:count sha256:hex64 content:content", "artifact": "object:hex64",
    "result": "name:name status:status facts:map problems:text[] notes:text[]"}
FOLLOWS = {"": "manifest", "manifest": "asset pack end", "asset": "stream pack result", "result": "asset pack end",
           "stream": "stream pack result", "packed": "stream pack runs result", "end": ""}
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

def unbase64(text):
    with contextlib.suppress(ValueError, AttributeError):
        return base64.b64decode(text.encode(), validate=True)

def fits(value, kind):
    if kind[-1] == "?":
        return value is None or fits(value, kind[:-1])
    if kind[-2:] == "[]":
        return isinstance(value, list) and all(fits(item, kind[:-2]) for item in value)
    if isinstance(want := TYPES[kind], str):
        return isinstance(value, str) and re.fullmatch(want, value, re.ASCII) is not None
    return type(value) is int and value in want if isinstance(want, range) else isinstance(value, want)

def parse(name, doc, kind, versioned=False):
    """Parse a JSON object, unless that is done, and check that it has its fields."""
    try:
        doc = json.loads(doc.decode()) if isinstance(doc, bytes) else doc
    except (ValueError, RecursionError):
        raise Problem(f"{name}: is not valid JSON") from None
    must(isinstance(doc, dict), f"{name}: is not a JSON object")
    if versioned and (type(doc.get("format")) is not int or doc["format"] != 1):
        raise Problem(f"{name}: has format version {doc.get('format')!r}; this reader knows version 1")
    for key, want in (field.split(":") for field in FIELDS[kind].split()):
        must(key in doc and fits(doc[key], want), f"{name}: the field {key} is missing or not valid")
    return doc

def raw(where, doc, key):
    """The bytes of a path or target, given as text or in base64."""
    with contextlib.suppress(UnicodeError, AttributeError):
        value = doc[key].encode() if key in doc else unbase64(doc[key + "_base64"])
        if value and b"\0" not in value and not (key in doc and key + "_base64" in doc):
            return value
    raise Problem(f"{where}: has no valid {key}")

def object_name(digest):
    return f"objects/{digest[:2]}/{digest}.age"

@contextlib.contextmanager
def pipeline(name, source, *commands):
    """Run programs as a pipe fed from an open file; the output must be read to its end, and no program may fail."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryFile() as errors:
        running = []
        for command in commands:
            running.append(stack.enter_context(
                subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=errors)))
            stack.callback(running[-1].kill)
            source.close()
            source = running[-1].stdout
        yield source
        must(not source.read(1), f"{name}: holds more than it may")
        if any([process.wait() for process in running]):
            errors.seek(0)
            raise Problem(f"{name}: {errors.readline().decode(errors='replace').strip() or 'cannot be read'}")

def frame_at(name, data, start):
    """The end of the zstd frame at an offset and the size of its content (RFC 8878, section 3.1.1)."""
    number = lambda at, length: int.from_bytes(data[at:at + length], "little")
    must(data[start:start + 4] == b"\x28\xb5\x2f\xfd", f"{name}: no zstd frame begins at {start}")
    flags, block = number(start + 4, 1), 0
    single, length = flags >> 5 & 1, (flags >> 5 & 1, 2, 4, 8)[flags >> 6]
    at = start + 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]  # window descriptor, dictionary ID
    size, at = number(at, length) + (256 if length == 2 else 0), at + length
    must(length and size <= FRAME, f"{name}: the frame at {start} gives no content size, or one above {FRAME}")
    while not block & 1 and at + 3 <= len(data):
        block = number(at, 3)
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
    at += 4 * (flags >> 2 & 1)  # checksum
    must(block & 1 and at <= len(data), f"{name}: the frame at {start} is cut off")
    return at, size

class Repository:
    """The signed documents of a repository, checked, and its objects."""
    def __init__(self, root):
        self.root, self.hashed, self.keys, self.backups = root, {}, {}, []
        for self.doc in self.chain("repository", "repository", "revision", 8):
            self.keys.update(self.doc["writers"])
        must(self.keys, f"{root}: holds no valid repository document")
        for writer in self.names("envelopes", HEX % 16):
            for doc in self.chain(f"envelopes/{writer}", "envelope", "sequence", 10):
                doc["bytes"], doc["objects"] = sum(dict(doc["objects"]).values()), len(doc["objects"])
                self.backups.append(doc)

    def names(self, folder, pattern):
        """The names in a folder that fit, sorted; whatever has another name is no part of a repository."""
        path = os.path.join(self.root, folder)
        return sorted(n for n in os.listdir(path) if re.fullmatch(pattern, n, re.A)) if os.path.isdir(path) else []

    def open(self, name, digest=None, size=None):
        """Open an object whose stored bytes have this digest and this size."""
        path = os.path.join(self.root, name)
        must(os.path.isfile(path), f"{name}: is {'not a regular file' if os.path.lexists(path) else 'missing'}")
        file = open(path, "rb", buffering=0)
        stored = os.fstat(file.fileno()).st_size
        must(size in (None, stored), f"{name}: has {stored} bytes instead of {size}")
        if digest and name not in self.hashed:
            self.hashed[name] = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        must(not digest or self.hashed[name] == digest, f"{name}: its SHA-256 is {self.hashed.get(name)}")
        return file

    def payload(self, name, kind, stored):
        """The payload of a signed document, once the signature of a writer holds."""
        must(len(stored) <= SIGNED, f"{name}: is longer than {SIGNED} bytes")
        sealed, type_ = parse(name, stored, "signed"), f"application/vnd.strongroom.{kind}+json"
        payload, signatures = unbase64(sealed["payload"]), sealed["signatures"]
        must(payload is not None and sealed["payloadType"] == type_ and len(signatures) == 1,
             f"{name}: is not a {kind} document with one signature")
        keyid = parse(name, signatures[0], "signature")["keyid"]
        keys = self.keys if kind == "envelope" else self.doc["writers"] if self.keys else None
        if keys is None:  # the first revision is signed by one of its own writers
            keys = parse(name, payload, kind, versioned=True)["writers"]
        must(keyid in keys, f"{name}: is signed by {keyid}, no writer of this repository")
        key = unbase64(keys[keyid]) or b""
        info = hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + key).hexdigest()
        try:
            must(info[:16] == keyid, f"{name}: the key of {keyid} has the fingerprint {info}")
            message = b"DSSEv1 %d %s %d %s" % (len(type_), type_.encode(), len(payload), payload)
            Ed25519PublicKey.from_public_bytes(key).verify(unbase64(signatures[0]["sig"]) or b"", message)
        except (InvalidSignature, ValueError):
            raise Problem(f"{name}: the signature is not valid") from None
        return parse(name, payload, kind, versioned=True) | {"keyid": keyid, "fingerprint": info, "object": name}

    def chain(self, folder, kind, number, digits):
        """Yield the good documents of a folder in order; report those that are not, and every broken link."""
        digest, last, run = None, 0, -1
        for file in self.names(folder, r"\d{%d}\.json" % digits):
            name, previous, before, last, digest = f"{folder}/{file}", digest, last, int(file[:digits]), None
            with reporting():
                if last != before + 1:
                with self.open(name) as opened:
                    stored = opened.read(SIGNED + 1)
                digest = hashlib.sha256(stored).hexdigest()
                doc = self.payload(name, kind, stored)
                ...
                yield doc

class Backup:
    """A backup opened with the key of its epoch; with a directory `out` its streams are restored, else verified."""
    def __init__(self, repo, name, identities, private, out=None):
        with repo.open(name) as file:
            self.doc = repo.payload(name, "envelope", file.read())
        self.repo, self.out, self.sizes, self.tried = repo, out, dict(self.doc["objects"]), set()
        self.frame, self.pack = functools.lru_cache(48)(self.read_frame), functools.lru_cache(24)(self.read_pack)
        self.directories = []

    def check_objects(self):  # L1
        for digest, size in self.doc["objects"]:
            with reporting():
                self.repo.open(object_name(digest), digest, size).close()
        with reporting():
            self.repo.open(self.epoch + f"{self.doc['epoch']['object']}.age", self.doc["epoch"]["object"]).close()

    def unlock(self, identities, private):
        """Open the epoch: by the object that the envelope names, else by another one of this epoch."""
        failed, folder, named = None, f"epochs/{self.doc['epoch']['id']}", self.doc["epoch"]["object"] + ".age"
        for file in [named, *self.repo.names(folder, HEX % 64 + r"\.age")]:
            try:
                name = f"{folder}/{file}"
                with pipeline(name, self.repo.open(name, file[:64]), ["age", "-d", *identities]) as out:
                    key = out.read(KEY)
                must(re.fullmatch(rb"((#.*)?\n)*AGE-SECRET-KEY-1[0-9A-Z]+\n?((#.*)?\n)*", key), f"{name}: is no age identity")
                self.key = ...
                return
            except Problem as problem:
                failed = failed or problem
        raise failed

    def decrypt(self, digest, *more):
        """Decrypt an object of the backup, through further programs."""
        self.tried.add(digest)
        name = object_name(digest)
        return pipeline(name, self.repo.open(name, digest, self.sizes[digest]), ["age", "-d", "-i", self.key], *more)

    def read_pack(self, digest):
        """The plaintext of a pack and the offsets at which its frames begin."""
        with self.decrypt(digest) as out, tempfile.TemporaryFile() as plain:
            plain.write(out.read(PACK))
            must(plain.tell(), f"{object_name(digest)}: holds no frame")
            plain.flush()
            data, starts, at = mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ), array.array("L"), 0
        while at < len(data):
            starts.append(at)
            at, _ = frame_at(object_name(digest), data, at)
        return data, starts

    def read_frame(self, digest, start):
        name, (data, starts) = object_name(digest), self.pack(digest)
        must(start in starts, f"{name}: no frame begins at {start}")
        end, size = frame_at(name, data, start)
        with tempfile.TemporaryFile() as frame:
            frame.write(data[start:end])
            frame.seek(0)
            with pipeline(name, frame, ["zstd", "-d", "-c", "-q"]) as out:
                return out.read(size)

    def pieces(self, stream, runs):
        """The content of a stream in pieces: bytes, or the length of a hole."""
        if stream["content"] == "artifact":
            with self.decrypt(stream["object"], ["zstd", "-d", "-c", "-q"]) as out:
                yield from iter(lambda: out.read(MIB), b"")
        for _, (pack, frame, offset, length) in runs:
            content = self.frame(pack, frame) if pack else None
            must(pack is None or offset + length <= len(content), f"{object_name(pack)}: ...")
            yield content[offset:offset + length] if pack else length

    def copy(self, stream, runs, out=None):
        """Check a stream's content, and write it to an open file."""
        digest, size = hashlib.sha256(), 0
        for piece in self.pieces(stream, runs):
            hole = isinstance(piece, int)
            size += piece if hole else len(piece)
            must(size <= stream["size"], "is longer than ...")
            for start in range(0, piece, MIB) if hole else ():
                digest.update(bytes(min(MIB, piece - start)))
            digest.update(b"" if hole else piece)
            if out:
                out.seek(piece, os.SEEK_CUR) if hole else out.write(piece)
        must((size, digest.hexdigest()) == (stream["size"], stream["sha256"]), f"has {size} bytes with SHA-256 {digest.hexdigest()}")
        if out:
            out.truncate(size)

    def lines(self, source):
        """Check the manifest line by line; yield (stream, None) for each stream and (stream, run) for each run of it."""
        name, last, asset, stream, left, packs, seen = object_name(self.doc["manifest"]), "", None, None, 0, [], {}
        counts = {"assets": 0, "streams": 0, "runs": 0}
        for number in itertools.count(1):
            where, line = f"{name}: line {number}", source.readline(LINE + 1)
            if not line and last == "end":
                return
            must(line, f"{where}: the manifest ends without its end line")
            must(len(line.rstrip(b"\n")) <= LINE, f"{where}: is longer than {LINE} bytes")
            kind = parse(where, line, "line")["type"]
            must(kind in FOLLOWS[last].split(), f"{where}: {kind!r} is out of place")
            doc = parse(where, line, kind, versioned=kind == "manifest")
            must(not left or kind in ("pack", "runs"), f"{where}: the stream before it lacks {left} bytes")
            last = kind if kind not in ("pack", "runs") else last
            if kind == "manifest":
                must(all(doc[key] == self.doc[key] for key in ("deployment", "label", "repository")), f"{where}: is of another backup")
            elif kind == "asset":
                asset, seen = doc["name"], {}
                counts["assets"] += 1
            elif kind == "result":
                must(doc["name"] == asset, ...)
            elif kind == "pack":
                packs.append(doc["object"])
                must(doc["object"] in self.sizes and len(packs) <= PACKS, f"{where}: is not among the objects of the envelope")
            elif kind == "stream":
                stream, left = self.stream(where, doc, asset, seen)
                counts["streams"] += 1
                last = doc.get("content")== packed ...
                yield stream, None
            elif kind == "runs":
                for pack, frame, offset, length in doc["runs"]:
                    must(pack < len(packs) and 0 < length <= left and (pack < 0 or max(...)))
                    left -= length
                    counts["runs"] += 1
                    yield stream, (None if pack < 0 else packs[pack], frame, offset, length)
            elif kind == "end":
                must(all(doc[key] == count for key, count in counts.items()), f"{where}: the counts differ")
