//! Explains documents that cannot be read because they ask for something that must not be asked for. The reader refuses
//! them anyway, as it refuses every unknown field; here they get a name and a remedy.

use toml::{Table, Value};

use super::StudyError;

/// The only seed of a study: that of the first model, which is public.
const PUBLIC_SEED: &str = "initialization_seed";

/// The misuse behind a reader's error at `path`; `None` for an ordinary mistake.
pub(super) fn explain(text: &str, path: &str, said: &str) -> Option<StudyError> {
    let table: Table = text.parse().ok()?;
    let target = table.get("privacy").and_then(|privacy| privacy.get("target"));
    if let Some(path) = find_key(&table, "", &|key| key.contains("sensitivity")) {
        return Some(StudyError::SensitivityGiven { path });
    }
    if let Some(path) = find_key(&table, "", &|key| key.contains("seed") && key != PUBLIC_SEED) {
        return Some(StudyError::SeedGiven { path });
    }
    if path.contains("transform") {
        return Some(StudyError::TransformNotDeclared { path: path.to_owned(), problem: said.to_owned() });
    }
    if path.starts_with("privacy.target") {
        return target.and_then(explain_target);
    }
    None
}

fn explain_target(target: &Value) -> Option<StudyError> {
    let known = |relation: &Value| matches!(relation.as_str(), Some("replace" | "zero_out"));
    if target.is_array() || target.get("relation").is_some_and(|relation| !known(relation)) {
        return Some(StudyError::RelationChoice);
    }
    let noise = target.get("noise_multiplier")?;
    let number = noise.as_float().or_else(|| noise.as_integer().map(|integer| integer as f64))?;
    (number <= 0.0).then_some(StudyError::NoNoise { noise_multiplier: number })
}

/// Path of the first key that is wanted, depth first.
fn find_key(table: &Table, above: &str, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        if wanted(&key.to_lowercase()) { Some(path) } else { find_below(value, &path, wanted) }
    })
}

fn find_below(value: &Value, path: &str, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
    match value {
        Value::Table(table) => find_key(table, path, wanted),
        Value::Array(values) => {
            let below = |(index, value)| find_below(value, &format!("{path}[{index}]"), wanted);
            values.iter().enumerate().find_map(below)
        }
        _ => None,
    }
}
