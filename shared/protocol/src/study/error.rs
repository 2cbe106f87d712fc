//! Why a study was refused. Every message names section, field, value and remedy.

use fusiondp_dp::{Delta, Epsilon};
use fusiondp_learn::encode::EncodeError;
use fusiondp_learn::model::ModelError;
use fusiondp_learn::schema::SchemaError;

use super::Mode;
use crate::ids::{SiteId, StudyId};
use crate::problem::{Problem, ProblemType};

/// A defect of a study document.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// Above the size limit.
    #[error("study document of {bytes} bytes; the limit is 1 MiB, shorten descriptions or vocabularies")]
    TooLong {
        /// Size of the document.
        bytes: usize,
    },
    /// Not text.
    #[error("study document is not UTF-8: {source}; save it as UTF-8")]
    NotUtf8 {
        /// Where it stops being UTF-8.
        source: std::str::Utf8Error,
    },
    /// Not TOML, an unknown or missing field, a wrong type, a value out of its type's range.
    #[error(
        "study document, line {line}{}: {}; correct it, deploy/samples/sepsis-study.toml explains every section",
        field(path), source.message()
    )]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Path of the field; empty when the text is no TOML.
        path: String,
        /// What the reader says.
        source: Box<toml::de::Error>,
    },
    /// The coordinator names another id than follows from the bytes.
    #[error("study offered as {offered}, its document makes it {derived}; compare the coordinator's version")]
    WrongId {
        /// Id in the message.
        offered: StudyId,
        /// Id of the document.
        derived: StudyId,
    },

    /// A sensitivity of somebody's own.
    #[error(
        "{path} is no setting: sensitivity follows from [privacy] clip_norm, which every unit's gradient is clipped to; remove the \
         field, and lower clip_norm for a lower sensitivity"
    )]
    SensitivityGiven {
        /// Path of the field.
        path: String,
    },
    /// A seed of what has to be secret.
    #[error(
        "{path} is no setting: secret samples and noise come from the operating system and can be repeated by nobody; remove the \
         field ([training] initialization_seed is the seed of the first model)"
    )]
    SeedGiven {
        /// Path of the field.
        path: String,
    },
    /// A transform with something in it that is not declared.
    #[error(
        "{path}: {problem}; a transform is declared in the study and nothing of it is fitted, for that would read the values it \
         protects: write center, scale and edges as numbers"
    )]
    TransformNotDeclared {
        /// Path of the transform.
        path: String,
        /// What the reader says.
        problem: String,
    },
    /// A target under one relation or another.
    #[error(
        "[privacy] target names another thing than one relation; a guarantee under one relation or another is none under either: \
         choose relation = \"replace\" or relation = \"zero_out\", and the other is reported too"
    )]
    RelationChoice,
    /// A private part without noise.
    #[error(
        "[privacy] target noise_multiplier = {noise_multiplier} adds no noise and protects nobody; use a multiplier above 0, or a \
         target epsilon"
    )]
    NoNoise {
        /// As given.
        noise_multiplier: f64,
    },
    /// Delta that permits to publish a whole record, however many sites join.
    #[error(
        "[privacy] delta = {delta} is above 1/N for a study of {units} privacy units, the fewest that may take part; lower it to at \
         most {}, better far below one over all patients", 1.0 / f64::from(*units)
    )]
    DeltaAboveUnits {
        /// Delta of the study.
        delta: Delta,
        /// Fewest units: those of an expected sample, and one per site.
        units: u32,
    },

    /// A number or a text out of its range.
    #[error("{field} = {value} is out of range; use {range}")]
    OutOfRange {
        /// Path of the field.
        field: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },

    /// The schema does not stand.
    #[error("{0}")]
    Schema(#[from] SchemaError),
    /// One name, declared as label and as sensitive.
    #[error(
        "schema column \"{column}\" is declared both label and sensitive; labels are not protected, give the column one \
         role"
    )]
    LabelDeclaredSensitive {
        /// The column.
        column: String,
    },
    /// A private part without anything to protect.
    #[error(
        "no schema column has role = \"sensitive\", but [fusion] mode = \"{mode}\" has a private part; declare what is \
         sensitive, or use mode = \"hybrid-only\""
    )]
    NoSensitiveColumn {
        /// The mode.
        mode: Mode,
    },
    /// The privacy unit is no unit-id column.
    #[error(
        "[privacy] unit_column = \"{column}\" is not a schema column with role = \"unit-id\"; name that column, or give \
         this one the role"
    )]
    UnitColumnUnknown {
        /// The column named.
        column: String,
    },
    /// A unit id is declared and not used, which would silently weaken the guarantee to single records.
    #[error(
        "schema column \"{column}\" has role = \"unit-id\", but [privacy] has no unit_column; add unit_column = \
         \"{column}\", or remove the column to protect single records only"
    )]
    UnitColumnUnused {
        /// The unit-id column.
        column: String,
    },

    /// The model cannot be built.
    #[error("[model]: {0}; correct the section")]
    Model(#[from] ModelError),
    /// The schema cannot be encoded for the model.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// The sensitive head needs bins.
    #[error(
        "[model] kind = \"split\" needs bins for every sensitive column, \"{column}\" has none; give it transform = {{ \
         type = \"bins\", edges = [...] }} or {{ type = \"one-hot\" }}"
    )]
    SplitWithoutBins {
        /// The sensitive column.
        column: String,
    },
    /// The head has no optimizer.
    #[error(
        "[model] kind = \"split\" needs [training] posterior or private_optimizer for its head, whose few noised weights \
         want another step than the tower; add posterior = {{ curvature = 0.05, amplitude = 2.0, length = 4.0, memory = \
         0.3 }}, or private_optimizer = {{ kind = \"momentum\", learning_rate = 1.0, momentum = 0.9 }}"
    )]
    PrivateOptimizerMissing,
    /// No coordinate would use the private optimizer.
    #[error("[training] {field} is for the head of a split model and this model has none; remove {field}")]
    PrivateOptimizerUnused {
        /// `private_optimizer` or `posterior`.
        field: &'static str,
    },
    /// Two things would move the head.
    #[error("[training] posterior and private_optimizer would both move the head; remove one of them")]
    PosteriorAndOptimizer,
    /// A setting of the posterior out of its range.
    #[error("[training] posterior: {problem}; correct it")]
    Posterior {
        /// Field, value and range.
        problem: String,
    },
    /// The posterior in a study that it does not fit.
    #[error("[training] posterior needs {what}; set that, or use private_optimizer")]
    PosteriorNeeds {
        /// The other setting.
        what: &'static str,
    },
    /// The hybrid head gets a gradient that the direct loss does not complete.
    #[error(
        "[model] head_gradient = \"hybrid-and-private\" with private loss \"direct\" would count the loss twice; use \
         [fusion] private_loss = \"difference\", or head_gradient = \"private-only\""
    )]
    HybridHeadWithDirectLoss,
    /// The difference corrects a public gradient that the head never takes.
    #[error(
        "[model] head_gradient = \"private-only\" with private loss \"difference\" would correct a public gradient that \
         the head never takes; use [fusion] mode = \"fusiondp\" with private_loss = \"direct\", or head_gradient = \
         \"hybrid-and-private\""
    )]
    PrivateHeadWithDifferenceLoss,
    /// A tower or head that would stay at its first values.
    #[error("[fusion] mode = \"{mode}\" leaves {part} of a split model at its first values; use {remedy}")]
    SplitPartUntrained {
        /// The mode.
        mode: Mode,
        /// What would not learn.
        part: &'static str,
        /// What to change.
        remedy: &'static str,
    },

    /// A projection in a mode that lacks a part.
    #[error(
        "[fusion] private_directions projects the private gradient onto public ones, and mode = \"{mode}\" lacks one of \
         them; remove it, or use mode = \"fusiondp\""
    )]
    DirectionsMode {
        /// The mode.
        mode: Mode,
    },
    /// A projection onto gradients that do not exist yet.
    #[error(
        "[fusion] private_directions is {directions} and warmup_rounds {warmup}; the first private round needs as many public \
         gradients, set warmup_rounds to at least {directions}"
    )]
    DirectionsWarmup {
        /// Directions asked for.
        directions: u32,
        /// Rounds before the first private one.
        warmup: u32,
    },
    /// A projection of what cannot be projected.
    #[error("[fusion] private_directions needs {needs}; change it, or remove private_directions")]
    DirectionsNeed {
        /// What the study lacks.
        needs: &'static str,
    },
    /// A second phase without a first one.
    #[error(
        "[fusion] public_rounds = \"warmup\" with mode = \"{mode}\" leaves one of the phases empty; set warmup_rounds above 0 \
         with mode = \"fusiondp\", or remove public_rounds"
    )]
    PhasesMissing {
        /// The mode.
        mode: Mode,
    },
    /// A second phase that would only correct a gradient that is not there.
    #[error(
        "[fusion] public_rounds = \"warmup\" leaves the private gradient alone, and a difference of losses means nothing \
         alone; set private_loss = \"direct\", or remove public_rounds"
    )]
    PhaseLoss,

    /// Redacted cells where a head would take them for bins.
    #[error(
        "[imputer] kind = \"redacted\" leaves sensitive cells out of a network's input, and this split model's head reads bins; \
         use an mlp or linear model, or head_gradient = \"private-only\" with kind = \"none\""
    )]
    RedactedHead,

    /// Weights that no gradient would move.
    #[error(
        "[fusion] mode = \"{mode}\" has no public part, so what [model] private leaves out would stay at its first values; \
         remove private, or use mode = \"fusiondp\" with private_loss = \"direct\" and a warm start"
    )]
    ScopePartUntrained {
        /// The mode.
        mode: Mode,
    },

    /// `feature-dp` with another imputer.
    #[error(
        "[fusion] mode = \"feature-dp\" uses declared noise in place of imputed values, but [imputer] kind is \
         \"{kind}\"; set kind = \"declared-noise\", or use mode = \"fusiondp\""
    )]
    DeclaredNoiseMissing {
        /// Kind of the study's imputer.
        kind: &'static str,
    },
    /// A hybrid view without a source of values.
    #[error(
        "[fusion] mode = \"{mode}\" computes on imputed values, but the study has no imputer; add [imputer] kind = \
         \"onnx\", \"precomputed\" or \"declared-noise\""
    )]
    ImputerMissing {
        /// The mode.
        mode: Mode,
    },
    /// `calibrated` is `fusiondp` without consistency.
    #[error(
        "[fusion] mode = \"calibrated\" has no consistency term, but consistency_weight = {weight}; remove it, or use \
         mode = \"fusiondp\""
    )]
    CalibratedWithConsistency {
        /// The weight given.
        weight: f64,
    },
    /// `calibrated` with the direct loss, or `dp-sgd` with the difference.
    #[error(
        "[fusion] mode = \"{mode}\" does not take private_loss = \"{loss}\"; remove private_loss, or use mode = \"fusiondp\""
    )]
    PrivateLossOfMode {
        /// The mode.
        mode: Mode,
        /// The loss given.
        loss: &'static str,
    },
    /// The direct loss looks at one view only.
    #[error(
        "[fusion] private loss \"direct\" looks at the true view only, but consistency_weight = {weight} compares both; \
         set consistency_weight = 0, or private_loss = \"difference\""
    )]
    DirectWithConsistency {
        /// The weight given.
        weight: f64,
    },
    /// No parameter can move the distance between the representations.
    #[error(
        "[fusion] consistency_weight = {weight} has no effect on [model] kind = \"{model}\", whose representation does \
         not depend on both sensitive columns and parameters; set it to 0, or use kind = \"mlp\""
    )]
    ConsistencyWithoutEffect {
        /// The weight given.
        weight: f64,
        /// Kind of the model.
        model: &'static str,
    },
    /// Nothing but warm-up.
    #[error(
        "[fusion] warmup_rounds = {warmup} leaves no private round of [training] rounds = {rounds}; lower it, or use \
         mode = \"hybrid-only\""
    )]
    WarmupAboveRounds {
        /// Warm-up rounds.
        warmup: u32,
        /// All rounds.
        rounds: u32,
    },
    /// Warm-up without a public part computes nothing.
    #[error(
        "[fusion] mode = \"dp-sgd\" has no public part to warm up on, but warmup_rounds = {warmup}; set it to 0"
    )]
    WarmupWithoutPublicPart {
        /// Warm-up rounds.
        warmup: u32,
    },

    /// A target that is no target.
    #[error(
        "{field} = {epsilon} is no bound to calibrate to; use a finite epsilon above 0, or target = \
         {{ noise_multiplier = ... }}"
    )]
    TargetEpsilon {
        /// Path of the field.
        field: &'static str,
        /// The target.
        epsilon: Epsilon,
    },

    /// A setting of an optimizer or of averaging out of range.
    #[error("[training] {field}: {source}; correct it")]
    Optimizer {
        /// `optimizer`, `private_optimizer` or `averaging`.
        field: &'static str,
        /// What its own check says.
        source: fusiondp_learn::optimiser::OptimizerError,
    },
    /// Local steps without a rate.
    #[error(
        "[training] local_steps = {local_steps} needs local_learning_rate for the steps that a site takes on its own; \
         add it, or set local_steps = 1"
    )]
    LocalRateMissing {
        /// Local steps.
        local_steps: u32,
    },
    /// A local rate without local steps.
    #[error(
        "[training] local_learning_rate has no effect with local_steps = 1; remove it, or raise local_steps"
    )]
    LocalRateUnused,
    /// Model differences are averaged as they are.
    #[error(
        "[training] {field} must be plain with local_steps > 1, because model differences are averaged: use {field} = \
         {{ kind = \"sgd\", learning_rate = 1.0 }}, or local_steps = 1"
    )]
    AveragingOptimizer {
        /// `optimizer` or `private_optimizer`.
        field: &'static str,
    },
    /// More steps than any accountant or patience bears.
    #[error("[training] rounds x local_steps = {steps} is above 1,000,000; lower one of the two")]
    TooManySteps {
        /// The product.
        steps: u64,
    },

    /// Fewer sites named than needed.
    #[error("[federation] sites names {listed} sites, min_sites is {needed}; name more, or lower min_sites")]
    FewerSitesThanNeeded {
        /// Sites named.
        listed: usize,
        /// Sites needed.
        needed: u32,
    },
    /// A site twice.
    #[error("[federation] sites names {site} twice; remove one")]
    DuplicateSite {
        /// The site.
        site: SiteId,
    },

    /// Metrics to release and nothing to measure.
    #[error(
        "[evaluation] release without a cohort; add during = \"val\" with every_rounds, or final_cohort = \
         \"test\""
    )]
    CohortMissing,
    /// A setting of noisy metrics in a study without them.
    #[error("[evaluation] {field} needs release = \"noisy\"; remove it, or release counts with noise")]
    NoisyFieldUnused {
        /// The field.
        field: &'static str,
    },
    /// Noisy metrics without their noise or their intervals.
    #[error(
        "[evaluation] release = \"noisy\" without {field}; add noise_multiplier = 5.0 and edges = [-4.0, -2.0, 0.0, 2.0], with values \
         of the study's own"
    )]
    NoisyFieldMissing {
        /// The field.
        field: &'static str,
    },
    /// A learning curve of nothing.
    #[error(
        "[evaluation] every_rounds = {every_rounds} without a cohort to measure; add during = \"val\", or set it to 0"
    )]
    CurveCohortMissing {
        /// Rounds between evaluations.
        every_rounds: u32,
    },

    /// A second tier for a study that has nothing to protect by it, or lets something else out.
    #[error(
        "[privacy.records] protects whole records by clipping and noising public gradients, and {problem}; {remedy}, or remove \
         the section"
    )]
    Records {
        /// What does not go together.
        problem: &'static str,
        /// What to change.
        remedy: &'static str,
    },

    /// Unprotected training outside simulation.
    #[error(
        "[fusion] mode = \"non-private\" sends unprotected gradients and is refused outside simulation; use another \
         mode, or fusiondp-simulate"
    )]
    NonPrivateSubmitted,
    /// An imputer that nothing pins.
    #[error(
        "[imputer] kind = \"onnx\" without sha256; add sha256 = \"<sha256sum of the model file>\", so that every site \
         uses the same one"
    )]
    ImputerUnpinned,
}

impl StudyError {
    /// A reader's error, with line and path.
    pub(super) fn syntax(text: &str, path: &str, source: toml::de::Error) -> Self {
        let start = source.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
        // The root's path is a single dot.
        let path = path.trim_matches('.').to_owned();
        Self::Syntax { line, path, source: Box::new(source) }
    }
}

fn field(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", field {path}") }
}

impl From<StudyError> for Problem {
    fn from(error: StudyError) -> Problem {
        Problem::new(ProblemType::StudyInvalid, error.to_string())
    }
}
