//! The setting of the FusionDP authors: both hospitals in one place, their scaling constants, their imputation.
//!
//! Their script scales the true and the imputed view with separate constants. A study declares one transform per column,
//! so the imputed values are moved instead: `x' = m + s (x - m_i) / s_i` becomes `(x - m_i) / s_i` under the transform
//! `(x' - m) / s` of the true view.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer};
use serde::Deserialize;
use toml::{Table, Value};

use super::error::ReproduceError;
use crate::split::hospitals;

/// Beyond every value of the files: their script clips nothing.
const RANGE: [f64; 2] = [-1e6, 1e6];

/// Mean and deviation of a column.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Moments {
    mean: f64,
    std: f64,
}

/// Scaling constants of both views by column.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Scaling {
    original: BTreeMap<String, Moments>,
    imputed: BTreeMap<String, Moments>,
}

impl Scaling {
    /// Reads `authors_scaling.json`.
    pub(super) fn read(path: &Path) -> Result<Self, ReproduceError> {
        let bytes = fs::read(path).map_err(ReproduceError::io(path))?;
        let failed = |problem: String| ReproduceError::Scaling { path: path.to_owned(), problem };
        let scaling: Self = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        for (column, moments) in scaling.original.iter().chain(&scaling.imputed) {
            if !(moments.std > 0.0 && moments.std.is_finite() && moments.mean.is_finite()) {
                return Err(failed(format!("column {column:?} has no finite mean and positive deviation")));
            }
        }
        Ok(scaling)
    }

    /// An imputed value, moved so that the true view's transform scales it as the imputed view's would.
    fn moved(&self, column: &str, value: f64) -> f64 {
        match (self.original.get(column), self.imputed.get(column)) {
            (Some(real), Some(imputed)) => real.mean + real.std * (value - imputed.mean) / imputed.std,
            _ => value,
        }
    }
}

/// The sample study with every feature column scaled by its constants, missing cells at 0 and no indicator of them.
pub(super) fn base(scaling: &Scaling, mut study: Table) -> Table {
    let columns = study.get_mut("schema").and_then(|schema| schema.get_mut("columns"));
    for column in columns.and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(column) = column.as_table_mut() else { continue };
        let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(moments) = scaling.original.get(name) else { continue };
        let kind = [("type", Value::from("continuous")), ("range", RANGE.to_vec().into())];
        let transform =
            [("type", Value::from("scale")), ("center", moments.mean.into()), ("scale", moments.std.into())];
        let table = |fields: Vec<(&str, Value)>| {
            Value::Table(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        column.insert("kind".to_owned(), table(kind.to_vec()));
        column.insert("transform".to_owned(), table(transform.to_vec()));
        column.insert("out_of_range".to_owned(), "clip".into());
        column.remove("missing_indicator");
    }
    study
}

/// Writes the cohorts of all hospitals as those of one, and the moved imputed values.
pub(super) fn pool(data: &Path, scaling: &Scaling, to: &Path) -> Result<(), ReproduceError> {
    fs::create_dir_all(to).map_err(ReproduceError::io(to))?;
    let folders: Vec<PathBuf> = hospitals(data)?.into_iter().map(|hospital| hospital.folder).collect();
    let unchanged = |_: &str, cell: &str| cell.to_owned();
    for name in ["train.csv", "val.csv", "test.csv"] {
        concatenate(&folders, name, &to.join(name), &unchanged)?;
    }
    let moved = |column: &str, cell: &str| match cell.parse::<f64>() {
        Ok(value) => scaling.moved(column, value).to_string(),
        Err(_) => cell.to_owned(),
    };
    concatenate(&folders, "train_imputed_tabpfn.csv", &to.join("train_imputed.csv"), &moved)
}

fn concatenate(
    folders: &[PathBuf],
    name: &str,
    to: &Path,
    change: &dyn Fn(&str, &str) -> String,
) -> Result<(), ReproduceError> {
    let mut writer = Writer::from_path(to).map_err(ReproduceError::csv(to))?;
    let mut first: Option<StringRecord> = None;
    for folder in folders {
        let path = folder.join(name);
        let failed = ReproduceError::csv(&path);
        let mut reader = ReaderBuilder::new().from_path(&path).map_err(&failed)?;
        let header = reader.headers().map_err(&failed)?.clone();
        if first.is_none() {
            writer.write_record(&header).map_err(ReproduceError::csv(to))?;
        }
        let wanted = first.get_or_insert_with(|| header.clone());
        if *wanted != header {
            let problem = format!("columns differ from those of {}", folders[0].display());
            return Err(ReproduceError::Scaling { path: path.clone(), problem });
        }
        for row in reader.records() {
            let row = row.map_err(&failed)?;
            let cells = header.iter().zip(&row).map(|(column, cell)| change(column, cell));
            writer.write_record(cells).map_err(ReproduceError::csv(to))?;
        }
    }
    writer.flush().map_err(ReproduceError::io(to))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::harness::toml_text::SAMPLE_STUDY;

    fn scaling() -> Scaling {
        let text = r#"{"original": {"HR": {"mean": 80, "std": 10}, "Age": {"mean": 60, "std": 16}},
                       "imputed": {"HR": {"mean": 80, "std": 10}, "Age": {"mean": 61, "std": 8}}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn moved_values_scale_as_their_own_view_does() {
        let scaling = scaling();
        let moved = scaling.moved("Age", 65.0);
        assert_eq!((moved - 60.0) / 16.0, (65.0 - 61.0) / 8.0);
        assert_eq!(scaling.moved("HR", 93.0), 93.0);
        assert_eq!(scaling.moved("other", 1.5), 1.5);
    }

    #[test]
    fn columns_with_constants_are_scaled_without_limit_or_indicator() {
        let study = base(&scaling(), SAMPLE_STUDY.parse().unwrap());
        let columns = study["schema"]["columns"].as_array().unwrap();
        let column =
            |name: &str| columns.iter().find(|column| column["name"].as_str() == Some(name)).unwrap();
        assert_eq!(column("Age")["transform"]["center"].as_float(), Some(60.0));
        assert!(column("HR").get("missing_indicator").is_none());
        assert!(column("O2Sat").get("missing_indicator").is_some());
        assert_eq!(column("Age")["role"].as_str(), Some("sensitive"));
    }
}
