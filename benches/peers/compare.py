"""Runs our side and the peers' in turns on this machine, and sets the figures against each other.

    compare.py --bin target/release [--only step dp-sgd impute federation sites rows] [--write docs/BENCHMARKS.md]

Prints a Markdown table. `make bench` calls it inside an environment with requirements.txt installed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import targets

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
STUDY = CHECKOUT / "deploy" / "samples" / "sepsis-study.toml"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
ITEMS = ("step", "dp-sgd", "impute", "federation", "sites", "rows")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=CHECKOUT / "target" / "release", help="folder of the binaries")
    parser.add_argument("--only", nargs="+", choices=ITEMS, default=ITEMS)
    parser.add_argument("--no-peers", action="store_true", help="measure our side alone")
    parser.add_argument("--turns", type=int, default=3, help="times that each side runs")
    parser.add_argument("--by", choices=("wall", "cpu"), default="wall", help="cpu: where other work shares the machine")
    parser.add_argument("--write", type=Path, help="file whose section of figures is replaced")
    parser.add_argument("--raw", type=Path, help="file that every measurement is added to, one JSON object per line")
    return parser.parse_args()


class Comparison:
    """Measurements of both sides."""

    def __init__(self, options, folder):
        self.options, self.folder, self.lines = options, folder, []

    def run(self, side, command):
        """Runs one side and keeps what it prints."""
        text = " ".join(str(part) for part in command[-8:])
        print(f"{side}: {text}", file=sys.stderr, flush=True)
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
        for line in filter(None, done.stdout.splitlines()):
            print(f"    {line}", file=sys.stderr, flush=True)
            self.lines.append({"side": side, **json.loads(line)})
            if self.options.raw:
                with self.options.raw.open("a") as raw:
                    raw.write(json.dumps(self.lines[-1]) + "\n")

    def ours(self, *command):
        self.run("ours", [self.options.bin / "fusiondp-simulate", "bench", *command, "--json"])

    def peer(self, script, *command):
        if not self.options.no_peers:
            self.run("peer", [sys.executable, HERE / script, *command])

    def figure(self, side, name, threads, detail=None):
        """Median over the turns; None where it was not measured. Threads None: whatever they were.

        Processor time says nothing of several threads, which are there to take less of the clock.
        """
        fits = lambda line: line["side"] == side and line["name"] == name and threads in (None, line["threads"])
        key = detail or ("cpu_value" if self.options.by == "cpu" and threads == 1 else None)
        values = [line["detail"].get(key, None if detail else line["value"]) for line in self.lines if fits(line)]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def step(self):
        for _ in range(self.options.turns):
            for threads in sorted({1, min(2, os.cpu_count())}):
                self.ours("step", "--threads", threads)
                self.peer("step.py", "--threads", threads)

    def dp_sgd(self):
        for _ in range(self.options.turns):
            self.ours("dp-sgd")
            self.peer("dp_sgd.py", "--seconds", 3)

    def impute(self):
        data, models = self.imputers()
        for _ in range(self.options.turns):
            for model in models:
                for threads in sorted({1, min(2, os.cpu_count())}):
                    common = ["--study", STUDY, "--model", model, "--data", data, "--rows", 65_536, "--threads", threads]
                    self.ours("impute", *common)
                    self.peer("impute.py", *common)

    def imputers(self):
        """Synthetic records and the imputers that this repository makes of them."""
        cohort, study = self.folder / "cohort", STUDY
        synthesize = [self.options.bin / "fusiondp-simulate", "synthesize", "--hospitals", 1, "--patients", 8_000]
        quietly([*synthesize, "--out", cohort])
        support, models = cohort / "support.csv", [self.folder / "network.onnx"]
        fit = [self.options.bin / "fusiondp-coordinator", "imputer", "fit", "--schema", study, "--support", support]
        quietly([*fit, "--out", models[0]])
        if not self.options.no_peers:
            models.append(self.folder / "boosting.onnx")
            script = CHECKOUT / "deploy" / "imputers" / "fit_boosting.py"
            quietly([sys.executable, script, "--study", study, "--support", support, "--out", models[1]])
        return next(cohort.glob("*/train.csv")), models

    def federation(self):
        self.ours("federation", "--study", STUDY)

    def sites(self):
        for sites in (125, 250, 500, 1_000):
            self.ours("sites", "--sites", sites)

    def rows(self):
        self.ours("rows")


def quietly(command):
    """Runs a command that prepares something, showing its output only when it fails."""
    print(f"prepare: {' '.join(str(part) for part in command)}", file=sys.stderr, flush=True)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout)


def table(comparison, load):
    """The section of figures."""
    lines = ["Measured with `make bench`, on", "", *machine.describe(CHECKOUT)]
    lines.append(f"* load of the machine when it began: {load:.2f}")
    if comparison.options.by == "cpu":
        lines.append("* one thread: processor time of each side, because other work shared the machine; the rest by the clock")
    lines += ["", "| what | ours | peer | ratio | target | met |", "|---|---|---|---|---|---|"]
    for row in targets.rows(comparison.figure):
        lines.append(f"| {row.what} | {row.ours} | {row.peer} | {row.ratio} | {row.target} | {row.met} |")
    return "\n".join(lines) + "\n"


def write(path, section):
    """Replaces the section between the markers."""
    text = path.read_text()
    before, rest = text.split(BEGIN, 1)
    path.write_text(before + BEGIN + "\n\n" + section + "\n" + END + rest.split(END, 1)[1])


def main():
    options = arguments()
    if options.write and set(options.only) != set(ITEMS):
        sys.exit("--write needs every figure: leave --only out")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(options, Path(folder))
        for item in options.only:
            getattr(comparison, item.replace("-", "_"))()
    section = table(comparison, load)
    print(section)
    if options.write:
        write(options.write, section)


if __name__ == "__main__":
    main()
