//! Typed columns of a row, and integers in and out of the database.

use std::str::FromStr;

use fusiondp_protocol::{CohortName, StudyId};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row as _};

use super::StoreError;

/// Defines a macro that completes the beginning of a statement to a query: sqlx takes literals only.
macro_rules! beginning {
    ($name:ident, $beginning:literal) => {
        macro_rules! $name {
            ($rest:literal) => {
                sqlx::query(concat!($beginning, $rest))
            };
        }
    };
}

pub(super) use beginning;

type Cell<T> = Result<T, StoreError>;

/// An unsigned integer as the database keeps it: the same 64 bits.
pub(super) fn int(value: impl Into<u64>) -> i64 {
    value.into().cast_signed()
}

/// Keys that several values make up together.
pub(super) trait BindExt<'q> {
    /// Study, round and attempt.
    fn attempt(self, id: &'q StudyId, round: u32, attempt: u32) -> Self;
    /// Study, model version and cohort.
    fn evaluated(self, id: &'q StudyId, model_version: u64, cohort: &'q CohortName) -> Self;
}

impl<'q> BindExt<'q> for Query<'q, Any, AnyArguments> {
    fn attempt(self, id: &'q StudyId, round: u32, attempt: u32) -> Self {
        self.bind(id.as_str()).bind(int(round)).bind(int(attempt))
    }

    fn evaluated(self, id: &'q StudyId, model_version: u64, cohort: &'q CohortName) -> Self {
        self.bind(id.as_str()).bind(int(model_version)).bind(cohort.as_str())
    }
}

/// Readers by column name.
pub(super) trait RowExt {
    fn text(&self, column: &'static str) -> Cell<String>;
    fn optional_text(&self, column: &'static str) -> Cell<Option<String>>;
    fn uint(&self, column: &'static str) -> Cell<u64>;
    fn real(&self, column: &'static str) -> Cell<f64>;
    fn optional_real(&self, column: &'static str) -> Cell<Option<f64>>;
    fn blob(&self, column: &'static str) -> Cell<Vec<u8>>;
    fn optional_blob(&self, column: &'static str) -> Cell<Option<Vec<u8>>>;

    fn uint32(&self, column: &'static str) -> Cell<u32> {
        u32::try_from(self.uint(column)?).map_err(|source| StoreError::column(column, source))
    }

    /// 0: not yet.
    fn time(&self, column: &'static str) -> Cell<Option<u64>> {
        Ok(Some(self.uint(column)?).filter(|time| *time > 0))
    }

    fn parsed<T>(&self, column: &'static str) -> Cell<T>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.text(column)?.parse().map_err(|source: T::Err| StoreError::column(column, source))
    }

    /// Empty: none.
    fn optional_id<T>(&self, column: &'static str) -> Cell<Option<T>>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        if self.text(column)?.is_empty() { Ok(None) } else { self.parsed(column).map(Some) }
    }
}

impl RowExt for AnyRow {
    fn text(&self, column: &'static str) -> Cell<String> {
        Ok(self.try_get(column)?)
    }

    fn optional_text(&self, column: &'static str) -> Cell<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn uint(&self, column: &'static str) -> Cell<u64> {
        Ok(self.try_get::<i64, _>(column)?.cast_unsigned())
    }

    fn real(&self, column: &'static str) -> Cell<f64> {
        Ok(self.try_get(column)?)
    }

    fn optional_real(&self, column: &'static str) -> Cell<Option<f64>> {
        Ok(self.try_get(column)?)
    }

    fn blob(&self, column: &'static str) -> Cell<Vec<u8>> {
        Ok(self.try_get(column)?)
    }

    fn optional_blob(&self, column: &'static str) -> Cell<Option<Vec<u8>>> {
        Ok(self.try_get(column)?)
    }
}
