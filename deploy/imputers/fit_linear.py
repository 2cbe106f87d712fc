"""Fits one ridge or logistic regression per sensitive feature and writes one ONNX file.

`SimpleImputer(add_indicator=True)` loses its indicators on conversion, so the graph makes them itself: in front of the
scikit-learn pipelines stands [numbers, their indicators, one-hot words], and the pipelines fill in means and scale.
"""

import numpy as np
import onnx
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import contract


def design(table, numbers, words):
    """[numbers, 1 where a number is missing, 1 at a row's word]; `words` is [(column, index of the word)]."""
    own = table[:, numbers]
    hot = [table[:, column] == word for column, word in words]
    return np.column_stack([own, np.isnan(own), *hot]).astype(np.float32)


def design_graph(width, numbers, words):
    """`design` as ONNX nodes, from `X` to `design`."""
    constant = lambda name, values, kind: onnx.numpy_helper.from_array(np.array(values, dtype=kind), name)
    initializers = [
        constant("numbers", numbers, np.int64),
        constant("word_columns", [column for column, _ in words], np.int64),
        constant("word_indices", [[word for _, word in words]], np.float32),
    ]
    nodes = [
        helper.make_node("Gather", ["X", "numbers"], ["own"], axis=1),
        helper.make_node("IsNaN", ["own"], ["is_missing"]),
        helper.make_node("Cast", ["is_missing"], ["indicators"], to=onnx.TensorProto.FLOAT),
    ]
    blocks = ["own", "indicators"]
    if words:
        nodes += [
            helper.make_node("Gather", ["X", "word_columns"], ["repeated"], axis=1),
            helper.make_node("Equal", ["repeated", "word_indices"], ["is_word"]),
            helper.make_node("Cast", ["is_word"], ["hot"], to=onnx.TensorProto.FLOAT),
        ]
        blocks.append("hot")
    nodes.append(helper.make_node("Concat", blocks, ["design"], axis=1))
    return nodes, initializers if words else initializers[:1], "design", width


options = contract.arguments(__doc__)
public, sensitive = (contract.features(options.study, role) for role in ("public", "sensitive"))
table, targets = contract.read(options.support, public), contract.read(options.support, sensitive)

vocabularies = [column["kind"].get("vocabulary") for column in public]
numbers = [index for index, words in enumerate(vocabularies) if words is None]
words = [(index, word) for index, known in enumerate(vocabularies) if known for word in range(len(known))]
inputs = design(table, numbers, words)

parts, expected = {}, {}
for column, target in zip(sensitive, targets.T):
    name, known = column["name"], ~np.isnan(target)
    continuous = column["kind"]["type"] == "continuous"
    last = Ridge() if continuous else LogisticRegression(max_iter=1000, random_state=options.seed)
    # A column that is never observed is 0, not dropped: dropping would change the width.
    model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), last)
    model.fit(inputs[known], target[known])
    exported = to_onnx(
        model,
        initial_types=[("X", FloatTensorType([None, inputs.shape[1]]))],
        target_opset=contract.OPSETS,
        options={} if continuous else {"zipmap": False},
    )
    columns = None if continuous else contract.class_columns(column, model.classes_)
    parts[name] = (exported, exported.graph.output[-1].name, columns)
    expected[name] = model.predict(inputs) if continuous else model.predict_proba(inputs) @ columns

front = design_graph(len(public), numbers, words)
contract.save(contract.join(parts, inputs.shape[1], front), options, table, expected)
