//! Imputers that scikit-learn exported, and what ONNX Runtime 1.24.4 made of them from Python
//! (`tests/data/imputers/README.md`): an outside check of inspection and of the imputer contract.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fusiondp_learn::{
    imputer::imputed_column,
    onnx::{ElementType, ModelSummary, inspect},
    schema::Schema,
    table::ImputedFeatures,
};
use serde::Deserialize;

const BOOSTING: &[u8] = include_bytes!("../../../tests/data/imputers/boosting.onnx");
const LINEAR: &[u8] = include_bytes!("../../../tests/data/imputers/linear.onnx");
const STOCK: &[u8] = include_bytes!("../../../tests/data/imputers/stock.onnx");
const SCHEMA: &str = include_str!("../../../tests/data/imputers/schema.toml");
const EXPECTED: &str = include_str!("../../../tests/data/imputers/expected.json");

#[derive(Deserialize)]
struct Study {
    schema: Schema,
}

#[derive(Deserialize)]
struct Expected {
    outputs: BTreeMap<String, Vec<Vec<f32>>>,
    imputed: BTreeMap<String, Vec<f32>>,
}

fn schema() -> Schema {
    let schema = toml::from_str::<Study>(SCHEMA).unwrap().schema;
    schema.validate().unwrap();
    schema
}

fn operators(summary: &ModelSummary) -> Vec<String> {
    summary.operators.iter().map(|operator| format!("{}:{}", operator.domain, operator.operator)).collect()
}

#[test]
fn exported_files_are_self_contained_and_read_one_matrix() {
    for bytes in [BOOSTING, LINEAR, STOCK] {
        let summary = inspect(bytes).unwrap();
        summary.require_self_contained().unwrap();
        let [input] = summary.inputs.as_slice() else { panic!("one input") };
        assert_eq!((input.name.as_str(), input.element), ("X", ElementType::Float));
        assert_eq!(input.shape, Some(vec![None, Some(5)]));
        assert!(summary.outputs.iter().all(|output| output.element == ElementType::Float));
    }
    let trees = operators(&inspect(BOOSTING).unwrap());
    assert!(trees.contains(&"ai.onnx.ml:TreeEnsembleRegressor".to_owned()), "{trees:?}");
    let linear = inspect(LINEAR).unwrap();
    assert_eq!(linear.producer, "fusiondp-deploy-imputers");
    assert_eq!(linear.opsets, BTreeMap::from([(String::new(), 17), ("ai.onnx.ml".to_owned(), 3)]));
}

#[test]
fn outputs_are_named_like_features_or_mapped_by_metadata() {
    for bytes in [BOOSTING, LINEAR] {
        let summary = inspect(bytes).unwrap();
        let names: Vec<&str> = summary.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["age", "male", "stay", "referral"]);
    }
    let stock = inspect(STOCK).unwrap();
    assert_eq!(stock.metadata["fusiondp.output.age"], "variable[0:1]");
    assert_eq!(stock.metadata["fusiondp.output.stay"], "variable[1:2]");
}

#[test]
fn scores_become_the_cells_that_python_made_of_them() {
    let schema = schema();
    let expected: BTreeMap<String, Expected> = serde_json::from_str(EXPECTED).unwrap();
    for name in ["boosting", "linear"] {
        let Expected { outputs, imputed } = &expected[name];
        let mut columns = Vec::new();
        for column in schema.sensitive() {
            let scores = &outputs[&column.name];
            let cells = imputed_column(column, &scores.concat(), scores[0].len()).unwrap();
            assert_eq!(cells, imputed[&column.name], "{name}, {}", column.name);
            columns.push(cells);
        }
        assert_eq!(ImputedFeatures::new(&schema, columns).unwrap().rows(), 12);
    }
}
