//! What an administrator sees.

use fusiondp_proto::v1;

use super::ConvertError;
use super::checks::{at_most, epsilon, fraction, line, non_negative, optional_time, parsed, within};
use super::connection::MAX_VERSION_LENGTH;
use crate::messages::{
    ExportPart, Limits, Metric, MetricFigures, RegisteredSite, SiteStatus, StudyStatus, SubmittedStudy,
};
use crate::plan::SiteSize;
use crate::problem::{MAX_DETAIL_LENGTH, one_line};
use crate::study::{Evaluation, Federation, StudyHeader, Training};

/// Most sites in one status or list.
const MAX_SITES: usize = Federation::MAX_SITES as usize;
/// Most metrics in one status: one evaluation of each cohort, pooled and by site.
const MAX_METRICS: usize = Evaluation::MAX_COHORTS * (MAX_SITES + 1);
/// Most studies in one list.
const MAX_STUDIES: usize = 10_000;
/// Most records of all sites together.
const MAX_RECORDS: u64 = SiteSize::MAX * Federation::MAX_SITES as u64;
/// Longest network address, in characters.
const MAX_ADDRESS_LENGTH: usize = 128;

impl TryFrom<v1::SubmitStudyResponse> for SubmittedStudy {
    type Error = ConvertError;

    fn try_from(wire: v1::SubmitStudyResponse) -> Result<Self, ConvertError> {
        Ok(Self { study_id: parsed("SubmitStudyResponse.study_id", &wire.study_id)?, created: wire.created })
    }
}

impl From<SubmittedStudy> for v1::SubmitStudyResponse {
    fn from(submitted: SubmittedStudy) -> Self {
        Self { study_id: submitted.study_id.into(), created: submitted.created }
    }
}

impl TryFrom<v1::StudyStatus> for StudyStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::StudyStatus) -> Result<Self, ConvertError> {
        at_most("StudyStatus.sites", wire.sites.len(), MAX_SITES)?;
        at_most("StudyStatus.metrics", wire.metrics.len(), MAX_METRICS)?;
        let rounds = within("StudyStatus.rounds", wire.rounds, 0..=Training::MAX_ROUNDS)?;
        let phase = (!wire.phase.is_empty()).then(|| parsed("StudyStatus.phase", &wire.phase)).transpose()?;
        Ok(Self {
            study_id: parsed("StudyStatus.study_id", &wire.study_id)?,
            name: line("StudyStatus.name", wire.name, StudyHeader::MAX_NAME_LENGTH)?,
            state: parsed("StudyStatus.state", &wire.state)?,
            detail: line("StudyStatus.detail", wire.detail, MAX_DETAIL_LENGTH)?,
            phase,
            round: within("StudyStatus.round", wire.round, 0..=rounds)?,
            rounds,
            plan: wire.plan.map(TryInto::try_into).transpose()?,
            sites: all(wire.sites)?,
            metrics: all(wire.metrics)?,
            submitted_ms: wire.submitted_ms,
            started_ms: optional_time(wire.started_ms),
            ended_ms: optional_time(wire.ended_ms),
            public_loss: non_negative("StudyStatus.public_loss", wire.public_loss)?,
            rounds_per_s: non_negative("StudyStatus.rounds_per_s", wire.rounds_per_s)?,
        })
    }
}

impl From<StudyStatus> for v1::StudyStatus {
    fn from(status: StudyStatus) -> Self {
        Self {
            study_id: status.study_id.into(),
            name: status.name,
            state: status.state.as_str().to_owned(),
            // Details are made of error texts of any shape; a status must not fail for one of them.
            detail: one_line(&status.detail),
            phase: status.phase.map_or("", |phase| phase.as_str()).to_owned(),
            round: status.round,
            rounds: status.rounds,
            plan: status.plan.map(Into::into),
            sites: status.sites.into_iter().map(Into::into).collect(),
            metrics: status.metrics.into_iter().map(Into::into).collect(),
            submitted_ms: status.submitted_ms,
            started_ms: status.started_ms.unwrap_or(0),
            ended_ms: status.ended_ms.unwrap_or(0),
            public_loss: status.public_loss,
            rounds_per_s: status.rounds_per_s,
        }
    }
}

impl TryFrom<v1::SiteStatus> for SiteStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::SiteStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            site_id: parsed("SiteStatus.site_id", &wire.site_id)?,
            state: parsed("SiteStatus.state", &wire.state)?,
            detail: line("SiteStatus.detail", wire.detail, MAX_DETAIL_LENGTH)?,
            rounds_contributed: wire.rounds_contributed,
            rounds_missed: wire.rounds_missed,
            units: within("SiteStatus.units", wire.units, 0..=SiteSize::MAX)?,
            epsilon_replace: epsilon("SiteStatus.epsilon_replace", wire.epsilon_replace)?,
            epsilon_zero_out: epsilon("SiteStatus.epsilon_zero_out", wire.epsilon_zero_out)?,
            last_seen_ms: optional_time(wire.last_seen_ms),
        })
    }
}

impl From<SiteStatus> for v1::SiteStatus {
    fn from(status: SiteStatus) -> Self {
        Self {
            site_id: status.site_id.into(),
            state: status.state.as_str().to_owned(),
            // Details are made of error texts of any shape; a status must not fail for one of them.
            detail: one_line(&status.detail),
            rounds_contributed: status.rounds_contributed,
            rounds_missed: status.rounds_missed,
            units: status.units,
            epsilon_replace: status.epsilon_replace.get(),
            epsilon_zero_out: status.epsilon_zero_out.get(),
            last_seen_ms: status.last_seen_ms.unwrap_or(0),
        }
    }
}

impl TryFrom<v1::Metric> for Metric {
    type Error = ConvertError;

    fn try_from(wire: v1::Metric) -> Result<Self, ConvertError> {
        let records = within("Metric.records", wire.records, 1..=MAX_RECORDS)?;
        let site_id =
            (!wire.site_id.is_empty()).then(|| parsed("Metric.site_id", &wire.site_id)).transpose()?;
        Ok(Self {
            round: within("Metric.round", wire.round, 0..=Training::MAX_ROUNDS)?,
            cohort: parsed("Metric.cohort", &wire.cohort)?,
            site_id,
            records,
            positives: within("Metric.positives", wire.positives, 0..=records)?,
            auroc: fraction("Metric.auroc", wire.auroc)?,
            figures: match wire.noisy {
                true => MetricFigures::Noisy {
                    auroc_error: non_negative("Metric.auroc_error", wire.auroc_error)?,
                },
                false => MetricFigures::Exact {
                    aupr: fraction("Metric.aupr", wire.aupr)?,
                    brier: fraction("Metric.brier", wire.brier)?,
                },
            },
        })
    }
}

impl From<Metric> for v1::Metric {
    fn from(metric: Metric) -> Self {
        let (aupr, brier, noisy, auroc_error) = match metric.figures {
            MetricFigures::Exact { aupr, brier } => (aupr, brier, false, 0.0),
            MetricFigures::Noisy { auroc_error } => (0.0, 0.0, true, auroc_error),
        };
        Self {
            round: metric.round,
            cohort: metric.cohort.into(),
            site_id: metric.site_id.map_or_else(String::new, Into::into),
            records: metric.records,
            positives: metric.positives,
            auroc: metric.auroc,
            aupr,
            brier,
            noisy,
            auroc_error,
        }
    }
}

impl TryFrom<v1::ExportChunk> for ExportPart {
    type Error = ConvertError;

    fn try_from(wire: v1::ExportChunk) -> Result<Self, ConvertError> {
        at_most("ExportChunk.data", wire.data.len(), Limits::MAX_CHUNK_BYTES as usize)?;
        file_name(&wire.file)?;
        Ok(Self { file: wire.file, data: wire.data })
    }
}

impl From<ExportPart> for v1::ExportChunk {
    fn from(part: ExportPart) -> Self {
        Self { file: part.file, data: part.data }
    }
}

/// A receiver joins the name to a folder, so it must not be able to leave it.
fn file_name(name: &str) -> Result<(), ConvertError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(allowed) {
        return Ok(());
    }
    let problem =
        "not a plain file name; send 1 to 128 of A-Z a-z 0-9 . _ - without a leading dot".to_owned();
    Err(ConvertError::Invalid { field: "ExportChunk.file", problem })
}

impl TryFrom<v1::RegisteredSite> for RegisteredSite {
    type Error = ConvertError;

    fn try_from(wire: v1::RegisteredSite) -> Result<Self, ConvertError> {
        Ok(Self {
            site_id: parsed("RegisteredSite.site_id", &wire.site_id)?,
            connected: wire.connected,
            agent_version: line("RegisteredSite.agent_version", wire.agent_version, MAX_VERSION_LENGTH)?,
            last_seen_ms: optional_time(wire.last_seen_ms),
            peer_address: line("RegisteredSite.peer_address", wire.peer_address, MAX_ADDRESS_LENGTH)?,
        })
    }
}

impl From<RegisteredSite> for v1::RegisteredSite {
    fn from(site: RegisteredSite) -> Self {
        Self {
            site_id: site.site_id.into(),
            connected: site.connected,
            agent_version: site.agent_version,
            last_seen_ms: site.last_seen_ms.unwrap_or(0),
            peer_address: site.peer_address,
        }
    }
}

/// Every study of a list.
///
/// # Errors
/// More than 10,000, or one that does not convert.
pub fn listed_studies(wire: v1::ListStudiesResponse) -> Result<Vec<StudyStatus>, ConvertError> {
    at_most("ListStudiesResponse.studies", wire.studies.len(), MAX_STUDIES)?;
    all(wire.studies)
}

/// Every site of a list.
///
/// # Errors
/// More than 10,000, or one that does not convert.
pub fn listed_sites(wire: v1::ListSitesResponse) -> Result<Vec<RegisteredSite>, ConvertError> {
    at_most("ListSitesResponse.sites", wire.sites.len(), MAX_SITES)?;
    all(wire.sites)
}

fn all<T, U: TryFrom<T, Error = ConvertError>>(wire: Vec<T>) -> Result<Vec<U>, ConvertError> {
    wire.into_iter().map(U::try_from).collect()
}
