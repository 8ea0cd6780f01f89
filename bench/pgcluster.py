"""A private PostgreSQL cluster in the work directory: made once, started for a run, stopped at its end.

It listens on a Unix socket only, trusts whoever reaches that socket, and belongs to an unprivileged user when the
harness is root. It never syncs to disk: what is measured is the tools, and a lost cluster is made again.
"""

import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tools import Failure

USER, PORT, LIVE = "bench", 5432, "ca"
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off", "jit": "off",
            "shared_buffers": "256MB", "maintenance_work_mem": "256MB", "max_wal_size": "8GB",
            "checkpoint_timeout": "1h", "timezone": "UTC", "log_checkpoints": "off", "listen_addresses": ""}
SOCKET_PATH_LIMIT = 90


def programs():
    """The directory of the newest PostgreSQL: Debian's first, else where `postgres` is on the path."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    newest = max(found, key=lambda path: int(re.search(r"/(\d+)/bin/", path)[1]), default=shutil.which("postgres"))
    if not newest:
        raise Failure("PostgreSQL's server programs are not installed (Debian package postgresql)")
    return Path(newest).resolve().parent


class Cluster:
    """The server, and how clients reach it."""

    def __init__(self, work):
        self.bin, self.home, self.server = programs(), work / "postgresql", None
        version = subprocess.run([self.bin / "postgres", "--version"], capture_output=True, text=True).stdout.strip()
        self.version, self.major = version, re.search(r"\) (\d+)", version)[1]
        self.data = self.home / f"data-{self.major}"
        self.info = self.home / f"info-{self.major}"
        self.socket = self.home / "socket"
        if len(str(self.socket)) > SOCKET_PATH_LIMIT:
            self.socket = Path(tempfile.gettempdir()) / f"strongroom-bench-{os.geteuid()}"
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC", "HOME": str(self.home),
                    **self.connection()}
        self.unprivileged = {}
        if os.geteuid() == 0:
            self.unprivileged = {"user": self.owner(), "group": self.group(), "extra_groups": []}

    @staticmethod
    def owner():
        return "postgres" if subprocess.run(["id", "postgres"], capture_output=True).returncode == 0 else "nobody"

    def group(self):
        return subprocess.run(["id", "-gn", self.owner()], capture_output=True, text=True, check=True).stdout.strip()

    def connection(self):
        """What libpq programs need in their environment."""
        return {"PGHOST": str(self.socket), "PGPORT": str(PORT), "PGUSER": USER, "PGAPPNAME": "strongroom-bench"}

    def url(self, database):
        return f"postgresql://{USER}@/{database}?host={self.socket}&port={PORT}"

    def program(self, name):
        return str(self.bin / name)

    def dump(self, database, *options):
        """The pg_dump command line that every tool is fed by."""
        return [self.program("pg_dump"), *options, database]

    # --- start and stop ---

    def __enter__(self):
        for place in [self.home, *self.home.parents]:
            if self.unprivileged and place.exists() and not place.stat().st_mode & 0o001:
                raise Failure(f"{self.owner()} cannot reach {self.home} through {place}; choose another --work")
        for place in (self.home, self.socket, self.info):
            place.mkdir(exist_ok=True)
        self.lock = open(self.home / "lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"another run uses {self.home}; choose another --work") from None
        if self.unprivileged:
            shutil.chown(self.home, self.owner(), self.group())
            shutil.chown(self.socket, self.owner(), self.group())
        self.socket.chmod(0o700)
        if not (self.data / "PG_VERSION").exists():
            self.as_owner("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                          "--no-sync")
        elif (self.data / "postmaster.pid").exists():       # a harness that was killed left its server running
            self.as_owner("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop", must=False)
        settings = [part for name, value in (SETTINGS | {"unix_socket_directories": self.socket, "port": PORT}).items()
                    for part in ("-c", f"{name}={value}")]
        with open(self.home / "server.log", "wb") as log:
            self.server = subprocess.Popen([self.program("postgres"), "-D", self.data, *settings], cwd="/",
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                           start_new_session=True, **self.unprivileged)
        for _ in range(600):
            if subprocess.run([self.program("pg_isready"), "-q"], env=self.env).returncode == 0:
                return self
            if self.server.poll() is not None:
                break
            time.sleep(0.1)
        last = (self.home / "server.log").read_text(errors="replace").splitlines()[-5:]
        self.__exit__()
        raise Failure("the PostgreSQL server did not start\n" + "\n".join(last))

    def __exit__(self, *_):
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)          # "fast": ends sessions, writes a checkpoint
            self.server.wait(300)
        self.lock.close()

    def as_owner(self, name, *arguments, must=True):
        done = subprocess.run([self.program(name), *map(str, arguments)], cwd="/", env=self.env, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, **self.unprivileged)
        if must and done.returncode:
            raise Failure(f"{name} failed\n{done.stderr.strip()}")

    # --- databases ---

    def sql(self, database, *statements):
        """Run statements, each on its own, and give what they print, unaligned, fields apart by tabs."""
        commands = [part for statement in statements for part in ("-c", statement)]
        done = subprocess.run([self.program("psql"), "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database,
                               *commands], env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failure(f"psql: {done.stderr.strip()}")
        return done.stdout

    def drop(self, database):
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def sweep(self, *keep):
        """Drop what a run made, under whatever name: all but the data sets and the databases to keep."""
        names = self.sql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
                         " AND datname !~ '^(base|changed)_[0-9]+mb_v[0-9]+$'").splitlines()
        for name in names:
            if name not in keep:
                self.drop(name)

    def copy(self, template, database):
        """Make a database as a file by file copy of another."""
        self.drop(database)
        self.sql("postgres", f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY FILE_COPY', "CHECKPOINT")

    def directory(self, database):
        """Where the server keeps the files of a database."""
        return self.data / "base" / self.sql(
            "postgres", f"SELECT oid FROM pg_database WHERE datname = '{database}'").strip()
