"""The report on a PostgreSQL database: tables, ratios, targets."""

import pgcluster
from pgtools import PEERS
from report import MB, MIB, Figures, failures, heading, table

STEP_NAMES = {"first": "first backup", "unchanged": "unchanged", "changed": "after change", "decode": "decode",
              "server": "into server"}
BACKUPS = ("first", "unchanged", "changed")
ADDED_LIMIT = 14 / 1000         # bytes added after the change, of bytes dumped


def grid(figures, tools, steps, key, unit, pick, digits):
    rows = [[tool, *(figures.cell(tool, s, key, unit, pick, digits) for s in steps)] for tool in tools
            if tool in figures.failures or any(figures.values(tool, s, key) for s in steps)]
    return table(["", *(STEP_NAMES[s] for s in steps)], rows)


def divide(a, b):
    return a / b if a is not None and b else None


def fastest(figures, tools, step):
    """Seconds and name of the fastest of some tools."""
    known = [(figures.seconds(t, step), t) for t in tools if figures.seconds(t, step)]
    seconds, name = min(known, default=(None, ""))
    missing = "" if len(known) == len(tools) else f", of {len(known)} only"
    return seconds, f" ({name}{missing})" if name else ""


def ratios(figures, tools):
    """Seconds as a multiple of bare pg_dump, and for the server of the fastest pg_restore."""
    load, _ = fastest(figures, ("pg_restore-fc", "pg_restore-fd"), "server")
    rows = []
    for tool in tools:
        found = [divide(figures.seconds(tool, s), figures.seconds("bare", s)) for s in BACKUPS]
        found += [divide(figures.seconds(tool, "server"), load)]
        if any(found):
            rows.append([tool, *(f"{v:.2f}" if v else "-" for v in found)])
    return table(["", *(f"{STEP_NAMES[s]} / bare" for s in BACKUPS), "into server / pg_restore -j2"], rows)


def targets(figures):
    """Rows of target, reached, result."""
    ours = "strongroom"
    rows = []

    def judge(title, reached, limit, at_most, text, note=""):
        met = "not measured" if reached is None else \
            "met" if (reached <= limit if at_most else reached >= limit) else "missed"
        rows.append([title, "-" if reached is None else text.format(reached) + note, met])

    judge("first backup <= 1.9 x bare pg_dump",
          divide(figures.seconds(ours, "first"), figures.seconds("bare", "first")), 1.9, True, "{:.2f} x")
    seconds, note = fastest(figures, PEERS, "first")
    judge("first backup <= 0.55 x fastest peer", divide(figures.seconds(ours, "first"), seconds), 0.55, True,
          "{:.2f} x", note)
    for step in ("unchanged", "changed"):
        judge(f"{STEP_NAMES[step]}: time <= 1.35 x bare pg_dump",
              divide(figures.seconds(ours, step), figures.seconds("bare", step)), 1.35, True, "{:.2f} x")
    added, limit = figures.added(ours, "changed", max), ADDED_LIMIT * figures.data["changed_bytes"] / MB
    judge(f"bytes added after change <= {limit:.2f} MB (14 MB a GB)", None if added is None else added / MB, limit,
          True, "{:.2f} MB")
    seconds, note = fastest(figures, PEERS, "decode")
    judge("decode >= 1.5 x as fast as the fastest peer", divide(seconds, figures.seconds(ours, "decode")), 1.5, False,
          "{:.2f} x", note)
    seconds, note = fastest(figures, ("pg_restore-fc", "pg_restore-fd"), "server")
    judge("into server <= 1.1 x pg_restore -j2", divide(figures.seconds(ours, "server"), seconds), 1.1, True,
          "{:.2f} x", note)
    for part, limit in (("loaded", 1.1), ("compared", None)):
        reached = divide(min(figures.values(ours, "server", f"reported_{part}"), default=None), seconds)
        if limit is None:
            rows.append([f"of it, {part}", "-" if reached is None else f"{reached:.2f} x", ""])
        else:
            judge(f"of it, {part} <= {limit} x", reached, limit, True, "{:.2f} x", note)
    for step in ("first", "changed"):
        full, counts = figures.seconds(ours, step), figures.seconds("strongroom-counts", step)
        share = None if full is None or counts is None else 100 * (full - counts) / full
        judge(f"{STEP_NAMES[step]}: digests <= 15 % of the time", share, 15, True, "{:.1f} %")
    return rows


def data_set(data):
    change = data["change"]
    rows = data["new_rows"] / data["changed_rows"]
    return [
        f"Database: {data['database_bytes'] / MB:.1f} MB on the server, its plain dump"
        f" {data['base_bytes'] / MB:.1f} MB, {data['certificates']} certificates, {data['base_rows']} rows; dump after"
        f" the change {data['changed_bytes'] / MB:.1f} MB."
        f" The change: {change['certificates_revoked']} random certificates revoked,"
        f" {change['jobs_finished']} random jobs finished, {change['certificates_added']} certificates added with their"
        f" versions, jobs and audit records: {data['new_rows']} rows new or changed ({100 * rows:.2f} %),"
        f" {data['new_rows_bytes'] / MB:.2f} MB, {data['new_rows_zstd'] / MB:.2f} MB compressed with zstd -3.", "",
        "Server settings: " + ", ".join(f"{name} = {value or repr('')}" for name, value in pgcluster.SETTINGS.items())
        + ". Nothing the server writes is synced to disk."]


def postgresql(result):
    figures, tools = Figures(result["sizes"][0]), result["tools"]
    data = result["sizes"][0]["data"]
    judged = targets(figures) if "strongroom" in tools else []
    result["targets"] = [dict(zip(("target", "reached", "result"), row)) for row in judged]
    lines = [
        *heading(result, f"PostgreSQL: Strongroom and its peers, {data['megabytes']} MB"), "", *data_set(data),
        "", "## Time in seconds, minimum (median)", "",
        grid(figures, tools, STEP_NAMES, "seconds", 1, min, 2),
        "", "## Time as a multiple of the limit", "", ratios(figures, tools),
        "", "## Bytes added to the repository in MB, minimum (median)", "",
        grid(figures, [t for t in tools if figures.added(t, "first")], BACKUPS, "added_bytes", MB, min, 3),
        "", "## Peak memory of the largest process in MiB, maximum (median)", "",
        grid(figures, tools, STEP_NAMES, "peak_bytes", MIB, max, 0),
        "", "## CPU time in seconds, server not counted, minimum (median)", "",
        grid(figures, tools, STEP_NAMES, "cpu_seconds", 1, min, 2)]
    if judged:
        lines += ["", "## Targets", "", table(["target", "reached", "result"], judged)]
    return "\n".join(lines + failures(figures))
