#!/usr/bin/env python3
"""Read a Strongroom backup repository without Strongroom. Written from docs/format.md alone.

Needs Python 3.11 with the package `cryptography`, and the programs `age` and `zstd`. `verify` checks level L1 of the
format, with an identity L1 to L3. `restore` writes to DIR/<asset>/<absolute path>. Plaintext is kept in a private
directory below $TMPDIR, removed at the end. Each problem is one line on standard error; the exit status is then 1.
"""
import argparse, base64, collections, contextlib, functools, glob, hashlib, itertools, json, mmap, operator, os, re
import signal, subprocess, sys, tempfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MIB = 1 << 20
SIGNED, LINE, PACK, FRAME, KEY, PACKS = 64 * MIB, MIB, 64 * MIB, 4 * MIB, 64 << 10, 2**31 - 1  # section 8
LABEL, NAME, PATH = r"\d{8}-\d{6}Z-[0-9a-z]{4}", r"(?!\.\.?\Z)[^/\0]+", rb"/|(/(?!\.\.?(/|\Z))[^/\0]+)+"
FIELDS = {  # of the signed documents, those that are not used below
    "repository": "format deployment name created accepts recipients",
    "envelope": "format deployment started finished tool scope status repositories assets lock_until"}
PLACES = {  # where a line of a manifest may stand, and where it leads
    "manifest": ("start", "top"), "asset": ("top", "asset"), "pack": ("top, asset", None), "stream": ("asset", None),
    "runs": ("asset", None), "result": ("asset", "top"), "end": ("top", "end")}
UNZSTD, HOLE, problems = ("zstd", "-d", "-c", "-q"), memoryview(bytes(MIB)), []
object_name, unbase64 = "objects/{0:.2}/{0}.age".format, functools.partial(base64.b64decode, validate=True)

class Problem(Exception):
    """Something is wrong with an object or a stream; the text begins with its name."""
class Damage(BaseException):
    """A manifest that cannot be followed any further, whatever happens to single streams."""

def must(condition, text):
    if not condition:
        raise Problem(text)

def say(text, to=None):
    print("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), file=to)

@contextlib.contextmanager
def reporting(prefix="", also=Exception):
    """Report a problem, once, instead of stopping."""
    try:
        yield
    except (Exception, also) as problem:
        if (text := f"{prefix}{problem}") not in problems:
            problems.append(text)
            say("error: " + text, sys.stderr)

def hexes(digits, *values):
    return all(isinstance(v, str) and re.fullmatch("[0-9a-f]{%d}" % digits, v) for v in values)

def ints(*values, low=0, high=2**63 - 1):
    return all(type(v) is int and low <= v <= high for v in values)

def fingerprint(key):
    return hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + unbase64(key)).hexdigest()

def parse(name, raw, fields=""):
    """Parse JSON that must have these fields, and be of version 1 if it says one."""
    doc = json.loads(raw.decode())
    if "format" in doc and not ints(doc["format"], low=1, high=1):
        raise Problem(f"{name}: has format version {doc['format']!r}, this reader knows version 1 only")
    for field in fields.split():
        must(field in doc, f"{name}: lacks the field {field}")
    return doc

@contextlib.contextmanager
def run(name, source, *command):
    """Feed an open file to a program; all of its output must be read, and it may not fail."""
    with source, subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process.stdout
            must(process.stdout.closed or not process.stdout.read(1), f"{name}: holds more than it may")
            must(process.wait() == 0, f"{name}: {process.stderr.readline().decode(errors='replace').strip()}")
        finally:
            process.kill()

class Repository:
    """The signed documents of a repository, checked, and its objects."""
    def __init__(self, root):
        self.root, self.sound, self.keys, self.doc, self.backups = root, set(), {}, None, []
        self.glob = lambda pattern: sorted(glob.glob(pattern, root_dir=root))  # other names are no part of a repository
        for self.doc in self.chain("repository", "repository/" + "[0-9]" * 8):
            self.keys |= self.doc["writers"]
        must(self.doc, f"{root}: holds no valid repository document")
        for folder in self.glob("envelopes/" + "[0-9a-f]" * 16):
            for doc in self.chain("envelope", f"{folder}/" + "[0-9]" * 10):
                self.backups.append(doc | {"objects": len(doc["objects"]), "bytes": sum(dict(doc["objects"]).values())})

    def open(self, name, digest=None, size=None):
        """Open an object whose stored bytes have this digest and this size."""
        must(os.path.isfile(os.path.join(self.root, name)), f"{name}: is missing")
        file = open(os.path.join(self.root, name), "rb", buffering=0)
        stored = os.fstat(file.fileno()).st_size
        must(size in (None, stored), f"{name}: has {stored} bytes instead of {size}")
        if digest and name not in self.sound:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            must(found == digest, f"{name}: the SHA-256 of its bytes is {found}")
            self.sound.add(name)
            file.seek(0)
        return file

    def signed(self, kind, name):
        """The payload of a signed document, once the signature of a writer holds."""
        with self.open(name) as file:
            stored = file.read(SIGNED + 1)
        must(len(stored) <= SIGNED, f"{name}: is longer than {SIGNED} bytes")
        try:
            sealed, media = parse(name, stored), f"application/vnd.strongroom.{kind}+json"
            [signature], payload = sealed["signatures"], unbase64(sealed["payload"])
            keyid, keys = signature["keyid"], self.keys if kind == "envelope" or not self.doc else self.doc["writers"]
            if name == "repository/00000001.json":  # signed by one of its own writers
                keys = parse(name, payload, "format writers")["writers"]
            must(sealed["payloadType"] == media and keyid in keys and fingerprint(keys[keyid])[:16] == keyid,
                 f"{name}: is signed by {keyid}, no known writer, or is no {media}")
            message = b"DSSEv1 %d %s %d %s" % (len(media), media.encode(), len(payload), payload)
            Ed25519PublicKey.from_public_bytes(unbase64(keys[keyid])).verify(unbase64(signature["sig"]), message)
            doc = parse(name, payload, FIELDS[kind])
            place = "envelopes/{writer}/{sequence:010}.json" if kind == "envelope" else "repository/{revision:08}.json"
            must(name == place.format(**doc) and doc.get("writer", keyid) == keyid and hexes(32, doc["repository"])
                 and doc["repository"] == (self.doc or doc)["repository"],
                 f"{name}: is {place.format(**doc)} of the repository {doc['repository']}, signed by {keyid}")
            if kind == "envelope":
                sizes, epoch = dict(doc["objects"]), doc["epoch"]
                must(hexes(16, epoch["id"]) and hexes(64, epoch["object"], doc["manifest"], *sizes)
                     and [*sizes] == sorted(sizes) and len(sizes) == len(doc["objects"]) and doc["manifest"] in sizes
                     and ints(doc["run"], *sizes.values()) and re.fullmatch(LABEL, doc["label"], re.ASCII),
                     f"{name}: a digest, size or label is not valid, or the objects are not in order")
        except Exception as error:
            raise error if isinstance(error, Problem) else Problem(f"{name}: is not valid: {error!r}") from None
        return doc | {"file": name, "digest": hashlib.sha256(stored).hexdigest()}

    def chain(self, kind, pattern):
        """Yield the good documents of a chain in order; report the others, and every broken link."""
        number, digest = 0, None
        for name in self.glob(pattern + ".json"):
            before, previous, number, digest = number, digest, int(os.path.basename(name)[:-5]), None
            with reporting():
                doc = self.signed(kind, name)
                digest = doc["digest"]
                yield doc
                must(number == before + 1, f"{name}: the document before it is missing")
                must(doc["previous"] == previous or before and not previous, f"{name}: the digest `previous` is wrong")

class Backup:
    """A backup with its objects and streams, which are restored below the directory `out` if there is one."""
    def __init__(self, repo, name, out):
        self.repo, self.doc, self.out, self.tried, self.late = repo, repo.signed("envelope", name), out, set(), []
        self.sizes, self.manifest = dict(self.doc["objects"]), object_name(self.doc["manifest"])
        self.key = os.path.join(tempfile.tempdir, self.doc["epoch"]["id"])
        self.frame, self.pack = functools.lru_cache(48)(self.read_frame), functools.lru_cache(24)(self.read_pack)

    def walk(self, identities):
        """Check the objects (level L1); with identities, verify or restore all that they hold (L2 and L3)."""
        folder, epoch = "epochs/" + self.doc["epoch"]["id"], self.doc["epoch"]["object"]
        for item in [*((object_name(d), d, size) for d, size in self.sizes.items()), (f"{folder}/{epoch}.age", epoch)]:
            with reporting():
                self.repo.open(*item).close()
        if identities and not os.path.exists(self.key):
            with reporting():
                self.unlock([*self.repo.glob(folder + "/*.age"), f"{folder}/{epoch}.age"], identities)
        if not os.path.exists(self.key):
            return
        with reporting("", Damage), self.decrypt(self.doc["manifest"], UNZSTD) as out:
            for stream, runs in itertools.groupby(self.lines(out), operator.itemgetter(0)):
                with reporting(f"{self.manifest}: {stream['asset']}: {stream['path'].decode(errors='backslashreplace')}: "):
                    self.restore(stream, runs)
        for digest in self.sizes.keys() - self.tried:
            with reporting(), self.decrypt(digest) as out:
                collections.deque(iter(lambda: out.read(MIB), b""), 0)
        for path, stream in sorted(self.late, key=operator.itemgetter(0), reverse=True):
            with reporting():
                dress(path, stream)

    def unlock(self, names, identities):
        """Open the epoch by one of its objects; the last is the one that the envelope names."""
        for name in names:
            try:
                with run(name, self.repo.open(name, name[-68:-4]), "age", "-d", *identities) as out:
                    keys = [line for line in out.read(KEY).splitlines() if line and line[:1] != b"#"]
                must(len(keys) == 1 and keys[0].startswith(b"AGE-SECRET-KEY-1"), f"{name}: is not an identity")
                with open(self.key, "wb") as key:
                    return key.write(keys[0])
            except Problem:
                if name == names[-1]:
                    raise

    @contextlib.contextmanager
    def decrypt(self, digest, *more):
        self.tried.add(digest)
        name = object_name(digest)
        with run(name, self.repo.open(name, digest, self.sizes[digest]), "age", "-d", "-i", self.key) as plain:
            if more: ...

    def read_pack(self, digest):
        with self.decrypt(digest) as out, tempfile.TemporaryFile() as plain:
            plain.write(out.read(PACK) or b"\0")  # an empty file could not be mapped
            plain.flush()
            return mmap.mmap(plain.fileno(), 0)
