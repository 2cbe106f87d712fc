//! The second tier: studies that protect whole records, labels and public columns included.

use fusiondp_dp::Protection;
use fusiondp_learn::model::Model;

use super::range::Check;
use super::{MetricRelease, Mode, PublicRounds, Study, StudyError};

impl Study {
    /// What of a unit is protected in everything that the study lets out.
    ///
    /// Whole records are where public gradients are noised too, or do not exist, and where no metrics leave in the clear.
    pub fn protects(&self) -> Protection {
        let mode = self.fusion.mode;
        let covered = !mode.has_public_part() || self.privacy.records.is_some();
        match covered && mode != Mode::NonPrivate && self.evaluation.release != MetricRelease::Summary {
            true => Protection::WholeRecords,
            false => Protection::SensitiveValues,
        }
    }

    /// Whether public gradients are clipped and noised per unit.
    pub fn noises_public_part(&self) -> bool {
        self.privacy.records.is_some()
    }

    /// Rounds with a public part, the first ones.
    pub fn public_rounds(&self) -> u32 {
        match self.fusion.public_rounds {
            _ if !self.fusion.mode.has_public_part() => 0,
            PublicRounds::All => self.training.rounds,
            PublicRounds::Warmup => self.warmup_rounds(),
        }
    }

    /// Number of noised sums of one step of a round.
    pub fn noised_sums(&self, round: u32) -> usize {
        let private = self.fusion.mode.has_private_part() && round > self.warmup_rounds();
        usize::from(private) + usize::from(self.noises_public_part() && round <= self.public_rounds())
    }

    /// What the second tier needs of the rest of the study.
    pub(super) fn validate_records(&self, model: &Model) -> Check {
        if self.privacy.records.is_none() {
            return Ok(());
        }
        let mode = self.fusion.mode;
        let (problem, remedy) = match () {
            () if mode == Mode::NonPrivate => {
                ("mode = \"non-private\" sends true values in them", "choose a mode that protects")
            }
            () if !mode.has_public_part() => (
                "mode = \"dp-sgd\" has none: whole records are protected as it is",
                "choose a mode with a public part",
            ),
            () if self.training.local_steps > 1 => {
                ("local steps send model differences instead", "set [training] local_steps = 1")
            }
            () if self.training.public_batch_size != 0 => (
                "their sample is [privacy.records] expected_batch_size",
                "remove [training] public_batch_size",
            ),
            () if self.evaluation.release == MetricRelease::Summary => (
                "metrics in the clear are computed from whole records",
                "set [evaluation] release = \"none\"",
            ),
            () if model.of_public_part().is_none() => (
                "this model's public part has adapters, several networks or a head of its own",
                "use kind = \"linear\", \"mlp\" without adapters, or \"split\" with members = 1 and head_gradient = \"private-only\"",
            ),
            () => return Ok(()),
        };
        Err(StudyError::Records { problem, remedy })
    }
}
