//! Two study documents, field by field.

use std::collections::BTreeMap;

use fusiondp_protocol::study::Study;
use serde_json::Value;

/// One field that differs, as `privacy.clip_norm  0.7 -> 1.2`; `-` where a side has no such field. Settings that a document
/// leaves out stand with their defaults, and columns go by their names.
pub(super) fn difference(before: &Study, after: &Study) -> Vec<String> {
    let (before, after) = (fields(before), fields(after));
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let shown = |side: &BTreeMap<String, String>, path| side.get(path).map_or("-", String::as_str).to_owned();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| format!("{path}  {} -> {}", shown(&before, path), shown(&after, path)))
        .collect()
}

fn fields(study: &Study) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    // A study that was read can be written; an empty side would show every field as new.
    if let Ok(value) = serde_json::to_value(study) {
        flatten(&value, String::new(), &mut fields);
    }
    fields
}

fn flatten(value: &Value, path: String, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, below, fields);
            }
        }
        Value::Array(values) if values.iter().all(|value| name(value).is_some()) && !values.is_empty() => {
            for value in values {
                flatten(value, format!("{path}[{}]", name(value).unwrap_or_default()), fields);
            }
        }
        leaf => {
            fields.insert(path, leaf.to_string());
        }
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::document;

    use super::*;

    #[test]
    fn each_changed_field_is_told_once_with_both_values() {
        let old = document(&[]);
        let new = document(&[
            ("clip_norm = 0.5", "clip_norm = 1.25"),
            ("name = \"a\", role = \"public\"", "name = \"a\", role = \"sensitive\""),
            ("min_sites = 1", "min_sites = 1\nround_timeout_s = 30"),
            ("target = { noise_multiplier = 1.5 }", "target = { epsilon = 1.0, relation = \"replace\" }"),
        ]);
        assert_eq!(
            difference(old.study(), new.study()),
            [
                "federation.round_timeout_s  600 -> 30",
                "privacy.clip_norm  0.5 -> 1.25",
                "privacy.target.epsilon  - -> 1.0",
                "privacy.target.noise_multiplier  1.5 -> -",
                "privacy.target.relation  - -> \"replace\"",
                "schema.columns[a].role  \"public\" -> \"sensitive\"",
            ]
        );
        assert!(difference(old.study(), old.study()).is_empty());
    }
}
