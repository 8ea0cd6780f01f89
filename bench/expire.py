"""A month of hourly backups, and what it takes to let most of them go.

The backups go to a directory, each at its own hour. The expiry is measured on copies of that directory: as it is, and over
SFTP, with and without latency. Then every backup that Strongroom kept is restored and held against what was backed up.
"""

import datetime
import json
import os
import shutil
import sqlite3
from pathlib import Path

import dataset
import measure
import places
import rounds
import tools

BEGIN = datetime.datetime(2026, 1, 1)
KEEP = {"hourly": 24, "daily": 7, "weekly": 4}
NEW_ROWS, REVOKED_ROWS = 100, 20
EPOCH_DAYS = 7


def hour_of(number):
    return BEGIN + datetime.timedelta(hours=number)


class Strongroom(tools.Strongroom):
    url = None

    def find(self, work, install):
        super().find(work, install)
        self.faketime = tools.debian("faketime", "faketime", install)

    def location(self):
        url = self.url or f'url = "file://{self.repository}"\n'
        keep = ", ".join(f"keep_{unit} = {count}" for unit, count in KEEP.items())
        return f"{url}epoch_days = {EPOCH_DAYS}\nretention = {{ {keep} }}\n"

    def at(self, hour, *arguments):
        return [self.faketime, f"{hour_of(hour):%F %T}", *self.command(*arguments)]

    def backup_at(self, hour):
        return self.at(hour, "backup")

    def stored(self, hour):
        """The storage's own times, by which an expiry goes, become those of the hour."""
        for path in measure.files(self.repository):
            if path.stat().st_mtime > hour_of(hour + 1).timestamp():
                os.utime(path, (hour_of(hour).timestamp(),) * 2)

    def before(self, hours):
        return [self.at(hours, "verify", "latest", "--level", "L1")]

    def plan(self, hours):
        return self.at(hours, "expire")

    def apply(self, hours):
        return self.at(hours, "expire", "--apply")

    def use(self, keys, directory):
        """Goes on with the repository in that directory, by the keys of the configuration that lead there."""
        config = self.room / "strongroom.toml"
        old = self.location()
        self.url, self.repository = keys or f'url = "file://{directory}"\n', directory
        config.write_text(config.read_text().replace(old, self.location()))


class Restic(tools.Restic):
    options = ()

    def backup_at(self, hour):
        return [self.binary, "backup", "--time", f"{hour_of(hour):%F %T}", str(self.source)]

    def stored(self, hour):
        pass

    def before(self, hours):
        return []

    def forget(self):
        keep = [word for unit, count in KEEP.items() for word in (f"--keep-{unit}", str(count))]
        return [self.binary, *self.options, "forget", *keep]

    def plan(self, hours):
        return [*self.forget(), "--dry-run", "--prune"]

    def apply(self, hours):
        return [*self.forget(), "--prune"]

    def use(self, keys, directory):
        self.repository = directory
        if keys is None:
            self.env[f"{self.variable}_REPOSITORY"] = str(directory)


class Rustic(tools.Rustic, Restic):
    find = tools.Rustic.find

    def create(self, call):
        call([self.binary, "init"])

    def apply(self, hours):
        return [*self.forget(), "--prune", "--instant-delete"]

    def plan(self, hours):
        return [self.binary, "--dry-run", *self.forget()[1:], "--prune"]

    def use(self, keys, directory):
        super().use(keys, directory)
        config = self.room / "home" / "config" / "rustic"
        config.mkdir(parents=True, exist_ok=True)
        (config / "rustic.toml").write_text("[repository.options]\n" + (keys or ""))


ALL = {tool.name: tool for tool in (Strongroom, Restic, Rustic)}


class Month(rounds.Rounds):
    """All backups of all tools, then the expiry at each place."""

    def __init__(self, work, data, chosen, failures, args):
        super().__init__(work, data, chosen, failures)
        self.live = work / "live" / "ca.sqlite3"
        self.args, self.growth, self.shown = args, {tool.name: [] for tool in self.tools}, {}
        self.samples = {tool.name: [] for tool in self.tools}

    def measure_month(self):
        shutil.rmtree(self.rooms, ignore_errors=True)
        self.live.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(self.data["dir"]) / "base.sqlite3", self.live)
        os.utime(self.live, (hour_of(0).timestamp(),) * 2)
        for tool in self.tools:
            tool.enter(self.rooms / tool.name, self.live)
            self.each(tool, "init", lambda: tool.create(lambda argv: self.call(tool, argv).stdout))
        for hour in range(self.args.backups):
            self.hour(hour)
        for name in ("file", *self.args.places):
            for latency in self.args.latencies if name != "file" else [0]:
                self.expire(name, latency)
        kept = self.restore_all() if "strongroom" in self.samples and "strongroom" not in self.failures else None
        return {"data": {key: value for key, value in self.data.items() if key != "dir"}, "growth": self.growth,
                "samples": self.samples, "failures": self.failures, "restored": kept}

    def hour(self, hour):
        if hour and hour % self.args.every == 0:
            self.change(hour)
        self.shown[hour] = self.look(self.live)
        for tool in self.tools:
            self.each(tool, f"backup {hour}", lambda: self.call(tool, tool.backup_at(hour)))
            tool.stored(hour)
            if (hour + 1) % 24 == 0 or hour == 0:
                self.growth[tool.name].append(measure.tree_bytes(tool.repository))
        if (hour + 1) % 24 == 0:
            sizes = ", ".join(f"{name} {sizes[-1] / 1e6:.0f} MB" for name, sizes in self.growth.items() if sizes)
            rounds.say(f"  {hour + 1} backups: {sizes}")

    def change(self, hour):
        rng = dataset.random.Random(dataset.SEED + hour)
        database = sqlite3.connect(self.live, isolation_level=None)
        database.execute("BEGIN")
        database.executemany(dataset.INSERT_CERTIFICATE,
                             (dataset.certificate_row(rng, dataset.TODAY) for _ in range(NEW_ROWS)))
        last = database.execute("SELECT max(id) FROM certificates").fetchone()[0]
        database.executemany("UPDATE certificates SET status = 'revoked', revoked_at = ? WHERE id = ?",
                             ((dataset.moment(rng, dataset.TODAY), rng.randrange(1, last)) for _ in range(REVOKED_ROWS)))
        database.execute("COMMIT")
        dataset.finish(database)
        os.utime(self.live, (hour_of(hour).timestamp(),) * 2)

    def look(self, path):
        database = sqlite3.connect(path)
        try:
            return database.execute("SELECT count(*), max(id), sum(status = 'revoked') FROM certificates").fetchone()
        finally:
            database.close()

    def expire(self, name, latency):
        rounds.say(f"expiry: {name}, {latency} ms")
        place = places.PLACES[name](self.work, latency) if name != "file" else None
        try:
            directories = place.room() if place else {}
            for tool in self.tools:
                self.each(tool, f"expire at {name}", lambda: self.expire_one(tool, name, latency, place, directories))
        finally:
            if place:
                place.close()

    def expire_one(self, tool, name, latency, place, directories):
        key, directory = directories.get(tool.name, (None, self.rooms / f"{tool.name}-expired"))
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(tool.room / "repository", directory)
        tool.use(place.enter(tool, key) if place else None, directory)
        hours = self.args.backups
        for argv in tool.before(hours):
            self.call(tool, argv)
        files, size = len(measure.files(directory)), measure.tree_bytes(directory)
        sample = {"place": name, "latency_ms": latency, "files_before": files, "bytes_before": size}
        for step in ("plan", "apply"):
            connections = place.requests() if place else 0
            done = self.call(tool, getattr(tool, step)(hours))
            sample |= {f"{step}_seconds": done.seconds, f"{step}_peak_bytes": done.peak_bytes,
                       f"{step}_connections": (place.requests() if place else 0) - connections}
        sample |= {"files_after": len(measure.files(directory)), "bytes_after": measure.tree_bytes(directory)}
        self.samples[tool.name].append(sample)
        rounds.say(f"  {tool.name:<12}plan {sample['plan_seconds']:.2f} s, apply {sample['apply_seconds']:.2f} s, "
                   f"{files} -> {sample['files_after']} files, {size / 1e6:.0f} -> {sample['bytes_after'] / 1e6:.0f} MB")

    def restore_all(self):
        """Restores each backup that the expiry in the directory kept."""
        tool = next(tool for tool in self.tools if tool.name == "strongroom")
        tool.use(None, self.rooms / "strongroom-expired")
        listed = json.loads(self.call(tool, tool.command("--json", "list")).stdout)
        target, good, wrong = tool.room / "restored", 0, []
        for backup in listed["backups"]:
            taken = datetime.datetime.fromisoformat(backup["started"].replace("Z", "+00:00")).replace(tzinfo=None)
            hour = round((taken - BEGIN).total_seconds() / 3600)
            label = backup["label"]
            if backup["expired_repositories"]:
                continue
            target.mkdir()
            self.call(tool, tool.command("restore", label, "--identity", "bench.identity", "--to-dir", str(target), "--apply"))
            found = [self.look(path) for path in measure.files(target) if path.suffix == ".sqlite3"]
            if found == [self.shown[hour]]:
                good += 1
            else:
                wrong.append(label)
            shutil.rmtree(target)
        rounds.say(f"restored and compared: {good} of {good + len(wrong)}")
        if wrong:
            raise tools.Failure(f"restored otherwise than backed up: {', '.join(wrong)}")
        return good


def report(result):
    month = result["month"]
    lines = ["# A month of hourly backups and its expiry", "",
             f"{result['backups']} backups of {month['data']['megabytes']} MB, a change every {result['every']} hours "
             f"({NEW_ROWS} new rows, {REVOKED_ROWS} revoked); keep {', '.join(f'{n} {unit}' for unit, n in KEEP.items())}.", ""]
    lines += ["| MB in the repository after days | " + " | ".join(month["growth"]) + " |",
              "|---|" + "---:|" * len(month["growth"])]
    rows = max((len(sizes) for sizes in month["growth"].values()), default=0)
    for row in [0, *range(1, rows, max(1, rows // 6)), rows - 1]:
        cells = [f"{sizes[row] / 1e6:.0f}" if row < len(sizes) else "-" for sizes in month["growth"].values()]
        lines.append(f"| {row if row else 'first backup'} | " + " | ".join(cells) + " |")
    lines += ["", "| expiry | plan, s | apply, s | files before | after | MB before | after | peak MiB | connections |",
              "|---|" + "---:|" * 8]
    for tool, samples in month["samples"].items():
        for one in samples:
            lines.append(f"| {tool}, {one['place']} {one['latency_ms']} ms | {one['plan_seconds']:.2f} | {one['apply_seconds']:.2f} | "
                         f"{one['files_before']} | {one['files_after']} | {one['bytes_before'] / 1e6:.0f} | "
                         f"{one['bytes_after'] / 1e6:.0f} | {one['apply_peak_bytes'] / 2**20:.0f} | {one['apply_connections']} |")
    if month["restored"] is not None:
        lines += ["", f"Every backup that Strongroom kept was restored and compared: {month['restored']}."]
    lines += [f"{tool} failed: {why}" for tool, why in month["failures"].items()]
    return "\n".join(lines) + "\n"
