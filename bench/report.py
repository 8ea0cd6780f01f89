"""Tables, ratios and targets from the samples. The text is Markdown that also reads well on a terminal."""

from statistics import median

MB, MIB = 10**6, 2**20
STEP_NAMES = {"first": "first backup", "unchanged": "unchanged", "changed": "after change", "restore": "restore"}


def table(header, rows):
    """A Markdown table with aligned columns, the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]

    def line(row):
        return "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for n, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


class Figures:
    """The figures of one data set."""

    def __init__(self, size):
        self.samples, self.failures, self.data = size["samples"], size["failures"], size["data"]

    def values(self, tool, step, key):
        """All samples, or none at all if the tool failed anywhere."""
        if tool in self.failures:
            return []
        return [sample[key] for sample in self.samples.get(tool, {}).get(step, [])]

    def seconds(self, tool, step):
        return min(self.values(tool, step, "seconds"), default=None)

    def peak(self, tool, *steps):
        return max((v for step in steps for v in self.values(tool, step, "peak_bytes")), default=None)

    def added(self, tool, step, pick=min):
        return pick(self.values(tool, step, "added_bytes"), default=None)

    def cell(self, tool, step, key, unit, pick, digits):
        """The chosen value and the median: '3.21 (3.40)'."""
        if tool in self.failures:
            return "failed"
        found = self.values(tool, step, key)
        return f"{pick(found) / unit:.{digits}f} ({median(found) / unit:.{digits}f})" if found else "-"

    def grid(self, tools, steps, key, unit, pick, digits):
        return table(["", *(STEP_NAMES[s] for s in steps)],
                     [[tool, *(self.cell(tool, s, key, unit, pick, digits) for s in steps)] for tool in tools])


def heading(result, title):
    host = result["machine"]
    return [
        f"# {title}", "",
        f"Measured {result['time']}, {result['repetitions']} repetition(s). {host['cpu']}, {host['cores']} cores,"
        f" {host['memory_bytes'] / 2**30:.0f} GiB memory, {host['system']}, kernel {host['kernel']},"
        f" {host['file_system']}; load {host['load_at_start']} at the start.", "",
        "Versions: " + "; ".join(result["versions"].values()) + ".", "",
        f"Lowest peak memory that can be measured: {result['memory_floor_bytes'] / MIB:.0f} MiB (that of /bin/true)."]


def failures(figures, where=""):
    if not figures.failures:
        return []
    lines = ["", f"## Failures{where}", ""]
    for tool, error in figures.failures.items():
        first, *rest = error.splitlines()
        lines += [f"- {tool}: {first}", *("      " + line for line in rest)]
    return lines


def ratios(figures, tools):
    """How many times more each peer needs than Strongroom."""
    def ratio(peer, get):
        ours, theirs = get("strongroom"), get(peer)
        return f"{theirs / ours:.2f}" if ours and theirs else "-"

    columns = [
        ("first s", lambda t: figures.seconds(t, "first")),
        ("unchanged s", lambda t: figures.seconds(t, "unchanged")),
        ("change s", lambda t: figures.seconds(t, "changed")),
        ("restore s", lambda t: figures.seconds(t, "restore")),
        ("first bytes", lambda t: figures.added(t, "first")),
        ("change bytes", lambda t: figures.added(t, "changed")),
        ("backup memory", lambda t: figures.peak(t, "first", "unchanged", "changed")),
        ("restore memory", lambda t: figures.peak(t, "restore"))]
    return table(["", *(title for title, _ in columns)],
                 [[peer, *(ratio(peer, get) for _, get in columns)] for peer in tools if peer != "strongroom"])


def targets(figures, tools):
    """Rows of target, reached, result. Bytes: Strongroom's largest against a peer's smallest sample."""
    peers = [tool for tool in tools if tool != "strongroom"]
    rows = []

    def judge(title, reached, limit, at_most, text, note=""):
        met = "not measured" if reached is None else \
            "met" if (reached <= limit if at_most else reached >= limit) else "missed"
        rows.append([title, "-" if reached is None else text.format(reached) + note, met])

    def divide(a, b):
        return a / b if a is not None and b else None

    def fastest(step):
        """Seconds and name of the fastest peer."""
        known = [(figures.seconds(p, step), p) for p in peers if figures.seconds(p, step)]
        seconds, name = min(known, default=(None, ""))
        missing = "" if len(known) == 3 else f", of {len(known)} peers only"
        return seconds, f" ({name}{missing})" if name else ""

    added = figures.added("strongroom", "changed", max)
    pages = min(figures.data["changed_pages_zstd"].values())
    judge("bytes added after change <= 1.2 x compressed changed pages", divide(added, pages), 1.2, True, "{:.2f} x")
    for peer in ("restic", "borg"):
        judge(f"bytes added after change <= 1/8 of {peer}", divide(added, figures.added(peer, "changed")), 1 / 8,
              True, "{:.3f} x")
    for step in ("first", "changed"):
        seconds, note = fastest(step)
        judge(f"{STEP_NAMES[step]}: time <= 0.55 x fastest peer", divide(figures.seconds("strongroom", step), seconds),
              0.55, True, "{:.2f} x", note)
    seconds, note = fastest("restore")
    judge("restore >= 1.5 x as fast as the fastest peer", divide(seconds, figures.seconds("strongroom", "restore")),
          1.5, False, "{:.2f} x", note)
    stored = min(figures.values("strongroom", "verify", "repository_bytes"), default=None)
    judge("L1 verification >= 1000 MB/s of stored bytes",
          divide(stored, figures.seconds("strongroom", "verify")), 1e9, False, "{:.0f} B/s")
    judge("unchanged backup >= 600 MB/s of database",
          divide(figures.data["base_bytes"], figures.seconds("strongroom", "unchanged")), 6e8, False, "{:.0f} B/s")
    judge("peak memory of backups <= 64 MiB", figures.peak("strongroom", "first", "unchanged", "changed"),
          64 * MIB, True, "{:.0f} B")
    judge("peak memory of restore <= 192 MiB", figures.peak("strongroom", "restore"), 192 * MIB, True, "{:.0f} B")
    for row in rows:                      # exact numbers were judged; show handy ones
        value, _, unit = row[1].partition(" ")
        if unit == "B/s":
            row[1] = f"{int(value) / MB:.0f} MB/s"
        elif unit == "B":
            row[1] = f"{int(value) / MIB:.1f} MiB"
    return rows


def compare(result):
    figures, tools, data = Figures(result["sizes"][0]), result["tools"], result["sizes"][0]["data"]
    zstd = ", ".join(f"{size / MB:.2f} MB with zstd -{level}" for level, size in data["changed_pages_zstd"].items())
    backups = ("first", "unchanged", "changed")
    result["targets"] = [dict(zip(("target", "reached", "result"), row)) for row in targets(figures, tools)]
    lines = [
        *heading(result, f"Strongroom and its peers, {data['megabytes']} MB"), "",
        f"Database: {data['base_bytes'] / MB:.1f} MB, {data['certificates']} certificates;"
        f" {data['changed_bytes'] / MB:.1f} MB after the change. Pages that are new or differ: {data['changed_pages']},"
        f" {data['changed_pages_bytes'] / MB:.2f} MB; compressed {zstd}.",
        "", "## Time in seconds, minimum (median)", "",
        figures.grid(tools, STEP_NAMES, "seconds", 1, min, 2),
        "", "## Bytes added to the repository in MB, minimum (median)", "",
        figures.grid(tools, backups, "added_bytes", MB, min, 3),
        "", "## Peak memory in MiB, maximum (median)", "",
        figures.grid(tools, STEP_NAMES, "peak_bytes", MIB, max, 0)]
    if "strongroom" in tools:
        lines += ["", "## L1 verification straight after the first backup", "",
                  table(["", "seconds, minimum (median)", "MiB, maximum (median)"], [[
                      "strongroom", figures.cell("strongroom", "verify", "seconds", 1, min, 3),
                      figures.cell("strongroom", "verify", "peak_bytes", MIB, max, 0)]]),
                  "", "## Peers' need as a multiple of Strongroom's", "", ratios(figures, tools),
                  "", "## Targets", "", table(["target", "reached", "result"], targets(figures, tools))]
    return "\n".join(lines + failures(figures))


def growth(result):
    """One column a size; the last one shows what grows faster or slower than the data."""
    lines = heading(result, "Growth with the size of the database")
    sizes = [Figures(size) for size in result["sizes"]]
    stored = {"first": "first backup", "unchanged": "unchanged backup", "changed": "change"}
    for tool in result["tools"]:
        measures = [("database, MB", 1, lambda f: f.data["base_bytes"] / MB)]
        for step, title in STEP_NAMES.items():
            measures.append((f"{title}, s", 2, lambda f, step=step: f.seconds(tool, step)))
        for step, title in STEP_NAMES.items():
            measures.append((f"{title}, peak MiB", 1, lambda f, step=step: f.peak(tool, step) / MIB))
        for step, title in stored.items():
            measures.append((f"repository after {title}, MB", 1,
                             lambda f, step=step: min(f.values(tool, step, "repository_bytes")) / MB))
        measures.append(("first backup, MB/s", 0, lambda f: f.data["base_bytes"] / MB / f.seconds(tool, "first")))
        rows = []
        for title, digits, get in measures:
            found = [get(f) if f.values(tool, "restore", "seconds") else None for f in sizes]
            growth = f"{found[-1] / found[0]:.2f}" if found[0] and found[-1] else "-"
            rows.append([title, *("failed" if v is None else f"{v:.{digits}f}" for v in found), growth])
        lines += ["", f"## {tool}: time (minimum), peak memory (maximum), repository size", "",
                  table(["", *(f"{f.data['megabytes']} MB" for f in sizes), "last / first"], rows)]
    for f in sizes:
        lines += failures(f, f" at {f.data['megabytes']} MB")
    return "\n".join(lines)
