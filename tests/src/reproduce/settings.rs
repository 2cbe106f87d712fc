//! From the declared settings to the study of a run.

use std::collections::BTreeMap;

use fusiondp_dp::Digest;
use fusiondp_protocol::study::StudyDocument;
use serde::Deserialize;
use toml::{Table, Value};

use super::cell::{Cell, Target};
use super::error::{CellError, ReproduceError};
use super::mode::{DataName, Recipe};

/// The settings that belong to this build; `--settings` reads others.
pub const DEFAULT_SETTINGS: &str = include_str!("settings.toml");

/// Settings of every data set.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct SweepSettings(BTreeMap<DataName, DataSettings>);

/// Settings of one data set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSettings {
    /// Number of sites, in place of the command line's.
    pub sites: Option<usize>,
    /// Noise multiplier, in place of calibration to the command line's epsilons.
    #[serde(rename = "noise_multiplier")]
    pub noise_multiplier: Option<f64>,
    /// Columns as networks read them.
    #[serde(default)]
    columns: BTreeMap<String, Table>,
    /// Columns as the sensitive head of a split model reads them.
    #[serde(default)]
    head_columns: BTreeMap<String, Table>,
    #[serde(default)]
    network: Table,
    #[serde(default)]
    mode: BTreeMap<Recipe, Table>,
}

/// What pins the imputer of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImputerPin {
    /// The run reads no imputed value.
    Unused,
    /// An ONNX file.
    Onnx(Digest),
    /// A file of values, part of the data's digest.
    File,
    /// Draws from declared ranges.
    DeclaredNoise,
}

impl SweepSettings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// What is no settings file, with its place.
    pub fn parse(text: &str) -> Result<Self, ReproduceError> {
        toml::from_str(text).map_err(|problem| ReproduceError::Settings { problem: problem.to_string() })
    }

    /// Settings of a data set.
    ///
    /// # Errors
    /// The file has no section of it.
    pub fn of(&self, data: DataName) -> Result<&DataSettings, ReproduceError> {
        self.0
            .get(&data)
            .ok_or_else(|| ReproduceError::Settings { problem: format!("no section [{data}] in the file") })
    }
}

impl DataSettings {
    /// Modes that are run on the data set.
    pub fn recipes(&self) -> impl Iterator<Item = Recipe> {
        self.mode.keys().copied()
    }

    /// The study of a run on top of the data set's base study.
    ///
    /// # Errors
    /// Settings that make no valid study, with the field.
    pub fn study(
        &self,
        base: &Table,
        cell: &Cell,
        sites: usize,
        pin: ImputerPin,
    ) -> Result<StudyDocument, CellError> {
        let mut study = base.clone();
        let has_head = matches!(cell.recipe, Recipe::Split | Recipe::SplitHybrid | Recipe::PublicOnly);
        override_columns(&mut study, if has_head { &self.head_columns } else { &self.columns });
        if !matches!(cell.recipe, Recipe::Split | Recipe::SplitHybrid) {
            study.extend(self.network.clone());
        }
        let mut changes = self.mode.get(&cell.recipe).cloned().unwrap_or_default();
        remove(&mut study, changes.remove("remove"));
        let at_target = at(changes.remove("at"), cell.target);
        merge(&mut study, &changes);
        merge(&mut study, &at_target);
        describe(&mut study, cell, sites, pin);
        // Serializing a table of plain values cannot fail; were it to, the empty text is refused as a study.
        let text = toml::to_string(&study).unwrap_or_default();
        Ok(StudyDocument::from_bytes(text.as_bytes())?)
    }
}

fn override_columns(study: &mut Table, changes: &BTreeMap<String, Table>) {
    let columns = study.get_mut("schema").and_then(|schema| schema.get_mut("columns"));
    let Some(columns) = columns.and_then(Value::as_array_mut) else { return };
    for column in columns.iter_mut().filter_map(Value::as_table_mut) {
        let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(changes) = changes.get(name) {
            column.extend(changes.clone());
        }
    }
}

/// What follows from the run itself.
fn describe(study: &mut Table, cell: &Cell, sites: usize, pin: ImputerPin) {
    set(study, "study", "name", format!("{} {}", cell.data, cell.recipe));
    set(study, "study", "description", "");
    set(study, "fusion", "mode", cell.recipe.mode().as_str());
    set(study, "training", "initialization_seed", i64::try_from(cell.seed).unwrap_or(i64::MAX));
    set(study, "federation", "min_sites", i64::try_from(sites).unwrap_or(i64::MAX));
    let target = match cell.target {
        Target::Epsilon(epsilon) => {
            Table::from_iter([("epsilon", Value::from(epsilon)), ("relation", "replace".into())].map(owned))
        }
        Target::Noise(noise) => Table::from_iter([owned(("noise_multiplier", noise.into()))]),
        // Nothing is noised, but every study names a target.
        Target::None => Table::from_iter([owned(("noise_multiplier", 1.0.into()))]),
    };
    set(study, "privacy", "target", target);
    let imputer = match pin {
        ImputerPin::Unused if cell.recipe.redacts() => Table::from_iter([owned(("kind", "redacted".into()))]),
        ImputerPin::Unused => Table::from_iter([owned(("kind", "none".into()))]),
        ImputerPin::File => Table::from_iter([owned(("kind", "precomputed".into()))]),
        ImputerPin::DeclaredNoise => Table::from_iter([owned(("kind", "declared-noise".into()))]),
        ImputerPin::Onnx(digest) => {
            let sha256 = Value::from(digest.to_string());
            Table::from_iter([("kind", Value::from("onnx")), ("sha256", sha256)].map(owned))
        }
    };
    study.insert("imputer".to_owned(), Value::Table(imputer));
}

fn owned((key, value): (&str, Value)) -> (String, Value) {
    (key.to_owned(), value)
}

fn set(study: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let entry = study.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Some(section) = entry.as_table_mut() {
        section.insert(key.to_owned(), value.into());
    }
}

/// What a table by epsilon holds for the run's own; nothing where it names none.
fn at(table: Option<Value>, target: Target) -> Table {
    let Target::Epsilon(epsilon) = target else { return Table::new() };
    let entries = table.as_ref().and_then(Value::as_table).into_iter().flatten();
    let mut of_epsilon = entries.filter(|(key, _)| key.parse() == Ok(epsilon));
    of_epsilon.next().and_then(|(_, changes)| changes.as_table()).cloned().unwrap_or_default()
}

/// Takes out what a list of `section.key` names.
fn remove(study: &mut Table, list: Option<Value>) {
    for name in list.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        if let Some(section) = study.get_mut(section).and_then(Value::as_table_mut) {
            section.remove(key);
        }
    }
}

/// Writes `changes` over `table`, table by table; one that names its `kind` is replaced as a whole, since the fields of
/// another kind would be left over.
fn merge(table: &mut Table, changes: &Table) {
    for (key, change) in changes {
        match (table.get_mut(key).and_then(Value::as_table_mut), change.as_table()) {
            (Some(inner), Some(change)) if !change.contains_key("kind") => merge(inner, change),
            _ => {
                table.insert(key.clone(), change.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fusiondp_learn::model::{ModelSpec, PrivateLoss};
    use fusiondp_protocol::study::Mode;

    use super::*;
    use crate::reproduce::mode::ImputerName;

    const SEPSIS: &str = include_str!("../../../deploy/samples/sepsis-study.toml");
    const BANK: &str = include_str!("../../../deploy/samples/bank-study.toml");

    fn cell(data: DataName, recipe: Recipe) -> Cell {
        let imputer = recipe.reads_imputed_values().then_some(ImputerName::File);
        let target = if recipe.is_noised() { Target::Epsilon(1.0) } else { Target::None };
        Cell { data, recipe, imputer, target, seed: 3 }
    }

    fn pin(recipe: Recipe) -> ImputerPin {
        match recipe {
            Recipe::FeatureDp => ImputerPin::DeclaredNoise,
            recipe if recipe.reads_imputed_values() => ImputerPin::File,
            _ => ImputerPin::Unused,
        }
    }

    #[test]
    fn the_declared_settings_make_valid_studies() {
        let settings = SweepSettings::parse(DEFAULT_SETTINGS).unwrap();
        for (data, base) in [(DataName::Sepsis, SEPSIS), (DataName::Bank, BANK)] {
            let base: Table = base.parse().unwrap();
            let of_data = settings.of(data).unwrap();
            for recipe in of_data.recipes() {
                let document = of_data.study(&base, &cell(data, recipe), 8, pin(recipe));
                let document = document.unwrap_or_else(|error| panic!("{data} {recipe}: {error}"));
                let study = document.study();
                assert_eq!(study.fusion.mode, recipe.mode());
                assert_eq!((study.training.initialization_seed, study.federation.min_sites), (3, 8));
                assert_eq!(
                    study.uses_imputer(),
                    recipe.reads_imputed_values() || recipe == Recipe::FeatureDp
                );
            }
        }
        assert!(settings.of(DataName::Sepsis).unwrap().recipes().count() >= 10);
    }

    #[test]
    fn split_follows_the_sample_study() {
        let settings = SweepSettings::parse(DEFAULT_SETTINGS).unwrap();
        let base: Table = SEPSIS.parse().unwrap();
        let of_data = settings.of(DataName::Sepsis).unwrap();
        let study = of_data.study(&base, &cell(DataName::Sepsis, Recipe::Split), 8, ImputerPin::Unused);
        let sample = StudyDocument::from_bytes(SEPSIS.as_bytes()).unwrap();
        let (study, mut sample) = (study.unwrap().study().clone(), sample.study().clone());
        if let ModelSpec::Split { members, .. } = &mut sample.model {
            *members = 4;
        }
        assert_eq!((study.model, study.schema), (sample.model, sample.schema));
        assert_eq!(study.training.optimizer, sample.training.optimizer);
        assert_eq!(study.privacy.clip_norm, sample.privacy.clip_norm);
    }

    #[test]
    fn modes_are_what_their_names_say() {
        let settings = SweepSettings::parse(DEFAULT_SETTINGS).unwrap();
        let base: Table = SEPSIS.parse().unwrap();
        let of_data = settings.of(DataName::Sepsis).unwrap();
        let study = |recipe| {
            let document = of_data.study(&base, &cell(DataName::Sepsis, recipe), 8, pin(recipe)).unwrap();
            document.study().clone()
        };
        let (fusion, mut plain) = (study(Recipe::FusionDp), study(Recipe::FusionDp));
        plain.fusion.consistency_weight = 0.0;
        assert!(fusion.fusion.consistency_weight > 0.0);
        assert_eq!(plain.private_objective().consistency_weight, 0.0);
        assert_eq!(study(Recipe::Calibrated).fusion.private_loss(), PrivateLoss::Difference);
        assert_eq!(study(Recipe::NaiveFusion).fusion.private_loss(), PrivateLoss::Direct);
        assert!(study(Recipe::WarmStart).fusion.warmup_rounds > 0);
        let public = study(Recipe::PublicOnly);
        assert!(matches!(public.model, ModelSpec::Split { .. }) && public.fusion.mode == Mode::HybridOnly);
        assert!(!public.uses_imputer());
    }

    #[test]
    fn settings_are_read_strictly() {
        for wrong in ["[sepsis]\nroundz = 3", "[sepsis.mode.fusion]", "[sepsi]"] {
            assert!(SweepSettings::parse(wrong).is_err(), "{wrong}");
        }
        let settings = SweepSettings::parse("[bank]").unwrap();
        assert!(settings.of(DataName::Sepsis).unwrap_err().to_string().contains("[sepsis]"));
    }

    #[test]
    fn an_epsilon_has_settings_of_its_own() {
        let settings = SweepSettings::parse(DEFAULT_SETTINGS).unwrap();
        let base: Table = SEPSIS.parse().unwrap();
        let clip_norm = |epsilon| {
            let cell = Cell { target: Target::Epsilon(epsilon), ..cell(DataName::Sepsis, Recipe::Split) };
            let study = settings.of(DataName::Sepsis).unwrap().study(&base, &cell, 8, ImputerPin::Unused);
            study.unwrap().study().privacy.clip_norm.get()
        };
        let sample = StudyDocument::from_bytes(SEPSIS.as_bytes()).unwrap().study().privacy.clip_norm.get();
        assert!(clip_norm(0.5) < sample && sample < clip_norm(2.0));
        assert_eq!((clip_norm(1.0), clip_norm(1.5)), (sample, sample));
        let table: Table = "[at.\"2\"]\nx = 1".parse().unwrap();
        assert_eq!(at(table.get("at").cloned(), Target::Epsilon(2.0)), "x = 1".parse().unwrap());
        for target in [Target::Epsilon(1.0), Target::Noise(2.0), Target::None] {
            assert_eq!(at(table.get("at").cloned(), target), Table::new());
        }
    }

    #[test]
    fn what_is_listed_is_removed() {
        let mut table: Table = "[a]\nkeep = 1\ngone = 2".parse().unwrap();
        remove(&mut table, Some(Value::from(vec!["a.gone", "b.gone"])));
        assert_eq!(table, "[a]\nkeep = 1".parse().unwrap());
    }

    #[test]
    fn what_names_its_kind_is_replaced_and_the_rest_merged() {
        let mut table: Table = "[a]\nkeep = 1\nk = { kind = \"x\", left = 2 }".parse().unwrap();
        merge(&mut table, &"[a]\nk = { kind = \"y\" }\nnew = 3".parse().unwrap());
        let wanted: Table = "[a]\nkeep = 1\nk = { kind = \"y\" }\nnew = 3".parse().unwrap();
        assert_eq!(table, wanted);
    }
}
