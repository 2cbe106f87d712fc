"""Makes every other file of this folder; see README.md."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parents[2] / "deploy" / "imputers"
sys.path.insert(0, str(SCRIPTS))
import contract  # noqa: E402

SEED, RECORDS, SHOWN = 7, 600, 12
STUDY, SUPPORT, RECORDS_FILE = HERE / "schema.toml", HERE / "support.csv", HERE / "records.csv"
WARDS, REFERRALS = ["icu", "general", "surgery"], ["home", "clinic", "transfer"]


def synthetic(rng, count):
    """Records whose sensitive cells follow from public ones and chance; no patient is behind them."""
    for _ in range(count):
        ward = rng.integers(3)
        heart_rate, lactate = rng.normal(80 + 10 * (ward == 0), 12), rng.lognormal(0.4 + 0.3 * (ward == 0), 0.5)
        male = rng.random() < 0.55
        creatinine = rng.lognormal(0.3 * male, 0.3)
        ventilated = rng.random() < (0.7 if ward == 0 else 0.1)
        age = np.clip(95 - 0.5 * heart_rate + 9 * np.log(creatinine) + rng.normal(0, 6), 18, 100)
        stay = np.clip(rng.exponential(20 + 25 * lactate), 1, 336)
        referral = rng.choice(3, p=np.roll([0.7, 0.2, 0.1], ward))
        yield {
            "heart_rate": f"{heart_rate:.1f}", "lactate": f"{lactate:.2f}", "ward": WARDS[ward],
            "creatinine": f"{creatinine:.2f}", "ventilated": str(int(ventilated)), "age": f"{age:.0f}",
            "male": str(int(male)), "stay": f"{stay:.0f}", "referral": REFERRALS[referral],
        }  # fmt: skip


def write(path, rng, count):
    """One cell in eight is empty, but in the first record none and in the second all public ones."""
    rows = list(synthetic(rng, count))
    for index, row in enumerate(rows):
        for name in row:
            empty = name in PUBLIC if index == 1 else index > 0 and rng.random() < 0.125
            row[name] = "" if empty else row[name]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def stock(path, table, targets):
    """A stock scikit-learn export: one model with one output for both numbers, mapped by the file's metadata."""
    numbers = [index for index, column in enumerate(SENSITIVE) if column["kind"]["type"] == "continuous"]
    known = ~np.isnan(targets[:, numbers]).any(axis=1)
    model = make_pipeline(SimpleImputer(), Ridge()).fit(table[known], targets[known][:, numbers])
    exported = to_onnx(
        model, initial_types=[("X", FloatTensorType([None, table.shape[1]]))], target_opset=contract.OPSETS
    )
    output = exported.graph.output[0].name
    mapping = {f"fusiondp.output.{SENSITIVE[n]['name']}": f"{output}[{i}:{i + 1}]" for i, n in enumerate(numbers)}
    onnx.helper.set_model_props(exported, mapping)
    onnx.save(exported, path)


def imputed(column, scores):
    """The cell that scores stand for, by the contract."""
    kind = column["kind"]
    if kind["type"] == "continuous":
        return float(np.float32(np.clip(scores[0], *kind["range"])))
    if kind["type"] == "categorical":
        return float(np.argmax(scores))
    probability = float(scores[-1])
    return float(probability >= 0.5) if column.get("transform", {}).get("type") == "one-hot" else probability


def expected(path, table, cells):
    """Outputs by name, and the imputed cells of the sensitive columns that the file has."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = {name: np.asarray(r).tolist() for name, r in zip(names, session.run(names, {"X": table}))}
    columns = [(column, cells(outputs, column)) for column in SENSITIVE]
    values = {c["name"]: [imputed(c, scores) for scores in rows] for c, rows in columns if rows is not None}
    return {"outputs": outputs, "imputed": values}


def lines(value, depth=0):
    """JSON with one line per output, so that a change can be read in a diff."""
    if not isinstance(value, dict):
        return json.dumps(value)
    inner = ",\n".join(" " * (depth + 1) + f"{json.dumps(key)}: {lines(item, depth + 1)}" for key, item in value.items())
    return "{\n" + inner + "\n" + " " * depth + "}"


PUBLIC = [column["name"] for column in contract.features(STUDY, "public")]
SENSITIVE = contract.features(STUDY, "sensitive")
rng = np.random.default_rng(SEED)
write(SUPPORT, rng, RECORDS)
write(RECORDS_FILE, rng, SHOWN)
for script, extra in [("boosting", ["--trees", "15", "--leaves", "7"]), ("linear", [])]:
    command = [sys.executable, SCRIPTS / f"fit_{script}.py", "--study", STUDY, "--support", SUPPORT]
    subprocess.run([*command, "--out", HERE / f"{script}.onnx", *extra], check=True)
public = contract.features(STUDY, "public")
stock(HERE / "stock.onnx", contract.read(SUPPORT, public), contract.read(SUPPORT, SENSITIVE))

table = contract.read(RECORDS_FILE, public)
order = [column["name"] for column in SENSITIVE if column["kind"]["type"] == "continuous"]


def by_name(outputs, column):
    return outputs[column["name"]]


def by_slice(outputs, column):
    if column["name"] not in order:
        return None
    place = order.index(column["name"])
    return [[row[place]] for row in outputs["variable"]]


answers = {name: expected(HERE / f"{name}.onnx", table, by_name) for name in ("boosting", "linear")}
answers["stock"] = expected(HERE / "stock.onnx", table, by_slice)
(HERE / "expected.json").write_text(lines(answers) + "\n")
