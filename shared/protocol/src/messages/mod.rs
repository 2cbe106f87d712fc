//! Everything that travels, in validated domain types. The wire form of each is in `crate::convert`.

mod admin;
mod connection;
mod decline;
mod enrolment;
mod evaluation;
mod training;

pub use admin::{
    ExportPart, Metric, MetricFigures, RegisteredSite, RoundPhase, SiteState, SiteStatus, StudyState,
    StudyStatus, SubmittedStudy, UnknownState,
};
pub use connection::{Limits, MAX_POLL_WAIT_MS, Poll, Registered, Registration};
pub use decline::{Decline, DeclineKind, DeclinedTask};
pub use enrolment::{Assignment, Enrolment, EnrolmentOffer};
pub use evaluation::{
    EvaluationReport, EvaluationTask, HISTOGRAM_BINS, MetricSummary, NoisyCounts, ReleasedMetrics,
};
pub use training::{
    ModelHeader, ModelPart, ModelRequest, TrainingTask, UpdateHeader, UpdateOutcome, UpdatePart,
};
