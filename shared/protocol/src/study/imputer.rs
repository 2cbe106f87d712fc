//! Where the imputed values of the hybrid view come from.

use fusiondp_dp::Digest;
use serde::{Deserialize, Serialize};

/// The `[imputer]` section. Whatever the kind, an imputed value is a function of public columns and the study document
/// alone, and replaces every sensitive cell of the hybrid view, missing or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImputerSpec {
    /// No imputer: for studies that compute on no imputed value.
    None {},
    /// One ONNX model, the same file at every site.
    Onnx {
        /// SHA-256 of the file; needed for submission, and sites refuse any other file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// A file of imputed values keyed by unit id, made elsewhere. Each site maps its own in its configuration.
    Precomputed {
        /// SHA-256 of the file where one file serves every site; usually absent, because each site has its own units.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// No imputation: each sensitive value is drawn from its declared range or vocabulary, seeded from the study's
    /// digest, the unit and the column, so the draw depends on nothing that is protected.
    DeclaredNoise {},
    /// No imputation: the network's inputs of sensitive columns are 0, so that a public part learns from public columns alone.
    Redacted {},
}

impl Default for ImputerSpec {
    fn default() -> Self {
        Self::None {}
    }
}

impl ImputerSpec {
    /// The name in a study document.
    pub const fn kind(&self) -> &'static str {
        match self {
            ImputerSpec::None {} => "none",
            ImputerSpec::Onnx { .. } => "onnx",
            ImputerSpec::Precomputed { .. } => "precomputed",
            ImputerSpec::DeclaredNoise {} => "declared-noise",
            ImputerSpec::Redacted {} => "redacted",
        }
    }

    /// The digest that pins the imputer's file, if the study gives one.
    pub const fn sha256(&self) -> Option<Digest> {
        match self {
            ImputerSpec::Onnx { sha256 } | ImputerSpec::Precomputed { sha256 } => *sha256,
            ImputerSpec::None {} | ImputerSpec::DeclaredNoise {} | ImputerSpec::Redacted {} => None,
        }
    }
}
