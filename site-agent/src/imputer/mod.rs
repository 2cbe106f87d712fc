//! Imputed values for the hybrid view. The only module that knows ONNX Runtime.
//!
//! An imputer sees [`ImputerInput`]: public features and unit ids. True sensitive values are not among its arguments, so
//! no imputer can depend on them.
//!
//! * [`provider`]: finds what a study asks for among what the site has
//! * [`runtime`]: finds and loads the ONNX Runtime library
//! * [`onnx`], [`binding`], [`inference`]: a model file, which tensor holds what, batches on worker threads
//! * [`precomputed`]: a file of values keyed by unit id
//! * [`declared_noise`]: draws from declared ranges, for studies without imputation
//! * [`cache`]: computed values on disk, checked when read

pub mod binding;
pub mod cache;
pub mod declared_noise;
mod error;
mod gaps;
mod inference;
pub mod onnx;
pub mod precomputed;
pub mod provider;
pub mod runtime;

use fusiondp_dp::Digest;
use fusiondp_learn::schema::Schema;
use fusiondp_learn::table::{ImputedFeatures, PublicFeatures};
use fusiondp_protocol::support::SupportUnits;

pub use error::ImputerError;
pub use provider::{ImputerProvider, ProviderSettings};

use crate::data::Units;

/// All that an imputer may depend on.
#[derive(Clone, Copy)]
pub struct ImputerInput<'a> {
    /// The study's columns.
    pub schema: &'a Schema,
    /// Public features, `[N]` rows.
    pub public: &'a PublicFeatures,
    /// Which rows belong to which unit, with unit ids.
    pub units: &'a Units,
}

/// A source of imputed values. Blocking: callers stay off the async threads.
pub trait Imputer: Send + Sync {
    /// A value for every sensitive cell of the N records, missing or not.
    ///
    /// # Errors
    /// [`ImputerError`]; nothing is imputed in part.
    fn impute(&self, input: &ImputerInput<'_>) -> Result<ImputedFeatures, ImputerError>;

    /// Names the function computed, so that its values can be cached; `None` where computing is as cheap as reading.
    fn cache_key(&self) -> Option<Digest>;

    /// Whom it was fitted on; `None` where nothing says so.
    ///
    /// # Errors
    /// The list cannot be read.
    fn support(&self) -> Result<Option<SupportUnits>, ImputerError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
