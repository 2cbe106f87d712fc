"""What the exporters share: schema, support data, one file from one model per feature, and a check of the result.

The files have one float input `X` [N, K], the public columns in schema order (a word as its index, NaN for missing),
and one output per sensitive column, named like the column. See docs/ONNX_IMPUTERS.md.
"""

import argparse
import csv
import tomllib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, compose, helper

import support

OPSETS = {"": 17, "ai.onnx.ml": 3}
MISSING = {"", "NA", "NaN", "nan"}


def arguments(description, **numbers):
    """The command line of an exporter; `numbers` are further integer options with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--study", required=True, help="study file, or a file with its [[schema.columns]] alone")
    parser.add_argument("--support", required=True, help="CSV of support records, with a header")
    parser.add_argument("--out", required=True, help="ONNX file to write")
    parser.add_argument("--seed", type=int, default=1)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    return parser.parse_args()


def features(study, role):
    """Columns of a role, in schema order."""
    with open(study, "rb") as file:
        document = tomllib.load(file)
    return [column for column in document["schema"]["columns"] if column["role"] == role]


def number(column, text):
    """A cell as a number: the value, the index of the word, or NaN."""
    text, kind = text.strip(), column["kind"]
    words = kind.get("vocabulary")
    if words is not None and text in words:
        return words.index(text)
    if text in MISSING:
        return np.nan
    clips = column.get("out_of_range") == "clip"
    if words is not None:
        if clips:
            return np.nan
        raise ValueError("a word that the vocabulary does not hold")
    low, high = kind.get("range", [0, 1])
    value = float(text)
    if not (low <= value <= high or clips):
        raise ValueError("a value outside the declared range")
    return min(max(value, low), high)


def read(path, columns):
    """Cells of a CSV file as float32 [N, K]. An error names row and column, never the cell."""
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        for line, record in enumerate(csv.DictReader(file), start=2):
            row = []
            for column in columns:
                try:
                    row.append(number(column, record[column["name"]]))
                except (KeyError, ValueError) as error:
                    reason = "no such column" if isinstance(error, KeyError) else "not a value that the schema admits"
                    raise SystemExit(f"{path}, line {line}, column {column['name']}: {reason}") from None
            rows.append(row)
    return np.array(rows, dtype=np.float32)


def join(parts, width, front=None):
    """One model from `parts`, {feature: (model, name of its output, columns of that output)}.

    Every part reads a float matrix [N, width] as its only input. Without `front` that is `X`; else `front`,
    (nodes, initializers, name of their result, width of X), makes it from `X`. `columns` maps a class probability to its place
    in the vocabulary: [C, V], or None.
    """
    nodes, initializers, source = [], [], "X"
    if front is not None:
        front_nodes, front_initializers, source, width = front
        nodes += front_nodes
        initializers += front_initializers
    outputs = []
    for feature, (model, output, columns) in parts.items():
        prefix = f"{feature}/"
        renamed = compose.add_prefix(model, prefix)
        nodes.append(helper.make_node("Identity", [source], [renamed.graph.input[0].name]))
        nodes += renamed.graph.node
        initializers += renamed.graph.initializer
        result = prefix + output
        if columns is not None:
            matrix = onnx.numpy_helper.from_array(columns.astype(np.float32), f"{prefix}columns")
            initializers.append(matrix)
            nodes.append(helper.make_node("MatMul", [result, matrix.name], [f"{prefix}ordered"]))
            result = f"{prefix}ordered"
        nodes.append(helper.make_node("Identity", [result], [feature]))
        count = columns.shape[1] if columns is not None else None
        outputs.append(helper.make_tensor_value_info(feature, TensorProto.FLOAT, ["N", count]))
    table = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, "imputer", [table], outputs, initializers)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="fusiondp-deploy-imputers")


def class_columns(column, classes):
    """Places of an estimator's classes, [C, V]: a class that the support data never shows gets probability 0."""
    width = len(column["kind"].get("vocabulary", [0, 1]))
    return np.eye(width)[np.asarray(classes, dtype=int)]


def save(model, options, table, expected):
    """Writes the file with the list of support patients, and reports how far ONNX Runtime is from scikit-learn on their data."""
    listed, sentence = support.describe(options.study, options.support)
    helper.set_model_props(model, listed)
    print(sentence)
    path = options.out
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for feature, result in zip(expected, session.run(list(expected), {"X": table})):
        wanted = np.asarray(expected[feature]).reshape(result.shape)
        error = np.abs(result - wanted) / np.maximum(1.0, np.abs(wanted))
        print(f"{feature}: largest error {error.max():.1e}, rows beyond 1e-4: {(error > 1e-4).any(axis=1).sum()}")
