"""Ways to dump and load a PostgreSQL database, compared: time, size, and what deduplicates after the change.

    plain          one plain pg_dump; loaded by psql
    custom         pg_dump -Fc -Z0; loaded by pg_restore -j2
    text-1/-2      pg_dump --schema-only and one COPY ... TO STDOUT a table by psql, under one exported snapshot, one
                   or two tables at a time; loaded by pg_restore for the schema, two COPY ... FROM STDIN at a
                   time, and pg_restore -j2 for indexes and constraints
    binary-1/-2    the same with COPY ... (FORMAT binary)
    text-2-ranges  as text-2, tables above a size cut into ranges of ctid, so that two processes share a
                   large one, on the way in too

Run as a process of its own, dumpformats.py cut OLD NEW ROWS prints what is new in NEW, a file or a directory.
"""

import json
import queue
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pgdata
import pgreport
from measure import files, tree_bytes, warm
from report import MB, heading, table
from rounds import say
from statistics import median
from tools import Failure

FORMATS = ("plain", "custom", "text-1", "text-2", "text-2-ranges", "binary-1", "binary-2")
LOADED = ("plain", "custom", "text-2", "text-2-ranges", "binary-2")
CUT = ("plain", "custom", "text-2", "binary-2")
RANGE_BYTES = 64 << 20      # a table file larger than this is cut in ranges
NEW = "restored"


# --- content-defined chunks -------------------------------------------------------------------------------------

KIB = 1024
GEAR = [random.Random(7).getrandbits(30 * 256) >> 30 * n & (1 << 30) - 1 for n in range(256)]


def gear_chunks(data, average):
    """FastCDC's way: a gear hash, a smallest size skipped, a stricter mask at first and a laxer one later."""
    bits, low, high = average.bit_length() - 1, average // 4, average * 8
    centre = average - low - low // 2       # where the masks change, so that the mean is near the average
    strict, lax = ((1 << n) - 1 << 30 - n for n in (bits + 1, bits - 1))
    gear, keep, start, size = GEAR, (1 << 30) - 1, 0, len(data)
    while start < size:
        at, end, value = start + low, min(start + high, size), 0
        cut = end
        for limit, mask in ((min(start + centre, end), strict), (end, lax)):
            for byte in data[at:limit]:
                value = (value << 1 & keep) + gear[byte] & keep
                at += 1
                if not value & mask:
                    cut = at
                    break
            else:
                at = max(at, limit)
                continue
            break
        yield data[start:cut]
        start = cut


def row_chunks(data, average):
    """Whole rows: a chunk ends after a row whose hash says so, more likely the longer the row."""
    held, size = [], 0
    for line in data.splitlines(keepends=True):
        held.append(line)
        size += len(line)
        if hash(line) % average < len(line) or size >= 8 * average:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def single_rows(data, _):
    yield from data.splitlines(keepends=True)


def new_bytes(old, new, chunker, average):
    """Chunks of the new dump that the old one has not: bytes, compressed bytes, number; and all chunks of it."""
    piece = 64 << 20        # held at a time; the last chunk of a piece is cut again with the next piece

    def chunks(path):
        for file in sorted(files(path)):
            with open(file, "rb") as stream:
                rest = b""
                while block := stream.read(piece):
                    found = list(chunker(rest + block, average))
                    rest = found.pop()
                    yield from found
                if rest:
                    yield rest

    known, total, count, size = {hash(chunk) for chunk in chunks(old)}, 0, 0, 0

    def unseen():
        nonlocal total, count, size
        for chunk in chunks(new):
            total += 1
            if (key := hash(chunk)) not in known:
                known.add(key)
                count += 1
                size += len(chunk)
                yield chunk

    compressed = pgdata.zstd_size(unseen())
    return {"bytes": size, "zstd": compressed, "chunks": count, "all_chunks": total}


CUTTERS = {"gear 8 KiB": (gear_chunks, 8 * KIB), "gear 4 KiB": (gear_chunks, 4 * KIB),
           "rows 8 KiB": (row_chunks, 8 * KIB), "rows 4 KiB": (row_chunks, 4 * KIB), "single rows": (single_rows, 0)}


def cut(old, new, text):
    """What is new for every way to cut; rows can only be told apart in text."""
    return {name: new_bytes(old, new, *cutter) for name, cutter in CUTTERS.items()
            if text or cutter[0] is gear_chunks}


# --- dump -------------------------------------------------------------------------------------------------------

class Formats:
    """The commands of each format on the private server."""

    def __init__(self, cluster, work):
        self.cluster, self.work = cluster, work

    def run(self, *argv, stdin=None, to=subprocess.DEVNULL):
        done = subprocess.run(list(map(str, argv)), env=self.cluster.env, stdin=stdin or subprocess.DEVNULL, stdout=to,
                              stderr=subprocess.PIPE)
        if done.returncode:
            raise Failure(f"{Path(argv[0]).name}: {done.stderr.decode(errors='replace').strip()}")

    def tables(self, database):
        """Names, pages and bytes of the tables, the largest first."""
        rows = self.cluster.sql(database, "SELECT relname, pg_relation_size(oid) / 8192, pg_table_size(oid)"
                                " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
                                " ORDER BY 3 DESC")
        return [(name, int(pages), int(size)) for name, pages, size in map(str.split, rows.splitlines())]

    def at_a_time(self, number, tasks, action):
        """Run the tasks, so many at a time, in their order."""
        waiting, errors = queue.SimpleQueue(), []
        for task in tasks:
            waiting.put(task)

        def work():
            try:
                while not errors:
                    action(*waiting.get_nowait())
            except queue.Empty:
                pass
            except (Failure, OSError) as error:
                errors.append(error)

        workers = [threading.Thread(target=work) for _ in range(number)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]

    def dump(self, form, database, target=None):
        """Write a dump into the directory `target`, or to nowhere."""
        def write(name, *argv):
            with open(target / name if target else "/dev/null", "wb") as to:
                self.run(*argv, to=to)

        if form == "plain":
            return write("plain.sql", *self.cluster.dump(database))
        if form == "custom":
            return write("custom.dump", *self.cluster.dump(database, "-Fc", "-Z0"))
        kind, number, *ranges = form.split("-")
        psql = [self.cluster.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", database]
        holder = subprocess.Popen([*psql, "-At"], env=self.cluster.env, text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
            holder.stdin.write(f"{begin} SELECT pg_export_snapshot();\n")
            holder.stdin.flush()
            snapshot = holder.stdout.readline().strip()
            if not snapshot:
                raise Failure("psql exported no snapshot")
            write("schema.dump",
                  *self.cluster.dump(database, "-Fc", "--schema-only", "-Z0", f"--snapshot={snapshot}"))
            options = " (FORMAT binary)" if kind == "binary" else ""

            def copy(name, part, condition):
                what = f"(SELECT * FROM ONLY {name} {condition})" if condition else name
                write(f"{name}.{part}.copy", *psql, "-c", f"{begin} SET TRANSACTION SNAPSHOT '{snapshot}'",
                      "-c", "SET synchronize_seqscans = off; SET extra_float_digits = 3",
                      "-c", f"COPY {what} TO STDOUT{options}")

            self.at_a_time(int(number), self.parts(database, bool(ranges)), copy)
        finally:
            holder.communicate("COMMIT;\n")

    def parts(self, database, ranges):
        """Table, number of the part, condition; the parts follow each other in their table."""
        for name, pages, size in self.tables(database):
            count = -(-size // RANGE_BYTES) if ranges else 1
            if count < 2:
                yield name, 0, ""
                continue
            for part in range(count):
                first, last = pages * part // count, pages * (part + 1) // count
                upper = f" AND ctid < '({last},0)'" if part + 1 < count else ""
                yield name, part, f"WHERE ctid >= '({first},0)'{upper}"

    # --- load ---

    def load(self, form, source):
        """Load a dump from the directory `source` into a new database."""
        into = [self.cluster.program("createdb"), "-T", "template0", NEW]
        psql = [self.cluster.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", NEW]
        restore = [self.cluster.program("pg_restore"), "--exit-on-error", "-d", NEW]
        self.run(*into)
        if form == "plain":
            return self.run(*psql, "-f", source / "plain.sql")
        if form == "custom":
            return self.run(*restore, "-j2", source / "custom.dump")
        options = " WITH (FORMAT binary)" if form.startswith("binary") else ""
        self.run(*restore, "--section=pre-data", source / "schema.dump")

        def copy(path):
            with open(path, "rb") as file:
                self.run(*psql, "-c", f"COPY {path.name.split('.')[0]} FROM STDIN{options}", stdin=file)

        largest_first = sorted(source.glob("*.copy"), key=lambda path: -path.stat().st_size)
        self.at_a_time(2, [(path,) for path in largest_first], copy)
        self.run(*restore, "-j2", "--section=post-data", source / "schema.dump")


def measure_formats(cluster, work, data, repetitions, chunks):
    """Samples of dump and load times, sizes, and, if wanted, new bytes after the change, of every format."""
    formats, rooms = Formats(cluster, work), work / "formats"
    result = {form: {"dump": [], "load": []} for form in FORMATS}
    shutil.rmtree(rooms, ignore_errors=True)
    try:
        for form in LOADED:
            say(f"{form}: dump before and after ...")
            for which in ("base", "changed"):
                (rooms / which / form).mkdir(parents=True)
                formats.dump(form, data[which], rooms / which / form)
            result[form]["bytes"] = tree_bytes(rooms / "changed" / form)
        for number in range(repetitions):
            turn = number % len(FORMATS)
            order = FORMATS[turn:] + FORMATS[:turn]
            for form in order:
                warm(cluster.directory(data["changed"]))
                start = time.perf_counter()
                formats.dump(form, data["changed"])
                result[form]["dump"].append(time.perf_counter() - start)
                say(f"  {form:<15}dump {result[form]['dump'][-1]:8.2f} s")
            for form in (form for form in order if form in LOADED):
                source = rooms / "changed" / form
                cluster.drop(NEW)
                warm(source)
                start = time.perf_counter()
                formats.load(form, source)
                result[form]["load"].append(time.perf_counter() - start)
                say(f"  {form:<15}load {result[form]['load'][-1]:8.2f} s")
                if number == 0:
                    check(cluster, form, data)
        for form in CUT if chunks else ():
            say(f"{form}: cut in chunks ...")
            done = subprocess.run([sys.executable, __file__, "cut", rooms / "base" / form, rooms / "changed" / form,
                                   "text" if form in ("plain", "text-2") else "bytes"],
                                  stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise Failure("dumpformats.py cut failed")
            result[form]["new"] = json.loads(done.stdout)
    finally:
        cluster.drop(NEW)
        shutil.rmtree(rooms, ignore_errors=True)
    return result


def check(cluster, form, data):
    """A loaded database has the rows and the schema of the one dumped; of COPY alone, not its sequences."""
    done = subprocess.run([sys.executable, Path(__file__).with_name("pgdata.py"), "database", cluster.bin, NEW],
                          stdout=subprocess.PIPE, text=True, env=cluster.env)
    found = json.loads(done.stdout or "{}")
    for part in ("tables", "schema"):
        if found.get(part) != data["changed_database"][part]:
            raise Failure(f"{form}: {part} loaded are not those dumped")


def report(result):
    formats = result["formats"]

    def times(form, key):
        found = formats[form][key]
        return f"{min(found):.2f} ({median(found):.2f})" if found else "-"

    def new(form, cutter):
        found = formats[form].get("new", {}).get(cutter)
        return f"{found['bytes'] / MB:.2f} / {found['zstd'] / MB:.2f}" if found else "-"

    def mean(form, cutter):
        found = formats[form].get("new", {}).get(cutter)
        return f"{formats[form]['bytes'] / found['all_chunks']:.0f}" if found else "-"

    bare = min(formats["plain"]["dump"])
    lines = [
        *heading(result, f"Ways to dump a PostgreSQL database, {result['data']['megabytes']} MB"), "",
        *pgreport.data_set(result["data"]), "", "## Time in seconds, minimum (median), and size", "",
        table(["", "dump to /dev/null", "of plain", "size, MB", "load, 2 jobs"],
              [[form, times(form, "dump"), f"{min(formats[form]['dump']) / bare:.2f}",
                f"{formats[form]['bytes'] / MB:.1f}" if "bytes" in formats[form] else "-", times(form, "load")]
               for form in FORMATS])]
    if any("new" in formats[form] for form in CUT):
        lines += ["", "## New after the change, in MB: chunks not seen before / the same after zstd -3", "",
                  table(["", *CUTTERS], [[form, *(new(form, cutter) for cutter in CUTTERS)] for form in CUT]),
                  "", "## Mean size of a chunk in bytes", "",
                  table(["", *CUTTERS], [[form, *(mean(form, cutter) for cutter in CUTTERS)] for form in CUT])]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["cut"] and len(sys.argv) == 5:
        print(json.dumps(cut(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "text")))
    else:
        sys.exit(__doc__)
