"""The order of a measurement: repetitions, steps, tools, so that noise meets all tools alike."""

import shutil
import sys
from pathlib import Path

import measure
import tools


def say(text):
    print(text, file=sys.stderr, flush=True)


class Rounds:
    """The measurement of some tools on one data set; what is measured comes from a subclass."""
    steps = ()

    def __init__(self, work, data, chosen, failures):
        self.work, self.data, self.failures = work, data, failures
        self.tools = [tool for tool in chosen if tool.name not in failures]
        self.samples = {tool.name: {step: [] for step in tool.steps} for tool in self.tools}
        self.rooms = work / "rooms"

    # --- what a subclass says ---

    def begin(self):
        """Put the data in place as they are before the change."""
        raise NotImplementedError

    def change(self):
        """Put the data in place as they are after the change."""
        raise NotImplementedError

    def source(self):
        """What a tool is told to back up (see Tool.enter)."""
        raise NotImplementedError

    def step(self, tool, step):
        """Measure one step of one tool, and keep the sample."""
        raise NotImplementedError

    def enter(self, tool):
        """Tell a tool, in its empty room, what it does not know itself."""

    # --- what all share ---

    def fail(self, tool, step, error):
        text = str(error).replace(str(self.work), "WORK").replace(str(Path.home()), "~")
        self.failures[tool.name] = f"{step}: {text}"
        say(f"{tool.name} failed: {self.failures[tool.name]}")

    def call(self, tool, argv, cwd=None):
        """Run one command of a tool in its room."""
        done = measure.run(argv, tool.env, cwd or tool.room, tool.room / "log")
        if done.exit_code:
            last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-8:])
            raise tools.Failure(f"exit status {done.exit_code}\n{last}")
        return done

    def keep(self, tool, step, done, before, **more):
        """Keep the figures of a step; `before` is the size of the repository before it."""
        after = measure.tree_bytes(tool.repository)
        self.samples[tool.name][step].append({
            "seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_bytes": done.peak_bytes,
            "added_bytes": after - before, "repository_bytes": after,
            **{f"reported_{key}": value for key, value in tool.facts(step, done.stdout).items()}, **more})
        say(f"  {tool.name:<17}{step:<10}{done.seconds:8.2f} s {done.peak_bytes / 2**20:7.0f} MiB"
            f" {(after - before) / 1e6:+9.2f} MB")

    def each(self, tool, step, action):
        if tool.name in self.failures:
            return
        try:
            action()
        except (tools.Failure, OSError) as error:
            self.fail(tool, step, error)

    def repetition(self, number):
        """Fresh repositories; every step for all tools before the next step; the order rotates."""
        turn = number % len(self.tools)
        order = self.tools[turn:] + self.tools[:turn]
        shutil.rmtree(self.rooms, ignore_errors=True)
        self.begin()
        entered = []
        try:
            for tool in order:
                tool.enter(self.rooms / tool.name, self.source())
                entered.append(tool)
                self.enter(tool)
                self.each(tool, "init", lambda: tool.create(lambda argv: self.call(tool, argv).stdout))
            for step in self.steps:
                if step == "changed":
                    self.change()
                for tool in order:
                    if step in tool.steps:
                        self.each(tool, step, lambda: self.step(tool, step))
        finally:
            for tool in entered:
                tool.leave()

    def measure(self, repetitions):
        for number in range(repetitions):
            if not self.tools:
                break
            say(f"repetition {number + 1} of {repetitions}, {self.data['megabytes']} MB")
            self.repetition(number)
        return {"data": {key: value for key, value in self.data.items() if key != "dir"},
                "samples": self.samples, "failures": self.failures}
