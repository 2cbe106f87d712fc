//! Logits, norms and gradients against `*.safetensors`.

use std::fs;
use std::path::Path;

use super::{Finding, LIMIT_F32, LIMIT_F64, VectorsError, file_name};

pub(super) fn check(path: &Path) -> Result<Vec<Finding>, VectorsError> {
    let bytes = fs::read(path).map_err(|source| VectorsError::Io { path: path.to_owned(), source })?;
    let report = fusiondp_learn::vectors::check(&bytes)
        .map_err(|e| VectorsError::Form { path: path.to_owned(), problem: e.to_string() })?;
    let mut findings = Vec::with_capacity(2 * report.quantities.len());
    for quantity in report.quantities {
        for (precision, error, limit) in
            [("f64", quantity.double, LIMIT_F64), ("f32", quantity.single, LIMIT_F32)]
        {
            findings.push(Finding {
                file: file_name(path),
                group: precision.to_owned(),
                quantity: quantity.quantity.clone(),
                error,
                limit,
            });
        }
    }
    Ok(findings)
}
