//! The public schema of a study: what every column is and how it becomes model input.
//!
//! A schema is part of the study document and the same at every site. Nothing in it is fitted on true sensitive
//! values: ranges, vocabularies, centers, scales and bin edges are declared by whoever writes the study.
//!
//! ```toml
//! [[schema.columns]]
//! name = "HR"
//! role = "public"
//! kind = { type = "continuous", range = [0, 400] }
//! out_of_range = "clip"
//! transform = { type = "scale", center = 84.2, scale = 17.1, limit = 5.0 }
//! missing_indicator = true
//! ```
//!
//! * [`Schema`], [`Column`], [`Role`]: the document and its lookups
//! * [`ColumnKind`], [`Transform`]: what a cell may hold, and how it is encoded
//! * [`Value`], [`CellProblem`]: a cell as a file holds it, and why it was refused, without its value

mod cell;
mod error;
mod transform;
mod validate;

pub use cell::{CellProblem, Value};
pub use error::SchemaError;
use serde::{Deserialize, Serialize};
pub use transform::Transform;

/// Every column of a study, in the order in which features are encoded.
///
/// Deserialization checks spelling only; call [`Schema::validate`] before use. [`crate::encode::Encoder::new`]
/// validates again, so an invalid schema encodes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Columns in encoding order. The order in a site's file may differ.
    pub columns: Vec<Column>,
}

/// One declared column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name in the header of a site's data, and name of the input of an exported model.
    pub name: String,
    /// What the column is to the study.
    pub role: Role,
    /// What a cell may hold; absent for the unit id, which is opaque text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ColumnKind>,
    /// Whether a cell may be empty; features allow it and the label refuses it unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingPolicy>,
    /// What happens to a value outside the declared range or vocabulary.
    #[serde(default)]
    pub out_of_range: OutOfRange,
    /// Encoding of a feature; without it numbers pass as they are and categories become one-hot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// Adds one input that is +1 where the cell is missing and -1 where it is not.
    #[serde(default)]
    pub missing_indicator: bool,
    /// The word that counts as 1, for a categorical label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
}

/// What a column is to the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A feature that the privacy guarantee does not cover; imputers read these.
    Public,
    /// A feature whose value, and whether it is missing, is protected.
    Sensitive,
    /// What the model predicts; not covered by the privacy guarantee.
    Label,
    /// The privacy unit, usually the patient.
    UnitId,
}

/// What a cell may hold. As a number in a table: the value, 0 or 1, or the index of the word; NaN where missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ColumnKind {
    /// A real number.
    Continuous {
        /// Lowest and highest value, both included.
        range: [f64; 2],
    },
    /// 0 or 1.
    Binary {},
    /// One word of a closed list.
    Categorical {
        /// The words in index order.
        vocabulary: Vec<String>,
    },
}

/// Whether a cell may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingPolicy {
    /// An empty cell is an error.
    Refuse,
    /// An empty cell is encoded as missing.
    Allow,
}

/// What happens to a value outside the declared range or vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfRange {
    /// The cell is an error.
    #[default]
    Refuse,
    /// A number moves to the nearer end of its range; an unknown word counts as missing.
    Clip,
}

impl Schema {
    /// Public features in encoding order.
    pub fn public(&self) -> impl Iterator<Item = &Column> + Clone {
        self.with_role(Role::Public)
    }

    /// Sensitive features in encoding order.
    pub fn sensitive(&self) -> impl Iterator<Item = &Column> + Clone {
        self.with_role(Role::Sensitive)
    }

    /// The label; `None` only before [`Schema::validate`].
    pub fn label(&self) -> Option<&Column> {
        self.with_role(Role::Label).next()
    }

    /// The privacy unit's column; without one, every record is its own unit.
    pub fn unit_id(&self) -> Option<&Column> {
        self.with_role(Role::UnitId).next()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn with_role(&self, role: Role) -> impl Iterator<Item = &Column> + Clone {
        self.columns.iter().filter(move |column| column.role == role)
    }
}

impl Column {
    /// Whether an empty cell is accepted.
    pub fn missing_policy(&self) -> MissingPolicy {
        self.missing.unwrap_or(match self.role {
            Role::Public | Role::Sensitive => MissingPolicy::Allow,
            Role::Label | Role::UnitId => MissingPolicy::Refuse,
        })
    }

    /// The declared transform, or the kind's own: one-hot for categories, identity for numbers.
    pub fn effective_transform(&self) -> Transform {
        match (&self.transform, &self.kind) {
            (Some(transform), _) => transform.clone(),
            (None, Some(ColumnKind::Categorical { .. })) => Transform::OneHot {},
            (None, _) => Transform::Identity {},
        }
    }

    /// Whether the column is a feature, public or sensitive.
    pub fn is_feature(&self) -> bool {
        matches!(self.role, Role::Public | Role::Sensitive)
    }
}

#[cfg(test)]
mod tests;
