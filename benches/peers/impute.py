"""Imputation with Python's ONNX Runtime: the same file, the same records, the same threads.

From the model file and the columns of a table to the arrays that the model gives, which is less than the site does: it also
checks every score and turns it into a cell. The best of several batch sizes counts.
"""

import argparse
import csv
import json
import statistics
import time
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCHES = (1_024, 4_096, 16_384)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


def public_columns(study, data, rows):
    """The study's public columns as float32, clipped where the schema clips, records repeated up to `rows`."""
    columns = [c for c in tomllib.loads(study.read_text())["schema"]["columns"] if c["role"] == "public"]
    with data.open(newline="") as file:
        cells = list(csv.DictReader(file))
    table = {}
    for column in columns:
        values = np.array([float(row[column["name"]] or "nan") for row in cells], np.float32)
        if column.get("out_of_range") == "clip":
            values = np.clip(values, *column["kind"]["range"])
        table[column["name"]] = np.resize(values, rows)
    return table


def impute(options, table, size):
    """Makes the session and runs the whole table in batches."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    session = ort.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
    rows = options.rows
    inputs = session.get_inputs()
    one_matrix = len(inputs) == 1 and inputs[0].name not in table
    for first in range(0, rows, size):
        part = slice(first, min(first + size, rows))
        if one_matrix:
            feed = {inputs[0].name: np.column_stack([column[part] for column in table.values()])}
        else:
            feed = {i.name: table[i.name][part].reshape((-1, 1) if len(i.shape) == 2 else -1) for i in inputs}
        session.run(None, feed)


def measure(table, options, size):
    """Seconds of wall clock and of processor time for the whole table, repeated."""
    impute(options, table, size)
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < options.seconds / len(BATCHES):
        wall, cpu = time.perf_counter(), time.process_time()
        impute(options, table, size)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [statistics.median(column) for column in zip(*times)]


options = arguments()
table = public_columns(options.study, options.data, options.rows)
best = min((measure(table, options, size), size) for size in BATCHES)
(wall, cpu), size = best
detail = {"batch": size, "rows": options.rows, "cpu_value": options.rows / cpu * options.threads}
line = {"name": f"impute/{options.model.stem}", "unit": "rows/s", "value": options.rows / wall}
print(json.dumps(line | {"threads": options.threads, "detail": detail}), flush=True)
