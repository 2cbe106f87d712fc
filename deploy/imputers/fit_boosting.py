"""Fits one histogram gradient boosting model per sensitive feature and writes one ONNX file.

Missing public cells go in as they are: the trees learn which way NaN goes.
"""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import contract

options = contract.arguments(__doc__, trees=100, leaves=31)
public, sensitive = (contract.features(options.study, role) for role in ("public", "sensitive"))
table, targets = contract.read(options.support, public), contract.read(options.support, sensitive)

shape = dict(max_iter=options.trees, max_leaf_nodes=options.leaves, learning_rate=0.06, random_state=options.seed)
parts, expected = {}, {}
for column, target in zip(sensitive, targets.T):
    name, known = column["name"], ~np.isnan(target)
    continuous = column["kind"]["type"] == "continuous"
    if continuous:
        # The median: hours and costs have tails that would pull a mean away from most patients.
        model = HistGradientBoostingRegressor(loss="absolute_error", **shape)
    else:
        model = HistGradientBoostingClassifier(**shape)
    model.fit(table[known], target[known])
    exported = to_onnx(
        model,
        initial_types=[("X", FloatTensorType([None, len(public)]))],
        target_opset=contract.OPSETS,
        options={} if continuous else {"zipmap": False},
    )
    columns = None if continuous else contract.class_columns(column, model.classes_)
    parts[name] = (exported, exported.graph.output[-1].name, columns)
    expected[name] = model.predict(table) if continuous else model.predict_proba(table) @ columns

contract.save(contract.join(parts, len(public)), options, table, expected)
