//! Draws from declared ranges and vocabularies, for `feature-dp` studies, which use noise in place of imputed values.

use fusiondp_dp::Digest;
use fusiondp_learn::schema::{Column, ColumnKind};
use fusiondp_learn::table::ImputedFeatures;
use sha2::{Digest as _, Sha256};

use super::{Imputer, ImputerError, ImputerInput};

/// Uniform draws, each a function of (study digest, unit, record of the unit, column) alone.
pub struct DeclaredNoise {
    study: Digest,
}

impl DeclaredNoise {
    /// Draws for one study.
    pub fn new(study: Digest) -> Self {
        Self { study }
    }

    fn column(&self, column: &Column, input: &ImputerInput<'_>) -> Vec<f32> {
        let units = input.units;
        let mut cells = Vec::with_capacity(units.records());
        for unit in 0..units.count() {
            let number = unit.to_string();
            let id = units.id(unit).unwrap_or(&number);
            for record in 0..units.rows(unit).len() {
                cells.push(value(column, self.uniform(id, record, &column.name)));
            }
        }
        cells
    }

    /// Uniform on `[0, 1)`, a multiple of 2^-53.
    fn uniform(&self, unit: &str, record: usize, column: &str) -> f64 {
        let mut hasher = Sha256::new();
        hasher.update(b"fusiondp declared noise v1\0");
        hasher.update(self.study.as_bytes());
        for text in [unit, column] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update((record as u64).to_le_bytes());
        let digest = hasher.finalize();
        let mut word = [0; 8];
        word.copy_from_slice(&digest[..8]);
        (u64::from_le_bytes(word) >> 11) as f64 * (0.5_f64).powi(53)
    }
}

impl Imputer for DeclaredNoise {
    fn impute(&self, input: &ImputerInput<'_>) -> Result<ImputedFeatures, ImputerError> {
        let columns = input.schema.sensitive().map(|column| self.column(column, input)).collect();
        Ok(ImputedFeatures::new(input.schema, columns)?)
    }

    fn cache_key(&self) -> Option<Digest> {
        None
    }
}

fn value(column: &Column, uniform: f64) -> f32 {
    match &column.kind {
        Some(ColumnKind::Continuous { range: [low, high] }) => {
            ((low + (high - low) * uniform) as f32).clamp(*low as f32, *high as f32)
        }
        Some(ColumnKind::Binary {}) => f32::from(u8::from(uniform >= 0.5)),
        Some(ColumnKind::Categorical { vocabulary }) => (uniform * vocabulary.len() as f64).floor() as f32,
        None => f32::NAN,
    }
}
