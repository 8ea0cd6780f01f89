#!/usr/bin/env python3
"""Read a Strongroom backup repository without Strongroom; written from docs/format.md alone.

Needs Python 3.11 with the package `cryptography`, and the programs `age` and `zstd`. `verify` checks level L1 of the
format, with an identity L1 to L3. `restore` writes to DIR/<asset>/<absolute path>. In the place of an identity, `--share`
takes the shares of custodians (section 13), each in a file: the line SRSHARE1... or the words, not sealed any more. Keys and
plaintext lie in a private directory below $TMPDIR until the end. Each problem is one line on standard error; the exit status is then 1."""
import argparse, base64, collections, contextlib, functools, glob, hashlib, itertools, json, operator, os, re, signal
import subprocess, sys, tempfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AGE, UNZSTD, MIB, HOLE, problems = ["age", "-d"], ["zstd", "-d", "-c", "-q"], 1 << 20, memoryview(bytes(1 << 20)), []
SIGNED, LINE, PACK, FRAME, KEY, PACKS = 64 * MIB, MIB, 64 * MIB, 4 * MIB, 64 << 10, 2**31 - 1  # section 8
LABEL, NAME, PATH = r"\d{8}-\d{6}Z-[0-9a-z]{4}", r"(?!\.\.?\Z)[^/\0]+", rb"/|(/(?!\.\.?(/|\Z))[^/\0]+)+"
FIELDS = {"repository": "format previous deployment name created accepts recipients writers",
          "envelope": "format previous deployment started finished tool scope status repositories assets lock_until"}
SAME, CONTENT = ("deployment", "label", "repository"), ("file", "database", "dump")
FIRST = "repository/00000001.json"  # which is signed by its own writer
PLACES = {"manifest": ("start", "top"), "asset": ("top", "asset"), "stream": ("asset", None), "runs": ("asset", None),
          "pack": ("top, asset", None), "result": ("asset", "top"), "end": ("top", "end")}  # of a line, and after it
object_name, unbase64 = "objects/{0:.2}/{0}.age".format, functools.partial(base64.b64decode, validate=True)
class Problem(Exception): """Something is wrong with an object or a stream; the text begins with its name."""
class Damage(BaseException): """A manifest that cannot be followed any further, so not a matter of one stream."""
def must(condition, text):
    if not condition: raise Problem(text)
def say(text, to=None):
    print("".join(c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in text), file=to)
@contextlib.contextmanager
def reporting(prefix="", also=Exception):
    """Note a problem and report it, once, instead of stopping."""
    try:
        yield
    except (Exception, also) as problem:
        problems.append(text := f"{prefix}{problem}")
        if problems.count(text) == 1: say("error: " + text, sys.stderr)
def hexes(digits, *values): return all(isinstance(v, str) and re.fullmatch("[0-9a-f]{%d}" % digits, v) for v in values)
def ints(*values, low=0, high=2**63 - 1): return all(type(v) is int and low <= v <= high for v in values)
def fingerprint(key): return hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + unbase64(key)).hexdigest()
def parse(name, raw, fields=""):
    doc = json.loads(raw.decode())
    for field in fields.split():
        must(field in doc, f"{name}: lacks the field {field}")
        must(field != "format" or ints(doc[field], low=1, high=1), f"{name}: is of version {doc[field]!r}, not of 1")
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
        self.root, self.sound, self.keys, self.doc, self.backups, self.gone = root, set(), {}, {"writers": {}}, [], {}
        self.glob = lambda pattern: sorted(glob.glob(pattern, root_dir=root))  # other names are no part of a repository
        for self.doc in self.chain("repository", "repository/" + "[0-9]" * 8): self.keys |= self.doc["writers"]
        must(self.keys, f"{root}: holds no valid repository document")
        for name in self.glob("expired/" + "[0-9]" * 10 + ".json"):  # the highest number that is valid holds
            with reporting(): self.gone = self.signed("expired", name)["expired"]
        for name in self.glob("expired/copy-" + "[0-9]" * 10 + ".json")[::-1]:  # a copy's own; above `seen` both count
            with reporting():
                above, own = (doc := self.signed("expired", name))["copy"]["seen"].get, doc["expired"]
                say(f"{root}: is read as the copy {doc['copy']['name']}", sys.stderr)
                late = lambda w: [(max(a, above(w, 0) + 1), b) for a, b in self.gone.get(w, ()) if b > above(w, 0)]
                self.gone = {w: [*own.get(w, ()), *late(w)] for w in self.gone.keys() | own.keys()}
                break
        for folder in self.glob("envelopes/" + "[0-9a-f]" * 16):
            for doc in self.chain("envelope", f"{folder}/" + "[0-9]" * 10):
                self.backups.append(doc | {"bytes": sum(dict(doc.pop("objects")).values())})
    def open(self, name, digest=None, size=None):
        """Open an object whose stored bytes have this digest and this size."""
        must(os.path.isfile(os.path.join(self.root, name)), f"{name}: is missing")
        file = open(os.path.join(self.root, name), "rb", buffering=0)
        must(size in (None, stored := os.fstat(file.fileno()).st_size), f"{name}: has {stored} bytes instead of {size}")
        if digest and name not in self.sound:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            must(found == digest, f"{name}: the SHA-256 of its bytes is {found}")
            self.sound.add(name)
            file.seek(0)
        return file
    def signed(self, kind, name):
        """The payload of a signed document, once the signature of a writer holds."""
        with self.open(name) as file: stored = file.read(SIGNED + 1)
        must(len(stored) <= SIGNED, f"{name}: is longer than {SIGNED} bytes")
        try:
            sealed, media = parse(name, stored), f"application/vnd.strongroom.{kind}+json"
            [signature], payload = sealed["signatures"], unbase64(sealed["payload"])
            keyid, before = signature["keyid"], parse(name, payload, "format") if name == FIRST else self.doc
            keys = before["writers"] if kind == "repository" else self.keys
            must(sealed["payloadType"] == media and keyid in keys, f"{name}: is no {media} of a known writer ({keyid})")
            message = b"DSSEv1 %d %s %d %s" % (len(media), media.encode(), len(payload), payload)
            Ed25519PublicKey.from_public_bytes(unbase64(keys[keyid])).verify(unbase64(signature["sig"]), message)
            doc = parse(name, payload, FIELDS.get(kind, "format expired"))
            place = {"envelope": "envelopes/{writer}/{sequence:010}.json", "repository": "repository/{revision:08}.json",
                     "expired": f"expired/{'copy-' * ('copy' in doc)}{{number:010}}.json"}[kind]
            must(name == place.format(**doc) and doc.get("writer", keyid) == keyid and hexes(32, doc["repository"])
                 and doc["repository"] == self.doc.get("repository", doc["repository"]),
                 f"{name}: is {place.format(**doc)} of the repository {doc['repository']}, signed by {keyid}")
            for writer, key in doc.get("writers", {}).items():
                must(fingerprint(key)[:16] == writer, f"{name}: the key of {writer} has another fingerprint")
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
                digest = (doc := self.signed(kind, name))["digest"]
                yield doc
                gone = self.gone.get(doc.get("writer"), ()) if kind == "envelope" else ()
                due = set(range(before + 1, number)).difference(*(range(a, b + 1) for a, b in gone))
                must(not due, f"{name}: the document before it is missing")
                must(number > before + 1 or doc["previous"] == previous or before and not previous,
                     f"{name}: the digest `previous` is wrong")

class Backup:
    """A backup with its objects and streams, which are restored below the directory `out` if there is one."""
    def __init__(self, repo, name, out):
        self.repo, self.doc, self.out, self.tried, self.late = repo, repo.signed("envelope", name), out, set(), []
        self.sizes, self.manifest = dict(self.doc["objects"]), object_name(self.doc["manifest"])
        self.key = os.path.join(tempfile.tempdir, self.doc["epoch"]["id"])
        self.frame, self.pack = functools.lru_cache(48)(self.read_frame), functools.lru_cache(6)(self.read_pack)
    def walk(self, identities):
        """Check the objects (level L1); with identities, verify or restore all that they hold (L2 and L3)."""
        epoch = "epochs/{id}/{object}.age".format(**self.doc["epoch"])
        for item in [*((object_name(d), d, size) for d, size in self.sizes.items()), (epoch, epoch[-68:-4])]:
            with reporting(): self.repo.open(*item).close()
        if identities and not os.path.exists(self.key):
            with reporting(): self.unlock(sorted(self.repo.glob(epoch[:-68] + "*"), key=epoch.__eq__), identities)
        if not os.path.exists(self.key): return
        with reporting("", Damage), self.plain(self.doc["manifest"]) as age, run(self.manifest, age, *UNZSTD) as out:
            for stream, runs in itertools.groupby(self.lines(out), operator.itemgetter(0)):
                name = stream["path"].decode(errors="backslashreplace")
                with reporting(f"{self.manifest}: {stream['asset']}: {name}: "): self.restore(stream, runs)
        for digest in self.sizes.keys() - self.tried:
            with reporting(), self.plain(digest) as out: collections.deque(iter(lambda: out.read(MIB), b""), 0)
        for path, stream in sorted(self.late, key=operator.itemgetter(0), reverse=True):
            with reporting(): dress(path, stream)
    def unlock(self, names, identities):
        """Open the epoch by one of its objects; the last is the one that the envelope names."""
        for name in names:
            try:
                with run(name, self.repo.open(name, name[-68:-4]), *AGE, *("-i=" + file for file in identities)) as out:
                    keys = [line for line in out.read(KEY).splitlines() if line and line[:1] != b"#"]
                must(len(keys) == 1 and keys[0].startswith(b"AGE-SECRET-KEY-1"), f"{name}: is not an identity")
                with open(self.key, "wb") as key: return key.write(keys[0])
            except Problem:
                if name == names[-1]: raise
    def plain(self, digest):
        self.tried.add(digest)
        return run(name := object_name(digest), self.repo.open(name, digest, self.sizes[digest]), *AGE, "-i", self.key)
    def read_pack(self, digest):
        with self.plain(digest) as out: return out.read(PACK)
    def read_frame(self, digest, start):
        """The content of the zstd frame that begins at an offset of a pack (RFC 8878, section 3.1.1)."""
        name, data, block = object_name(digest), self.pack(digest), 0
        number = lambda at, length: int.from_bytes(data[at:at + length], "little")
        flags = number(start + 4, 1)
        single, length = flags >> 5 & 1, (flags >> 5 & 1, 2, 4, 8)[flags >> 6]
        at = start + 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]  # after the window descriptor and the dictionary ID
        size, at = number(at, length) + (256 if length == 2 else 0), at + length
        must(number(start, 4) == 0xFD2FB528 and length and size <= FRAME, f"{name}: no frame of valid size at {start}")
        while not block & 1 and at + 3 <= len(data):
            block = number(at, 3)
            at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        at += 4 * (flags >> 2 & 1)  # checksum
        must(block & 1 and at <= len(data), f"{name}: the frame at {start} is cut off")
        frame = tempfile.TemporaryFile()
        frame.write(data[start:at])
        frame.seek(0)
        with run(name, frame, *UNZSTD) as out: return out.read(size)
    def content(self, stream, runs):
        """The content of a stream in pieces; those of holes are slices of HOLE."""
        if stream["content"] == "artifact":
            with self.plain(stream["object"]) as plain, run(object_name(stream["object"]), plain, *UNZSTD) as out:
                yield from iter(lambda: out.read(MIB), b"")
        for pack, frame, offset, length in (run for _, run in runs if run):
            piece = self.frame(pack, frame)[offset:offset + length] if pack else b""
            must(not pack or len(piece) == length, f"{pack and object_name(pack)}: the frame at {frame} is too short")
            yield from [piece] if pack else (HOLE[:length - at] for at in range(0, length, MIB))
    def copy(self, stream, runs, file):
        """Write the content of a stream to a file, and check it."""
        digest, size = hashlib.sha256(), 0
        for piece in self.content(stream, runs):
            digest.update(piece)
            size += len(piece)
            must(size <= stream["size"], f"has more than {stream['size']} bytes")
            file.seek(len(piece), os.SEEK_CUR) if isinstance(piece, memoryview) else file.write(piece)
        must(digest.hexdigest() == stream["sha256"] and size == stream["size"], f"has {size} bytes of another SHA-256")
    def lines(self, source):
        """Check the manifest line by line; yield (stream, None) for a stream, (stream, run) for each of its runs."""
        where, place, counts, packs, left = self.manifest, "start", collections.Counter(), [], 0
        try:
            for number, line in enumerate(iter(lambda: source.readline(LINE + 1), b""), 1):
                where = f"{self.manifest}: line {number}"
                must(len(line.removesuffix(b"\n")) <= LINE, f"{where}: is longer than {LINE} bytes")
                doc = parse(where, line, "format" if number == 1 else "")
                kind = doc["type"]
                must(place in PLACES[kind][0] and (not left or kind in ("pack", "runs")),
                     f"{where}: a line of type {kind} is out of place, {left} bytes of content are due")
                place = PLACES[kind][1] or place
                counts[kind] += 1
                if kind == "manifest": must(all(doc[k] == self.doc[k] for k in SAME), f"{where}: is of another backup")
                elif kind == "asset": asset, kinds = re.fullmatch(NAME, doc["name"])[0], {}
                elif kind == "result": must(doc["name"] == asset, f"{where}: is the result of another asset")
                elif kind == "pack":
                    must(doc["object"] in self.sizes and len(packs) < PACKS, f"{where}: is no object of the backup")
                    packs.append(doc["object"])
                elif kind == "stream":
                    stream = self.stream(where, doc | {"asset": asset, "line": number}, kinds)
                    left = stream["size"] if stream.get("content") == "packed" else 0
                    yield stream, None
                elif kind == "runs":
                    for pack, frame, offset, length in doc["runs"]:
                        must(ints(pack, low=-1, high=len(packs) - 1) and ints(frame, high=PACK - 1) and ints(offset)
                             and ints(length, low=1, high=left), f"{where}: a run is not valid or exceeds the size")
                        left, counts["run"] = left - length, counts["run"] + 1
                        yield stream, (packs[pack] if pack >= 0 else None, frame, offset, length)
                else: must(all(doc[k + "s"] == counts[k] for k in ("asset", "stream", "run")), f"{where}: miscounts")
            must(place == "end", f"{self.manifest}: the end line is missing")
        except Exception as error:
            raise Damage(error if isinstance(error, Problem) else f"{where}: is not valid: {error!r}") from None
    def stream(self, where, doc, kinds):
        """Check a stream line; its names and attributes become bytes."""
        kind, content, (seconds, nanoseconds) = doc["kind"], doc.get("content"), doc["mtime"]
        for key in ("path", "target") if kind in ("symlink", "hardlink") else ("path",):
            doc[key] = doc[key].encode() if key in doc else unbase64(doc[key + "_base64"])
        doc["xattrs"] = {key: unbase64(value) for key, value in doc.get("xattrs", {}).items()}
        must(ints(doc["mode"], high=0o7777) and ints(doc["uid"], doc["gid"], high=2**32 - 2) and
             ints(seconds, low=-2**63) and ints(nanoseconds, high=10**9 - 1) and
             (content is None and kind in ("directory", "symlink", "hardlink") or kind in CONTENT and
              ints(doc["size"]) and hexes(64, doc["sha256"]) and
              (content == "packed" or content == "artifact" and doc["object"] in self.sizes)),
             f"{where}: one of mode, uid, gid, mtime, kind, size, sha256, content and object is not valid")
        must(re.fullmatch(PATH, doc["path"]) and doc["path"] not in kinds, f"{where}: the path is not valid or not new")
        must(kind != "hardlink" or kinds.get(doc["target"]) == "file", f"{where}: the target is no file before it")
        kinds[doc["path"]] = kind
        return doc
    def below(self, stream, path):
        """Where a path is restored to; its directory is made, and no symbolic link leads to it."""
        path = os.path.join(self.out, stream["asset"].encode(), path.lstrip(b"/"))
        must(os.path.realpath(folder := os.path.dirname(path)) == folder and not os.path.islink(path), "crosses a link")
        os.makedirs(folder, exist_ok=True)
        return path
    def restore(self, stream, runs):
        kind, path = stream["kind"], self.out and self.below(stream, stream["path"])
        if not path:
            with open(os.devnull, "wb") as file: return kind in CONTENT and self.copy(stream, runs, file)
        if kind == "directory": os.makedirs(path, exist_ok=True)
        elif kind == "symlink": os.symlink(stream["target"], path)
        elif kind == "hardlink": os.link(self.below(stream, stream["target"]), path, follow_symlinks=False)
        else:
            with open(path, "xb") as file, contextlib.ExitStack() as failed:  # 0600, by the umask
                failed.callback(os.unlink, path)
                self.copy(stream, runs, file)
                file.truncate(stream["size"])
                failed.pop_all()
        if kind == "directory": self.late.append((path, stream))
        elif kind != "hardlink": dress(path, stream)
BECH32, BECH32M, LETTERS = 1, 0x2bc830a3, "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP 173 and BIP 350
def polymod(prefix, values):
    check = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values]:
        top, check = check >> 25, (check & 0x1ffffff) << 5 ^ value
        for bit, row in enumerate((0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3)):
            check ^= row * (top >> bit & 1)
    return check
def spell(prefix, data):
    """Bech32 of some bytes: how age writes identities and recipients."""
    bits = "".join(f"{byte:08b}" for byte in data)
    values = [int(bits[at:at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    check = polymod(prefix, values + [0] * 6) ^ BECH32
    return prefix + "1" + "".join(LETTERS[v] for v in values + [check >> 5 * (5 - at) & 31 for at in range(6)])
class Share:
    """A share of an identity (section 13), from its line or its words."""
    def __init__(self, file):
        with open(file) as text: lines = [line.strip() for line in text if line.strip() and line.strip()[0] != "#"]
        must(lines, f"{file}: holds no share")
        if lines[0].lower().startswith("srshare1"):
            line = "".join("".join(lines).split())
            values = [LETTERS.find(letter) for letter in line.lower()[8:]]
            must(line in (line.lower(), line.upper()) and len(values) == 74 and min(values) >= 0
                 and polymod("srshare", values) == BECH32M and values[67] & 15 == 0, f"{file}: the checksum is wrong")
            bits = "".join(f"{value:05b}" for value in values[:68])[:336]
        else:
            with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "words.txt")) as text: known = text.read().split()
            words = [w.lower() for w in " ".join(lines).split() if not re.fullmatch(r"\d+[.):]*", w)]
            found = [[i for i, k in enumerate(known) if k == w] or [i for i, k in enumerate(known) if len(w) > 3 and k.startswith(w)]
                     for w in words]
            for at, numbers in enumerate(found): must(len(numbers) == 1, f"{file}: word {at + 1} is not in the list")
            must(len(found) == 33, f"{file}: has {len(found)} words, not 33")
            bits = "".join(f"{numbers[0]:011b}" for numbers in found)
            digest = hashlib.sha256(b"strongroom custody words v1\n" + int(bits[:336], 2).to_bytes(42)).digest()
            must(bits[336:] == f"{int.from_bytes(digest):0256b}"[:27], f"{file}: the checksum of the words is wrong")
        data = int(bits[:336], 2).to_bytes(42)
        must(data[0] == 1, f"{file}: is of version {data[0]}, not of 1")
        self.file, self.needed, self.index, self.set = file, (data[1] >> 4) + 1, (data[1] & 15) + 1, data[2:10].hex()
        self.value = data[10:]
def times(a, b):
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b: product, a, b = product ^ a * (b & 1), a << 1 ^ (a >> 7) * 0x11d, b >> 1
    return product
def combine(files):
    """The identity that these shares give together, as age writes it."""
    shares = [Share(file) for file in files]
    must(len({share.set for share in shares}) == 1, "the shares are of several sets: "
         + ", ".join(f"{share.file} of {share.set}" for share in shares))
    for at, share in enumerate(shares):
        same = [other.file for other in shares[:at] if other.index == share.index]
        must(not same, f"{share.file}: has the number {share.index}, as {''.join(same)} has")
    needed = shares[0].needed
    must(len(shares) >= needed, f"{len(shares)} of {needed} shares are there, of the set {shares[0].set}")
    for chosen in itertools.combinations(shares, needed):
        secret = bytes(32)
        for one in chosen:
            weight = 1  # the Lagrange polynomial of this share at 0; in this field a^254 is 1 / a
            for x in (other.index for other in chosen if other is not one):
                weight = times(times(weight, x), functools.reduce(times, [x ^ one.index] * 254))
            secret = bytes(a ^ times(weight, b) for a, b in zip(secret, one.value))
        public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        text = f"strongroom custody set v1\n{needed}\n{spell('age', public)}\n"
        if hashlib.sha256(text.encode()).hexdigest()[:16] == shares[0].set: return spell("age-secret-key-", secret).upper()
    raise Problem("the shares do not give the identity of their set: one of them is false")
def dress(path, stream):
    """Give what is restored its owner (when root), attributes, mode and time."""
    if os.geteuid() == 0: os.chown(path, stream["uid"], stream["gid"], follow_symlinks=False)
    for name, value in stream["xattrs"].items(): os.setxattr(path, name, value, follow_symlinks=False)
    if stream["kind"] != "symlink": os.chmod(path, stream["mode"])
    os.utime(path, ns=(stream["mtime"][0] * 10**9 + stream["mtime"][1],) * 2, follow_symlinks=False)
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "verify", "restore"))
    parser.add_argument("repository", metavar="REPO_DIR")
    parser.add_argument("--label", default="all", help="LABEL, latest or (not for restore) all")
    parser.add_argument("--identity", metavar="FILE", nargs="+", action="extend", default=[])
    parser.add_argument("--share", metavar="FILE", nargs="+", action="extend", default=[])
    parser.add_argument("--out", metavar="DIR")
    args = parser.parse_args()
    restore, label, out = args.command == "restore", args.label, args.out
    if not re.fullmatch(LABEL + "|latest|all", label) or restore and not (label != "all" and args.identity + args.share and out):
        parser.error("LABEL is not valid, or restore lacks --label, --identity or --share, or --out")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, lambda *_: sys.exit(1))
    os.umask(0o077)
    with reporting(), tempfile.TemporaryDirectory() as tempfile.tempdir:
        repo = Repository(args.repository)
        current = [b for b in repo.backups if b["writer"] in repo.doc["writers"]]
        must(label != "latest" or len({b["writer"] for b in current}) < 2, "envelopes: several writers, give a label")
        chosen = current[-1:] if label == "latest" else [b for b in repo.backups if label in ("all", b["label"])]
        must(chosen or label == "all", f"envelopes: no valid one has the label {label}")
        if restore:
            os.makedirs(out, exist_ok=True)
            must(not os.listdir(out), f"{out}: is not empty")
        if args.share:
            with open(os.path.join(tempfile.tempdir, "quorum"), "w") as file: file.write(combine(args.share) + "\n")
            args.identity.append(file.name)
        for key in repo.keys.values(): say(f"writer {fingerprint(key)}")
        for backup in chosen:
            before, target = len(problems), restore and os.fsencode(os.path.realpath(out))
            if args.command != "list": Backup(repo, backup["file"], target).walk(args.identity)
            failed = ", FAILED" if len(problems) > before else ""
            say("{label}: run {run}, {status}, {scope}, {bytes} bytes".format(**backup) + failed)
    sys.exit(1 if problems else 0)
if __name__ == "__main__": main()
