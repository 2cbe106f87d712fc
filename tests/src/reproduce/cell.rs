//! One run of the sweep, and what identifies it.

use std::fmt;

use fusiondp_dp::Digest;
use fusiondp_protocol::study::StudyDocument;
use serde::{Deserialize, Serialize};

use super::mode::{DataName, ImputerName, Recipe};

/// Changes whenever the same settings give other figures, so that results of an older build are not taken for new ones.
const ENGINE_VERSION: &str = "fusiondp reproduce 4";

/// What the noise of a run is calibrated to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Epsilon under `replace`.
    Epsilon(f64),
    /// A given noise multiplier.
    Noise(f64),
    /// No private part.
    None,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Epsilon(epsilon) => formatter.pad(&format!("epsilon {epsilon}")),
            Target::Noise(noise) => formatter.pad(&format!("noise {noise}")),
            Target::None => formatter.pad("-"),
        }
    }
}

/// One run: data set, mode, imputer, target and seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Data set.
    pub data: DataName,
    /// Mode.
    #[serde(rename = "mode")]
    pub recipe: Recipe,
    /// Where imputed values come from; `None` where the run reads none.
    pub imputer: Option<ImputerName>,
    /// What the noise is calibrated to.
    pub target: Target,
    /// Seed of first parameters, samples and noise.
    pub seed: u64,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let imputer = self.imputer.map_or("", ImputerName::as_str);
        let space = if imputer.is_empty() { "" } else { " " };
        write!(formatter, "{} {}{space}{imputer} {} seed {}", self.data, self.recipe, self.target, self.seed)
    }
}

/// Everything that decides a run's figures, besides the code.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The study, with its imputer pinned where it is a file.
    pub document: &'a StudyDocument,
    /// Where imputed values come from: the document does not tell one file of them from another.
    pub imputer: Option<ImputerName>,
    /// Digest over the data set's files, those of imputed values included.
    pub data: Digest,
    /// Number of sites.
    pub sites: usize,
    /// Seed of samples and noise.
    pub seed: u64,
}

impl Settings<'_> {
    /// The digest under which the run's result is stored: another setting, another digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bytes = ENGINE_VERSION.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(self.document.digest().as_bytes());
        bytes.extend(self.data.as_bytes());
        bytes.extend(self.imputer.map_or("", ImputerName::as_str).as_bytes());
        bytes.push(0);
        bytes.extend((self.sites as u64).to_le_bytes());
        bytes.extend(self.seed.to_le_bytes());
        Digest::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STUDY: &str = include_str!("../../../deploy/samples/bank-study.toml");

    #[test]
    fn every_setting_has_another_digest() {
        let document = |text: &str| StudyDocument::from_bytes(text.as_bytes()).unwrap();
        let (one, two) = (document(STUDY), document(&STUDY.replace("clip_norm = 0.7", "clip_norm = 0.6")));
        let changed = [
            Settings { document: &two, ..base_of(&one) },
            Settings { data: Digest::of(b"e"), ..base_of(&one) },
            Settings { imputer: Some(ImputerName::File), ..base_of(&one) },
            Settings { imputer: Some(ImputerName::Constant), ..base_of(&one) },
            Settings { sites: 7, ..base_of(&one) },
            Settings { seed: 2, ..base_of(&one) },
        ];
        let base = base_of(&one).digest();
        assert_eq!(base, base_of(&one).digest());
        let mut digests: Vec<Digest> = changed.iter().map(Settings::digest).chain([base]).collect();
        digests.sort_unstable_by_key(|digest| *digest.as_bytes());
        digests.dedup();
        assert_eq!(digests.len(), changed.len() + 1);
    }

    fn base_of(document: &StudyDocument) -> Settings<'_> {
        Settings { document, data: Digest::of(b"d"), imputer: None, sites: 8, seed: 1 }
    }

    #[test]
    fn a_cell_reads_as_one_line() {
        let cell = Cell {
            data: DataName::Sepsis,
            recipe: Recipe::FusionDp,
            imputer: Some(ImputerName::Network),
            target: Target::Epsilon(0.5),
            seed: 3,
        };
        assert_eq!(cell.to_string(), "sepsis fusiondp network epsilon 0.5 seed 3");
        let text = serde_json::to_string(&cell).unwrap();
        assert_eq!(serde_json::from_str::<Cell>(&text).unwrap(), cell);
    }
}
