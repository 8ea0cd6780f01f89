"""The data set: a certificate authority's SQLite database, before and after a day of work.

Everything follows from a fixed seed: the same Python and SQLite make the same bytes. A prepared size is kept as

    <data dir>/<N>MB-v<VERSION>/base.sqlite3      N * 10^6 bytes, checkpointed, WAL mode
    <data dir>/<N>MB-v<VERSION>/changed.sqlite3   the same after the change step
    <data dir>/<N>MB-v<VERSION>/info.json         sizes, digests, compressed size of the changed pages

The harness runs this module as a process of its own, so that its memory never counts as a tool's
(see measure.py). Run by hand: dataset.py prepare DIR MB | dataset.py check RESTORED EXPECTED SHA256-OF-EXPECTED
"""

import datetime
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

VERSION = 1          # raise it when a change below changes the bytes produced
SEED = 20260101
PAGE = 4096
FRAME = 1 << 20      # the changed pages are compressed in pieces of this size
BATCH = 1000         # certificates between two looks at the size reached
BYTES_PER_CERTIFICATE = 2170    # in the finished file, all tables and indices together; spreads the issue dates
NEW_PERCENT, REVOKED_PERCENT = 2, 1

SCHEMA = """
CREATE TABLE accounts (id INTEGER PRIMARY KEY, contact TEXT NOT NULL, status TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, account INTEGER NOT NULL REFERENCES accounts(id),
    status TEXT NOT NULL, expires TEXT NOT NULL, identifiers TEXT NOT NULL);
CREATE TABLE certificates (id INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
    status TEXT NOT NULL, not_before TEXT NOT NULL, not_after TEXT NOT NULL, revoked_at TEXT, der BLOB NOT NULL);
CREATE INDEX certificates_status ON certificates (status, not_after);
CREATE TABLE audit (id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
    object TEXT NOT NULL);
"""
INSERT_CERTIFICATE = "INSERT INTO certificates VALUES (NULL,?,?,?,?,?,?,?)"

FIRST = "amber basalt cedar delta ember fjord granite harbor indigo juniper krypton linden meridian nova".split()
SECOND = "analytics bank energy foods health logistics media networks optics rail shipping systems".split()
PLACES = [("BE", "Ghent"), ("CH", "Winterthur"), ("DE", "Leipzig"), ("ES", "Bilbao"), ("FI", "Tampere"),
          ("FR", "Rennes"), ("IT", "Bergamo"), ("NL", "Delft"), ("PT", "Braga"), ("SE", "Lund")]
HOSTS = "api auth db gw imap ldap mail mq ns proxy sso vpn web www".split()


# --- certificates -----------------------------------------------------------------------------------------------

def tlv(tag, *parts):
    """One DER element."""
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    if size < 256:
        return bytes((tag, 0x81, size)) + body
    return bytes((tag, 0x82, size >> 8, size & 255)) + body


def seq(*parts):
    return tlv(0x30, *parts)


def oid(text):
    first, second, *rest = (int(n) for n in text.split("."))
    out = bytearray([first * 40 + second])
    for n in rest:
        groups = [n & 127]
        while n := n >> 7:
            groups.append(128 | n & 127)
        out += bytes(reversed(groups))
    return tlv(0x06, bytes(out))


def name(*pairs):
    return seq(*(tlv(0x31, seq(oid("2.5.4." + kind), tlv(0x13 if kind == "6" else 0x0C, value.encode())))
                 for kind, value in pairs))


def extension(kind, value, critical=False):
    return seq(oid(kind), b"\x01\x01\xff" if critical else b"", tlv(0x04, value))


SIGNATURE_ALGORITHM = seq(oid("1.2.840.113549.1.1.11"), b"\x05\x00")
KEY_ALGORITHM = seq(oid("1.2.840.113549.1.1.1"), b"\x05\x00")
ISSUER = name(("6", "CH"), ("10", "Example Trust Services"), ("3", "Example Organisation Validation CA G3"))
EXTENSIONS = b"".join((
    extension("2.5.29.15", b"\x03\x02\x05\xa0", critical=True),
    extension("2.5.29.37", seq(oid("1.3.6.1.5.5.7.3.1"), oid("1.3.6.1.5.5.7.3.2"))),
    extension("2.5.29.19", seq(), critical=True),
    extension("2.5.29.35", seq(tlv(0x80, hashlib.sha1(b"issuing key").digest()))),
    extension("1.3.6.1.5.5.7.1.1", seq(
        seq(oid("1.3.6.1.5.5.7.48.1"), tlv(0x86, b"http://ocsp.g3.ca.example")),
        seq(oid("1.3.6.1.5.5.7.48.2"), tlv(0x86, b"http://certs.ca.example/issuing-g3.crt")))),
    extension("2.5.29.31", seq(seq(tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://crl.ca.example/issuing-g3.crl")))))),
    extension("2.5.29.32", seq(seq(oid("2.23.140.1.2.2")))),
))


def certificate(rng, serial, subject, host, not_before, not_after):
    """A certificate like an RSA-2048 one: key, signature, serial and key identifier are random."""
    modulus = b"\x00" + bytes([rng.getrandbits(8) | 128]) + rng.randbytes(255)
    key = seq(tlv(0x02, modulus), b"\x02\x03\x01\x00\x01")
    times = (tlv(0x17, (t[2:4] + t[5:7] + t[8:10] + t[11:13] + t[14:16] + t[17:19] + "Z").encode())
             for t in (not_before, not_after))
    body = seq(
        b"\xa0\x03\x02\x01\x02", tlv(0x02, serial), SIGNATURE_ALGORITHM, ISSUER, seq(*times), name(*subject),
        seq(KEY_ALGORITHM, tlv(0x03, b"\x00", key)),
        tlv(0xA3, seq(EXTENSIONS,
                      extension("2.5.29.14", tlv(0x04, hashlib.sha1(key).digest())),
                      extension("2.5.29.17", seq(tlv(0x82, host.encode()), tlv(0x82, b"www." + host.encode()))))))
    return seq(body, SIGNATURE_ALGORITHM, tlv(0x03, b"\x00", rng.randbytes(256)))


DAYS = [(datetime.date(2016, 1, 1) + datetime.timedelta(days)).isoformat() for days in range(5000)]
TODAY = 3288         # 2025-01-01, as an index into DAYS
DAYS_OF_HISTORY = 3200


def moment(rng, day):
    s = rng.randrange(86400)
    return f"{DAYS[day]}T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}Z"


def certificate_row(rng, day):
    """The columns of a certificate issued on `day`, but for the id."""
    serial = bytes([rng.randrange(1, 128)]) + rng.randbytes(15)
    organisation = f"{rng.choice(FIRST)}-{rng.choice(SECOND)}"
    host = f"{rng.choice(HOSTS)}-{rng.getrandbits(20):05x}.{organisation}.example"
    country, place = rng.choice(PLACES)
    title = organisation.replace("-", " ").title()
    last = day + rng.choice((90, 365, 365, 730))
    not_before = moment(rng, day)
    not_after = DAYS[last] + not_before[10:]
    status, revoked_at = ("expired" if last < TODAY else "valid"), None
    if day < TODAY and rng.random() < 0.06:
        status, revoked_at = "revoked", moment(rng, rng.randrange(day, last))
    der = certificate(rng, serial, (("6", country), ("7", place), ("10", title), ("3", host)), host,
                      not_before, not_after)
    return serial.hex(), f"CN={host},O={title},L={place},C={country}", status, not_before, not_after, revoked_at, der


# --- the two databases ------------------------------------------------------------------------------------------

def finish(db):
    """Leave a checkpointed database in WAL mode, without -wal and -shm files."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def build_base(path, size_bytes):
    """Issue certificates day by day until the file has the wanted size. Returns their number."""
    rng = random.Random(SEED)
    db = sqlite3.connect(path, isolation_level=None)
    for setting in (f"page_size = {PAGE}", "journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
        db.execute("PRAGMA " + setting)
    db.executescript(SCHEMA)
    db.execute("BEGIN")
    expected, count = max(size_bytes // BYTES_PER_CERTIFICATE, 1), 0
    while db.execute("PRAGMA page_count").fetchone()[0] * PAGE < size_bytes:
        day = min(count * DAYS_OF_HISTORY // expected, DAYS_OF_HISTORY)
        db.executemany(INSERT_CERTIFICATE, (certificate_row(rng, day) for _ in range(BATCH)))
        db.executemany("INSERT INTO accounts VALUES (NULL,?,?,?)", (
            (f"mailto:ops-{rng.getrandbits(24):06x}@{rng.choice(FIRST)}.example", "valid", moment(rng, day))
            for _ in range(BATCH // 100)))
        accounts = (count + BATCH) // 100
        db.executemany("INSERT INTO orders VALUES (NULL,?,?,?,?)", (
            (rng.randint(1, accounts), "valid", moment(rng, day + 7),
             json.dumps([{"type": "dns", "value": f"{rng.choice(HOSTS)}-{rng.getrandbits(20):05x}.example"}]))
            for _ in range(BATCH // 10)))
        db.executemany("INSERT INTO audit VALUES (NULL,?,?,?,?)", (
            (moment(rng, day), f"officer-{rng.randrange(12)}", "issue", f"certificate/{count + n + 1}")
            for n in range(BATCH // 4)))
        count += BATCH
    db.execute("COMMIT")
    finish(db)
    return count


def apply_change(path, count):
    """2 % new certificates with random serials; 1 % random certificates revoked."""
    rng = random.Random(SEED + 1)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size = -262144")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("BEGIN")
    db.executemany(INSERT_CERTIFICATE,
                   (certificate_row(rng, TODAY) for _ in range(count * NEW_PERCENT // 100)))
    db.executemany("UPDATE certificates SET status = 'revoked', revoked_at = ? WHERE id = ?",
                   ((moment(rng, TODAY), n) for n in rng.sample(range(1, count + 1), count * REVOKED_PERCENT // 100)))
    db.execute("COMMIT")
    finish(db)


def changed_pages(before, after):
    """The pages of `after` that are new or differ, one after the other."""
    with open(before, "rb") as old, open(after, "rb") as new:
        while block := new.read(FRAME):
            other = old.read(FRAME)
            if block == other:
                continue
            for at in range(0, len(block), PAGE):
                if (page := block[at:at + PAGE]) != other[at:at + PAGE]:
                    yield page


def compressed_size(pages, levels=(1, 3)):
    """Number of pages, and their size after zstd at each level in frames of 1 MiB."""
    count, sizes, frame = 0, {level: 0 for level in levels}, bytearray()

    def flush():
        for level in levels:
            sizes[level] += len(subprocess.run(
                ["zstd", "-q", "-c", f"-{level}", f"--stream-size={len(frame)}"],
                input=frame, stdout=subprocess.PIPE, check=True).stdout)
        frame.clear()

    for page in pages:
        count += 1
        frame += page
        if len(frame) >= FRAME:
            flush()
    if frame:
        flush()
    return count, sizes


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(data_dir, megabytes):
    """Make the data set of this size, or find it ready. Returns info.json with the directory added."""
    final = Path(data_dir) / f"{megabytes}MB-v{VERSION}"
    if not (final / "info.json").exists():
        work = final.with_suffix(".partial")
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        work.mkdir(parents=True)
        base, changed = work / "base.sqlite3", work / "changed.sqlite3"
        count = build_base(base, megabytes * 10**6)
        shutil.copyfile(base, changed)
        apply_change(changed, count)
        pages, sizes = compressed_size(changed_pages(base, changed))
        info = {"megabytes": megabytes, "generator": VERSION, "certificates": count,
                "base_bytes": base.stat().st_size, "changed_bytes": changed.stat().st_size,
                "base_sha256": sha256(base), "changed_sha256": sha256(changed),
                "changed_pages": pages, "changed_pages_bytes": pages * PAGE,
                "changed_pages_zstd": {str(level): size for level, size in sizes.items()}}
        (work / "info.json").write_text(json.dumps(info, indent=1) + "\n")
        work.rename(final)
    return json.loads((final / "info.json").read_text()) | {"dir": str(final)}


# --- is a restored database the expected one? -------------------------------------------------------------------

# Header fields that SQLite's online backup sets anew in the copy: journal mode (18-19), change counter (24),
# schema cookie (40), version-valid-for and library version (92-99).
VOLATILE = ((18, 20), (24, 28), (40, 44), (92, 100))


def same_pages(one, other):
    """Equal byte for byte but for the volatile header fields."""
    with open(one, "rb") as a, open(other, "rb") as b:
        first = True
        while True:
            x, y = bytearray(a.read(FRAME)), bytearray(b.read(FRAME))
            if first:
                for start, end in VOLATILE:
                    x[start:end] = y[start:end] = bytes(end - start)
                first = False
            if x != y:
                return False
            if not x:
                return True


def content_digest(path):
    """SHA-256 over schema and rows, like a dump; None if the database is damaged."""
    db = sqlite3.connect(path)
    try:
        if db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            return None
        digest = hashlib.sha256()
        schema = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        for kind, table, sql in schema:
            digest.update(repr((kind, table, sql)).encode())
            if kind == "table":
                for row in db.execute(f'SELECT * FROM "{table}" ORDER BY rowid'):
                    digest.update(repr(row).encode())
        return digest.hexdigest()
    except sqlite3.DatabaseError:
        return None
    finally:
        db.close()


def check(restored, expected, expected_sha256):
    """How the two databases agree: 'bytes', 'pages' (but for volatile header fields), 'content', or None."""
    if sha256(restored) == expected_sha256:
        return "bytes"
    if same_pages(restored, expected):
        return "pages"
    found = content_digest(restored)
    return "content" if found and found == content_digest(expected) else None


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"] and len(sys.argv) == 4:
        print(json.dumps(prepare(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 5:
        print(json.dumps(check(*sys.argv[2:])))
    else:
        sys.exit(__doc__)
