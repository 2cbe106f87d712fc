"""Runs an exported model on raw rows with ONNX Runtime and compares with probabilities computed elsewhere.

usage: check_onnx.py MODEL.onnx ROWS.csv EXPECTED.csv [--tolerance 1e-5]

ROWS.csv holds raw records with a header line; the model has one input per feature column, named like it: float32 with
NaN for an empty cell, or string with "" for it. EXPECTED.csv holds one column `probability` in the order of ROWS.csv.
Exit code 1 when a probability differs by more than the tolerance. Needs numpy and onnxruntime.
"""
import argparse
import csv
import sys

import numpy as np
import onnxruntime


def read_columns(path):
    """Columns of a CSV file as lists of text, by name."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        sys.exit(f"{path} has no rows")
    return {name: [row[name] for row in rows] for name in rows[0]}


def feed(session, columns):
    """One [N, 1] array per model input, cells as they stand in the file."""
    arrays = {}
    for tensor in session.get_inputs():
        if tensor.name not in columns:
            sys.exit(f"the model needs a column {tensor.name!r}; the file has {sorted(columns)}")
        cells = columns[tensor.name]
        if tensor.type == "tensor(string)":
            array = np.array(cells, dtype=object)
        else:
            array = np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float32)
        arrays[tensor.name] = array.reshape(-1, 1)
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("expected")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    arguments = parser.parse_args()

    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    probability = session.run(["probability"], feed(session, read_columns(arguments.rows)))[0].reshape(-1)
    expected = np.array([float(cell) for cell in read_columns(arguments.expected)["probability"]])
    if probability.shape != expected.shape:
        sys.exit(f"{probability.shape[0]} probabilities for {expected.shape[0]} expected ones")
    worst = float(np.max(np.abs(probability - expected)))
    print(f"{len(expected)} rows, largest difference {worst:.3g}, tolerance {arguments.tolerance:g}")
    if not worst <= arguments.tolerance:
        sys.exit(1)


if __name__ == "__main__":
    main()
