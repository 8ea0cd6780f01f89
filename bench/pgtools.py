"""The programs under measurement on a PostgreSQL database, and their command lines.

The peers get what `pg_dump` writes, on stdin, so that its failure is noticed: by a command they start themselves,
or by a pipe under `pipefail`. restic and rustic are told `--force`: from stdin there is
no time stamp to trust. Everything else is default, but for the compression of the runbooks' pipe, which is theirs.
"""

import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import tools
from tools import BACKUPS, Failure

STEPS = (*BACKUPS, "decode", "server")
DUMP = "ca.sql"
NEW = "restored"        # the database that a restore into the server makes


def pipe(*commands, to=None):
    """A command line for bash: commands joined by pipes, any failure counts."""
    line = " | ".join(shlex.join(map(str, command)) for command in commands)
    return ["bash", "-c", f"set -o pipefail; {line}{f' > {shlex.quote(str(to))}' if to else ''}"]


def then(*commands):
    """A command line for bash: one command after the other, the first failure ends it; output is dropped."""
    return ["bash", "-c", " && ".join(shlex.join(map(str, command)) for command in commands) + " > /dev/null"]


class Fed:
    """What tools on a PostgreSQL database share; comes before the class of the tool in tools.py."""
    steps = (*BACKUPS, "decode")

    def enter(self, room, source):
        super().enter(room, source)
        self.cluster, self.database, self.local = source
        self.env |= self.cluster.connection()
        self.env["PATH"] = f"{self.cluster.bin}:{self.env['PATH']}"
        self.dump = self.cluster.dump(self.database)

    def decode(self, target):
        """The command that brings the latest backup back into the empty directory `target`."""
        raise NotImplementedError

    def decoded(self, target):
        """The arguments of pgdata.py that digest what decode() left in `target`."""
        return "plain", target / DUMP


class Strongroom(Fed, tools.Strongroom):
    """All command lines of Strongroom for this benchmark are in this class and in tools.Strongroom."""
    steps = STEPS
    level = "digests"

    def asset(self):
        return f"""\
[asset.database]
source = "postgresql"
class = "database"
url = "{self.cluster.url(self.database)}"
jobs = 2
facts = "{self.level}"
"""

    def decode(self, target):
        return self.restore(target)

    def decoded(self, target):
        return "copies", target

    def server(self):
        return self.command("--json", "restore", "latest", "--identity", "bench.identity", "--to-database", NEW, "--apply")

    def facts(self, step, stdout):
        if step != "server":
            return super().facts(step, stdout)
        seconds = json.loads(stdout)["seconds"]
        return {part: sum(value for what, value in seconds.items() if what.endswith(part))
                for part in ("loaded", "compared")}


class StrongroomCounts(Strongroom):
    """The same without digests: the difference is what they cost."""
    name, level, steps = "strongroom-counts", "counts", BACKUPS

    def version(self):
        return ""       # that of Strongroom


class Restic(Fed, tools.Restic):
    def find(self, work, install):
        super().find(work, install)
        usage = subprocess.run([self.binary, "backup", "--help"], capture_output=True, text=True).stdout
        self.starts_commands = "--stdin-from-command" in usage

    def backup(self, step):
        backup = [self.binary, "backup", "--force", "--stdin-filename", DUMP]
        if self.starts_commands:
            return [*backup, "--stdin-from-command", "--", *self.dump]
        return pipe(self.dump, [*backup, "--stdin"])

    def decode(self, target):
        return pipe([self.binary, "dump", "latest", f"/{DUMP}"], to=target / DUMP)


class Rustic(Fed, tools.Rustic):
    def backup(self, step):
        # by a pipe: 0.11.4 takes five times as long over what its own --stdin-command writes
        return pipe(self.dump, [self.binary, "backup", "--force", "--stdin-filename", DUMP, "-"])

    def decode(self, target):
        return pipe([self.binary, "dump", f"latest:/{DUMP}"], to=target / DUMP)


class Borg(Fed, tools.Borg):
    def backup(self, step):
        self.latest = step
        return [self.binary, "create", "--stdin-name", DUMP, "--content-from-command", f"::{step}", "--", *self.dump]

    def decode(self, target):
        return pipe([self.binary, "extract", "--stdout", f"::{self.latest}"], to=target / DUMP)


class Gpg(Fed, tools.Tool):
    """The pipe of the runbooks: one encrypted custom-format dump a backup, no repository."""
    name = "gpg"

    def find(self, work, install):
        self.binary = tools.debian("gpg", "gnupg", install)

    def enter(self, room, source):
        super().enter(room, source)
        self.repository.mkdir()
        # the agent's socket lies in the key directory, and its path must be short
        self.keys = Path(tempfile.mkdtemp(prefix="strongroom-bench-gpg-"))
        self.env["GNUPGHOME"] = str(self.keys)

    def create(self, call):
        call([self.binary, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "bench@ca.example",
              "default", "default", "never"])

    def leave(self):
        subprocess.run(["gpgconf", "--kill", "all"], env=self.env, capture_output=True)
        shutil.rmtree(self.keys, ignore_errors=True)

    def backup(self, step):
        self.latest = self.repository / f"{step}.dump.gpg"
        return pipe(self.cluster.dump(self.database, "-Fc", "--compress=9"),
                    [self.binary, "--batch", "--encrypt", "--recipient", "bench@ca.example"], to=self.latest)

    def decode(self, target):
        return pipe([self.binary, "--batch", "--quiet", "--decrypt", self.latest], to=target / "ca.dump")

    def decoded(self, target):
        done = subprocess.run([self.cluster.program("pg_restore"), "-f", str(target / DUMP), str(target / "ca.dump")],
                              env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"pg_restore cannot read what was decrypted: {done.stderr.strip()}")
        return "plain", target / DUMP


class Stock(Fed, tools.Tool):
    """A program of PostgreSQL by itself: no repository, always the version of the cluster."""

    def find(self, work, install):
        pass

    def version(self):
        return ""       # the report tells the version of the cluster

    def create(self, call):
        self.repository.mkdir()


class Bare(Stock):
    """The limit of a backup: the dump, thrown away."""
    name, steps = "bare", BACKUPS

    def backup(self, step):
        return pipe(self.dump, to="/dev/null")


class Load(Stock):
    """The limit of a restore into the server: a local file, made beforehand, loaded by the stock program."""
    steps = ("server",)
    file = ""

    def loaded(self):
        return [self.cluster.program("pg_restore"), "-j2", "--exit-on-error", "-d", NEW, self.local / self.file]

    def server(self):
        return then([self.cluster.program("createdb"), "-T", "template0", NEW], self.loaded())


class LoadCustom(Load):
    name, file = "pg_restore-fc", "custom"


class LoadDirectory(Load):
    name, file = "pg_restore-fd", "directory"


class LoadPlain(Load):
    name, file = "psql", "plain"

    def loaded(self):
        return [self.cluster.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", NEW, "-f", self.local / self.file]


PEERS = ("restic", "rustic", "borg")
ALL = {tool.name: tool for tool in (Strongroom, StrongroomCounts, Restic, Rustic, Borg, Gpg, Bare, LoadCustom,
                                    LoadDirectory, LoadPlain)}
