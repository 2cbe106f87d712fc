//! Checks of a schema before anything reads data with it.

use std::collections::HashSet;

use super::{Column, ColumnKind, MissingPolicy, OutOfRange, Role, Schema, SchemaError, Transform};

/// Longest column name or word, in bytes.
const MAX_NAME: usize = 256;
/// Most bins or words of one column, so that every slot index fits u16 with room to spare.
const MAX_SLOTS: usize = 4096;

impl Schema {
    /// Checks every column and the columns together.
    ///
    /// # Errors
    /// The first defect, in column order; its message names column, field, value and remedy.
    pub fn validate(&self) -> Result<(), SchemaError> {
        let mut names = HashSet::new();
        for column in &self.columns {
            column.validate()?;
            if !names.insert(&column.name) {
                return Err(SchemaError::DuplicateName { column: column.name.clone() });
            }
        }
        self.count(Role::Label, "label", 1..=1, "exactly 1", "give exactly one column that role")?;
        self.count(
            Role::UnitId,
            "unit-id",
            0..=1,
            "at most 1",
            "keep one column that names the privacy unit",
        )?;
        self.count(
            Role::Public,
            "public",
            1..=usize::MAX,
            "at least 1",
            "imputers need a public feature to read",
        )
    }

    fn count(
        &self,
        role: Role,
        spelled: &'static str,
        allowed: std::ops::RangeInclusive<usize>,
        wanted: &'static str,
        remedy: &'static str,
    ) -> Result<(), SchemaError> {
        let found = self.with_role(role).count();
        if allowed.contains(&found) {
            return Ok(());
        }
        Err(SchemaError::RoleCount { role: spelled, found, wanted, remedy })
    }
}

impl Column {
    fn validate(&self) -> Result<(), SchemaError> {
        self.validate_name()?;
        if self.role == Role::UnitId {
            return self.validate_unit_id();
        }
        let Some(kind) = &self.kind else {
            return Err(self.refuse(
                "kind",
                "absent",
                "a feature or label needs a kind",
                "declare kind = { type = \"continuous\", range = [low, high] }, \"binary\" or \"categorical\"",
            ));
        };
        self.validate_kind(kind)?;
        if self.role == Role::Sensitive && self.missing == Some(MissingPolicy::Refuse) {
            return Err(self.refuse(
                "missing",
                "\"refuse\"",
                "whether a sensitive cell is missing is itself sensitive, and a refusal would tell it",
                "remove the field, or declare missing = \"allow\"",
            ));
        }
        if self.role == Role::Label { self.validate_label(kind) } else { self.validate_feature(kind) }
    }

    fn validate_name(&self) -> Result<(), SchemaError> {
        let name = &self.name;
        if name.is_empty()
            || name.len() > MAX_NAME
            || name.trim() != name
            || name.chars().any(char::is_control)
        {
            return Err(self.refuse(
                "name",
                format!("{name:?}"),
                "not 1 to 256 bytes without control characters and outer blanks",
                "name the column as in the data's header, without outer blanks",
            ));
        }
        Ok(())
    }

    fn validate_unit_id(&self) -> Result<(), SchemaError> {
        let extra = [
            ("kind", self.kind.is_some()),
            ("missing", self.missing == Some(MissingPolicy::Allow)),
            ("out_of_range", self.out_of_range == OutOfRange::Clip),
            ("transform", self.transform.is_some()),
            ("missing_indicator", self.missing_indicator),
            ("positive", self.positive.is_some()),
        ];
        self.refuse_present(&extra, "a unit id is opaque text and never encoded", "remove the field")
    }

    fn validate_label(&self, kind: &ColumnKind) -> Result<(), SchemaError> {
        let extra = [
            ("missing", self.missing == Some(MissingPolicy::Allow)),
            ("out_of_range", self.out_of_range == OutOfRange::Clip),
            ("transform", self.transform.is_some()),
            ("missing_indicator", self.missing_indicator),
        ];
        self.refuse_present(
            &extra,
            "a label is 0 or 1 and neither missing, clipped nor encoded",
            "remove the field",
        )?;
        match (kind, &self.positive) {
            (ColumnKind::Binary {}, None) => Ok(()),
            (ColumnKind::Binary {}, Some(positive)) => Err(self.refuse(
                "positive",
                format!("{positive:?}"),
                "a binary label is 1 where positive",
                "remove positive, or declare the label categorical",
            )),
            (ColumnKind::Categorical { vocabulary }, Some(positive)) if vocabulary.contains(positive) => {
                Ok(())
            }
            (ColumnKind::Categorical { .. }, positive) => Err(self.refuse(
                "positive",
                positive.as_ref().map_or("absent".to_owned(), |word| format!("{word:?}")),
                "not a word of the label's vocabulary",
                "name the word of vocabulary that counts as 1",
            )),
            (ColumnKind::Continuous { .. }, _) => Err(self.refuse(
                "kind",
                "continuous",
                "the label of a classifier is binary",
                "declare kind = { type = \"binary\" }, or categorical with positive",
            )),
        }
    }

    fn validate_feature(&self, kind: &ColumnKind) -> Result<(), SchemaError> {
        self.refuse_present(
            &[("positive", self.positive.is_some())],
            "only a categorical label has a positive word",
            "remove the field",
        )?;
        let transform = self.effective_transform();
        self.validate_transform(kind, &transform)?;
        if self.missing_indicator && transform.is_discrete() {
            return Err(self.refuse(
                "missing_indicator",
                "true",
                "bins and one-hot have their own slot for missing",
                "remove missing_indicator",
            ));
        }
        Ok(())
    }

    fn validate_kind(&self, kind: &ColumnKind) -> Result<(), SchemaError> {
        match kind {
            ColumnKind::Binary {} => Ok(()),
            ColumnKind::Continuous { range: [low, high] } => {
                if low.is_finite()
                    && high.is_finite()
                    && (*low as f32) < (*high as f32)
                    && fits(*low)
                    && fits(*high)
                {
                    return Ok(());
                }
                Err(self.refuse(
                    "kind.range",
                    format!("[{low}, {high}]"),
                    "not two finite numbers in increasing order that differ in f32",
                    "write range = [lowest, highest]",
                ))
            }
            ColumnKind::Categorical { vocabulary } => self.validate_vocabulary(vocabulary),
        }
    }

    fn validate_vocabulary(&self, vocabulary: &[String]) -> Result<(), SchemaError> {
        if vocabulary.is_empty() || vocabulary.len() > MAX_SLOTS {
            return Err(self.refuse(
                "kind.vocabulary",
                format!("{} words", vocabulary.len()),
                "not 1 to 4096 words",
                "list every word that a cell may hold",
            ));
        }
        let mut seen = HashSet::new();
        for word in vocabulary {
            if word.is_empty() || word.len() > MAX_NAME || word.trim() != word || !seen.insert(word) {
                return Err(self.refuse(
                    "kind.vocabulary",
                    format!("{word:?}"),
                    "a word is empty, too long, listed twice, or has outer blanks",
                    "list each word once, as trimmed cells hold it; an empty cell is missing, not a word",
                ));
            }
        }
        Ok(())
    }

    fn validate_transform(&self, kind: &ColumnKind, transform: &Transform) -> Result<(), SchemaError> {
        match (transform, kind) {
            (Transform::OneHot {}, ColumnKind::Continuous { .. }) => Err(self.misfit(
                transform,
                "a continuous column has no words",
                "use \"bins\" with edges, or \"scale\"",
            )),
            (Transform::Bins { .. }, ColumnKind::Binary {} | ColumnKind::Categorical { .. }) => {
                Err(self.misfit(transform, "only a continuous column has bins", "use \"one-hot\""))
            }
            (Transform::OneHot {}, _) => Ok(()),
            (_, ColumnKind::Categorical { .. }) => {
                Err(self.misfit(transform, "the index of a word is not a quantity", "use \"one-hot\""))
            }
            (Transform::Identity {}, _) => Ok(()),
            (
                Transform::Scale { center, scale, limit } | Transform::SignedLog { center, scale, limit },
                _,
            ) => self.validate_affine(*center, *scale, *limit),
            (Transform::Bins { edges }, ColumnKind::Continuous { range }) => {
                self.validate_edges(edges, *range)
            }
        }
    }

    fn validate_affine(&self, center: f64, scale: f64, limit: Option<f64>) -> Result<(), SchemaError> {
        if !fits(center) {
            return Err(self.refuse(
                "transform.center",
                center,
                "not a finite f32",
                "write the typical value",
            ));
        }
        if !positive_f32(scale) {
            return Err(self.refuse(
                "transform.scale",
                scale,
                "not a finite number above 0",
                "write the typical spread, for example the standard deviation of public or support data",
            ));
        }
        match limit {
            Some(limit) if !positive_f32(limit) => Err(self.refuse(
                "transform.limit",
                limit,
                "not a finite number above 0",
                "write the largest |z|, for example 5, or remove limit",
            )),
            _ => Ok(()),
        }
    }

    fn validate_edges(&self, edges: &[f64], [low, high]: [f64; 2]) -> Result<(), SchemaError> {
        if edges.is_empty() || edges.len() > MAX_SLOTS - 2 {
            return Err(self.refuse(
                "transform.edges",
                format!("{} edges", edges.len()),
                "not 1 to 4094 edges",
                "write at least one edge; E edges make E + 1 bins and one for missing",
            ));
        }
        if let Some(pair) = edges.windows(2).find(|pair| (pair[0] as f32) >= (pair[1] as f32)) {
            return Err(self.refuse(
                "transform.edges",
                format!("{}, {}", pair[0], pair[1]),
                "not strictly increasing in f32",
                "sort the edges and remove repeated ones",
            ));
        }
        match edges.iter().find(|edge| !(low..=high).contains(edge)) {
            Some(edge) => Err(self.refuse(
                "transform.edges",
                edge,
                "outside the column's range, which makes a bin that no record can fall in and that only takes noise",
                "remove the edge or widen range",
            )),
            None => Ok(()),
        }
    }

    fn refuse_present(
        &self,
        fields: &[(&'static str, bool)],
        problem: &'static str,
        remedy: &'static str,
    ) -> Result<(), SchemaError> {
        match fields.iter().find(|(_, present)| *present) {
            Some((field, _)) => Err(self.refuse(field, "present", problem, remedy)),
            None => Ok(()),
        }
    }

    fn misfit(&self, transform: &Transform, problem: &'static str, remedy: &'static str) -> SchemaError {
        self.refuse("transform.type", format!("{:?}", transform.name()), problem, remedy)
    }

    fn refuse(
        &self,
        field: &'static str,
        value: impl ToString,
        problem: &'static str,
        remedy: &'static str,
    ) -> SchemaError {
        SchemaError::Field { column: self.name.clone(), field, value: value.to_string(), problem, remedy }
    }
}

fn fits(value: f64) -> bool {
    (value as f32).is_finite()
}

fn positive_f32(value: f64) -> bool {
    fits(value) && value as f32 > 0.0
}
