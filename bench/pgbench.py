"""The measurement on a PostgreSQL database: what is in place for each step, and how a result is checked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import measure
import pgcluster
import pgtools
import rounds
import tools

HERE = Path(__file__).resolve().parent


def ask(cluster, *arguments):
    """Call pgdata.py in a process of its own and give its answer."""
    command, *rest = map(str, arguments)
    needs_programs = [str(cluster.bin)] if command in ("prepare", "database") else []
    done = subprocess.run([sys.executable, str(HERE / "pgdata.py"), command, *needs_programs, *rest],
                          stdout=subprocess.PIPE, text=True, env=cluster.env)
    if done.returncode:
        raise tools.Failure(f"pgdata.py {command} failed")
    return json.loads(done.stdout)


def prepare(cluster, work, megabytes, repositories):
    """The two databases of this size, ready for use."""
    need, free = (8 + repositories) * megabytes * 10**6, shutil.disk_usage(work).free
    if free < need:
        raise tools.Failure(f"{megabytes} MB of dump need {need / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free")
    rounds.say(f"databases of {megabytes} MB ...")
    return ask(cluster, "prepare", megabytes, cluster.info / f"{megabytes}MB.json")


class Databases(rounds.Rounds):
    """The measurement of tools that back up a database of the private server."""
    steps = pgtools.STEPS

    def __init__(self, work, data, chosen, failures, cluster):
        super().__init__(work, data, chosen, failures)
        self.cluster, self.local = cluster, work / "local"
        if any("server" in tool.steps for tool in self.tools):
            self.make_local()

    def make_local(self):
        """The files that pg_restore and psql load: dumps of the changed database, with default compression."""
        rounds.say("local dumps for pg_restore and psql ...")
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir()
        for options in (["-Fc", "-f", "custom"], ["-Fd", "-j2", "-f", "directory"], ["-Fp", "-f", "plain"]):
            if subprocess.run(self.cluster.dump(self.data["changed"], *options), cwd=self.local, env=self.cluster.env,
                              stdin=subprocess.DEVNULL).returncode:
                raise tools.Failure("pg_dump of the local files failed")

    def begin(self):
        self.cluster.sweep()
        self.cluster.copy(self.data["base"], pgcluster.LIVE)

    def change(self):
        self.cluster.copy(self.data["changed"], pgcluster.LIVE)

    def source(self):
        return self.cluster, pgcluster.LIVE, self.local

    def step(self, tool, step):
        before, target = measure.tree_bytes(tool.repository), tool.room / "restored"
        if step == "decode":
            target.mkdir()
            argv = tool.decode(target)
            measure.warm(tool.repository)
        elif step == "server":
            argv = tool.server()
            measure.warm(tool.local if isinstance(tool, pgtools.Load) else tool.repository)
        else:
            argv = tool.backup(step)
            measure.warm(self.cluster.directory(pgcluster.LIVE))
        try:
            done = self.call(tool, argv)
            if step == "decode":
                found = ask(self.cluster, *tool.decoded(target))
                self.compare("rows", found, self.data["changed_digests"])
            elif step == "server":
                found = ask(self.cluster, "database", pgtools.NEW)
                for part, expected in self.data["changed_database"].items():
                    self.compare(part, found[part], expected)
        finally:
            shutil.rmtree(target, ignore_errors=True)
            if step == "server":
                self.cluster.sweep(pgcluster.LIVE)
        self.keep(tool, step, done, before)

    @staticmethod
    def compare(what, found, expected):
        """Not part of the time taken."""
        if found == expected:
            return
        where = ""
        if isinstance(expected, dict):
            differing = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
            where = f" in {', '.join(differing)}"
        raise tools.Failure(f"{what} restored are not those backed up{where}")

    def clear(self, keep):
        self.cluster.sweep()
        shutil.rmtree(self.local, ignore_errors=True)
        if not keep:
            shutil.rmtree(self.rooms, ignore_errors=True)
