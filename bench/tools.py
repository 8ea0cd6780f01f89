"""The programs under measurement: where they come from, and their command lines.

Each tool works in a room of its own: a directory that holds its repository, its configuration, and the home
directory given to it, so that caches and keys never mix and nothing is taken from the operator's settings.
All run with their default settings; the one exception is that a backup of unchanged data is told to read the
file again, where a tool would otherwise trust size and time stamps.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

STEPS = ("first", "verify", "unchanged", "changed", "restore")
BACKUPS = ("first", "unchanged", "changed")
PASSWORD = "benchmark"


class Failure(Exception):
    """A tool is missing or did not do what it was asked."""


def loud(argv, **options):
    """Run a preparatory command; its output is shown on stderr."""
    if subprocess.run(argv, stdout=sys.stderr, stdin=subprocess.DEVNULL, **options).returncode:
        raise Failure(f"{' '.join(argv[:3])} failed")


def debian(command, package, install):
    """Path of a command, from its Debian package if absent."""
    if not shutil.which(command):
        if not install:
            raise Failure(f"{command} is not installed (Debian package {package})")
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Failure(f"{command} is not installed; install the package {package} as root")
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        get = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        try:
            loud(get, env=env)
        except Failure:
            loud(["apt-get", "update"], env=env)
            loud(get, env=env)
    return shutil.which(command)


class Tool:
    """What all tools share. The peers have no counterpart of an L1 verification that would compare fairly."""
    name = ""
    steps = ("first", "unchanged", "changed", "restore")
    version_arguments = ("--version",)
    restores_into_cwd = False

    def find(self, work, install):
        """Set self.binary, installing or building the program if needed."""
        self.binary = debian(self.name, self.name, install)

    def version(self):
        done = subprocess.run([self.binary, *self.version_arguments], capture_output=True, text=True)
        return (done.stdout or done.stderr).strip().splitlines()[0]

    def enter(self, room, source):
        """Take an empty room and the file to back up."""
        self.room, self.repository, self.source = room, room / "repository", source
        home = room / "home"
        home.mkdir(parents=True)
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC", "HOME": str(home)}
        for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
            self.env[f"XDG_{kind}_HOME"] = str(home / kind.lower())

    def create(self, call):
        """Make the repository; call(argv) runs one command and gives its stdout."""
        call([self.binary, "init"])

    def leave(self):
        """End what enter() or create() left running."""

    def backup(self, step):
        raise NotImplementedError

    def restore(self, target):
        raise NotImplementedError

    def facts(self, step, stdout):
        """What the tool itself says about a step, for the JSON report."""
        return {}


class Restic(Tool):
    name = "restic"
    version_arguments = ("version",)
    variable = "RESTIC"

    def enter(self, room, source):
        super().enter(room, source)
        self.env[f"{self.variable}_REPOSITORY"] = str(self.repository)
        self.env[f"{self.variable}_PASSWORD"] = PASSWORD

    def backup(self, step):
        force = ["--force"] if step == "unchanged" else []
        return [self.binary, "backup", *force, str(self.source)]

    def restore(self, target):
        return [self.binary, "restore", "latest", "--target", str(target)]


class Rustic(Restic):
    name = "rustic"
    version_arguments = ("--version",)
    variable = "RUSTIC"

    def find(self, work, install):
        cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        own = work / "tools"
        for place in (shutil.which("rustic"), cargo_home / "bin" / "rustic", own / "bin" / "rustic"):
            if place and os.access(place, os.X_OK):
                self.binary = str(place)
                return
        if not install or not shutil.which("cargo"):
            raise Failure("rustic is not installed (cargo install --locked rustic-rs)")
        loud(["cargo", "install", "--locked", "--root", str(own), "rustic-rs"],
             env=os.environ | {"CARGO_TARGET_DIR": str(own / "build")})
        self.binary = str(own / "bin" / "rustic")

    def restore(self, target):
        return [self.binary, "restore", "latest", str(target)]


class Borg(Tool):
    name = "borg"
    restores_into_cwd = True

    def find(self, work, install):
        self.binary = debian("borg", "borgbackup", install)

    def enter(self, room, source):
        super().enter(room, source)
        self.env |= {"BORG_REPO": str(self.repository), "BORG_PASSPHRASE": PASSWORD,
                     "BORG_BASE_DIR": str(room / "home")}

    def create(self, call):
        call([self.binary, "init", "-e", "repokey-blake2"])

    def backup(self, step):
        self.latest = step
        force = ["--files-cache=disabled"] if step == "unchanged" else []
        return [self.binary, "create", *force, f"::{step}", str(self.source)]

    def restore(self, target):
        return [self.binary, "extract", f"::{self.latest}"]


class Strongroom(Tool):
    name = "strongroom"
    steps = STEPS
    given = None        # a binary to take in place of a fresh build

    def find(self, work, install):
        if self.given:
            self.binary = shutil.which(self.given) or ""
            self.binary = self.binary and str(Path(self.binary).resolve())
            if not self.binary:
                raise Failure(f"{self.given} is not an executable")
            return
        build = subprocess.run(
            ["cargo", "build", "--release", "--locked", "-p", "strongroom",
             "--message-format=json-render-diagnostics"],
            cwd=Path(__file__).resolve().parent.parent, stdout=subprocess.PIPE, text=True)
        built = [m["executable"] for m in map(json.loads, filter(None, build.stdout.splitlines()))
                 if m.get("executable") and m["target"]["name"] == "strongroom"]
        if build.returncode or not built:
            raise Failure("cargo build --release --locked -p strongroom failed")
        self.binary = built[-1]

    def create(self, call):
        out = call([self.binary, "identity", "new", "--no-passphrase", "--out", "bench.identity"])
        recipient = re.search(r"age1[0-9a-z]+", out)
        if not recipient:
            raise Failure("identity new printed no recipient")
        (self.room / "strongroom.toml").write_text(f"""\
[deployment]
name = "bench"
[writer]
key_file = "writer.key"
[repository.offsite]
{self.location()}recipients = ["{recipient[0]}"]
accepts = ["database"]
{self.asset()}""")
        call(self.command("init"))

    def location(self):
        """The part of the configuration that says where the repository is."""
        return f'url = "file://{self.repository}"\n'

    def asset(self):
        """The part of the configuration that names what is backed up."""
        return f"""\
[asset.database]
source = "sqlite"
class = "database"
path = "{self.source}"
"""

    def command(self, *arguments):
        return [self.binary, "-c", "strongroom.toml", *arguments]

    def backup(self, step):
        return self.command("--json", "backup")

    def verify(self):
        return self.command("verify", "latest", "--level", "L1")

    def restore(self, target):
        return self.command("restore", "latest", "--identity", "bench.identity", "--to-dir", str(target), "--apply")

    def facts(self, step, stdout):
        if step not in BACKUPS:
            return {}
        try:
            report = json.loads(stdout)
            if report["status"] != "complete":
                raise Failure(f"backup reports status {report['status']}")
            kept = ("size_bytes", "new_chunk_bytes", "stored_bytes", "seconds")
            return {key: report["assets"][0][key] for key in kept if key in report["assets"][0]}
        except (ValueError, LookupError, TypeError) as error:
            raise Failure(f"backup printed no report: {error!r}") from None


ALL = {tool.name: tool for tool in (Strongroom, Restic, Rustic, Borg)}
