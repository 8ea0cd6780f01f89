"""The tools on repositories behind a network: the same database, a server on loopback, with and without latency."""

import measure
import places
import rounds
import tools

STEPS = ("first", "changed", "restore", "verify")


class Strongroom(tools.Strongroom):
    steps = STEPS

    def location(self):
        return self.place_keys

    def verify(self):
        return self.command("verify", "latest", "--level", "L1")


class Restic(tools.Restic):
    steps = STEPS
    options = []

    def create(self, call):
        call([self.binary, *self.options, "init"])

    def backup(self, step):
        return [self.binary, *self.options, "backup", str(self.source)]

    def restore(self, target):
        return [self.binary, *self.options, "restore", "latest", "--target", str(target)]

    def verify(self):
        return [self.binary, *self.options, "check", "--read-data"]


class Rustic(tools.Rustic):
    steps = STEPS

    def create(self, call):
        directory = self.room / "home" / "config" / "rustic"
        directory.mkdir(parents=True)
        (directory / "rustic.toml").write_text("[repository.options]\n" + self.place_keys)
        call([self.binary, "init"])

    def backup(self, step):
        return [self.binary, "backup", str(self.source)]

    def verify(self):
        return [self.binary, "check", "--read-data"]


ALL = {tool.name: tool for tool in (Strongroom, Restic, Rustic)}


def remote(files):
    """A measurement of `files`, the one of local repositories, at a place."""

    class Remote(files):
        steps = STEPS

        def __init__(self, work, data, chosen, failures, server):
            super().__init__(work, data, chosen, failures)
            self.server = server

        def begin(self):
            super().begin()
            self.server_rooms = self.server.room()

        def enter(self, tool):
            name, directory = self.server_rooms[tool.name]
            tool.place_keys = self.server.enter(tool, name)
            tool.repository = directory

        def step(self, tool, step):
            before = self.server.requests()
            super().step(tool, step)
            sample = self.samples[tool.name][step][-1]
            sample["requests"] = self.server.requests() - before
            rounds.say(f"  {'':<17}{'':<10}{sample['requests']:8} {'requests' if self.server.is_http else 'connections'}")

    return Remote


def report(result):
    """Seconds of each step by place and latency, and the two ratios that matter."""
    lines = ["# Repositories behind a network", ""]
    best = {}
    for part in result["places"]:
        for tool, steps in part["samples"].items():
            for step, samples in steps.items():
                if samples:
                    best[part["place"], part["latency_ms"], tool, step] = min(sample["seconds"] for sample in samples)
    names = [tool for tool in ALL if any(key[2] == tool for key in best)]
    for place in dict.fromkeys(part["place"] for part in result["places"]):
        latencies = [part["latency_ms"] for part in result["places"] if part["place"] == place]
        for latency in latencies:
            lines += [f"## {place}, {latency} ms, seconds (minimum)", "", "| | " + " | ".join(STEPS) + " |",
                      "|---|" + "---:|" * len(STEPS)]
            for tool in names:
                cells = [best.get((place, latency, tool, step)) for step in STEPS]
                lines.append(f"| {tool} | " + " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells) + " |")
            cells = []
            for step in STEPS:
                peers = [best[key] for key in best if key[:2] == (place, latency) and key[2] != "strongroom" and key[3] == step]
                own = best.get((place, latency, "strongroom", step))
                cells.append("-" if not peers or own is None else f"{own / min(peers):.2f} x")
            lines += ["| of the fastest peer | " + " | ".join(cells) + " |", ""]
        if len(latencies) > 1:
            low, high = min(latencies), max(latencies)
            for tool in names:
                cells = []
                for step in STEPS:
                    near, far = best.get((place, low, tool, step)), best.get((place, high, tool, step))
                    cells.append("-" if not near or not far else f"{step} {far / near:.2f} x")
                lines.append(f"{tool}, {high} ms against {low} ms: " + ", ".join(cells))
            lines.append("")
    for part in result["places"]:
        for tool, steps in part["samples"].items():
            counts = {step: samples[-1].get("requests") for step, samples in steps.items() if samples}
            peak = max((sample["peak_bytes"] for samples in steps.values() for sample in samples), default=0)
            lines.append(f"{part['place']}, {part['latency_ms']} ms, {tool}: requests {counts}, peak {peak / 2**20:.0f} MiB")
        for tool, why in part["failures"].items():
            lines.append(f"{part['place']}, {part['latency_ms']} ms, {tool} failed: {why}")
    return "\n".join(lines) + "\n"
