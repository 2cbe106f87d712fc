//! A study in plain words, for whoever has to approve it.

use fusiondp_dp::{DpEvent, Epsilon};
use fusiondp_protocol::study::{
    BatchSize, ImputerSpec, MetricRelease, Mode, PrivacyTarget, Study, StudyDocument,
};

use super::text::{DECIMALS, figure, time};
use crate::config::SiteConfig;
use crate::imputer::ImputerProvider;
use crate::policy::forecast::{Forecast, ForecastLine};
use crate::store::{Look, OfferedStudy};

/// Width of the first column.
const WIDTH: usize = 22;

/// Everything but figures and difference, one fact per line.
pub(super) fn facts(
    config: &SiteConfig,
    offered: &OfferedStudy,
    document: &StudyDocument,
    imputers: &ImputerProvider,
) -> String {
    let study = document.study();
    let mut lines = vec![
        ("asked for by", format!("consortium {}, coordinator {}", offered.asked_by, config.coordinator)),
        ("document", format!("sha256 {}", offered.digest)),
        ("offered", format!("{}, open until {}", time(offered.first_ms), time(offered.deadline_ms))),
        ("protected", protected(study)),
        ("sensitive columns", names(study.schema.sensitive())),
        ("public columns", format!("{} (not protected)", names(study.schema.public()))),
        ("label", format!("{} (not protected)", names(study.schema.label().into_iter()))),
        ("mode", mode(study)),
        ("leaves without noise", unnoised(study)),
        ("metrics", metrics(study)),
        ("imputer", imputer(document, imputers)),
        ("rounds", rounds(study)),
        ("clip norm", study.privacy.clip_norm.to_string()),
        ("asked guarantee", target(study)),
        ("this site's data", data(offered)),
    ];
    if study.federation.max_overlap > 1 {
        lines.push((
            "overlap",
            format!("up to {} sites may hold the same patient", study.federation.max_overlap),
        ));
    }
    lines.into_iter().map(|(what, text)| format!("  {what:WIDTH$}{text}\n")).collect()
}

/// The figures, under the assumption that no other site joins.
pub(super) fn figures(study: &Study, forecast: &Forecast) -> String {
    let mut text = format!(
        "  {:WIDTH$}{:.4} of the clip norm, if this site were alone\n  {:WIDTH$}{:.6}, likewise; {} private steps\n  \
         {:WIDTH$}epsilon about {} under replace, {} under zero_out, at delta {}\n",
        "noise",
        forecast.noise_multiplier.get(),
        "sampling probability",
        forecast.sampling_probability.get(),
        forecast.steps,
        "the whole study",
        figure(forecast.study.replace),
        figure(forecast.study.zero_out),
        study.privacy.delta,
    );
    if let Some(records) = &forecast.records {
        text.push_str(&format!(
            "  whole records: noise multiplier {:.4}, sampling probability {:.6}; the whole study epsilon {} (replace), {} \
             (zero_out)\n",
            records.noise_multiplier.get(),
            records.sampling_probability.get(),
            figure(records.study.replace),
            figure(records.study.zero_out),
        ));
    }
    text.push_str(
        "  With more sites, sampling and noise are lower. Epsilons are estimates, the worst of 1 to 64 times as many patients;\n  \
         the agent recomputes the plan when it stands, and stops at its limits.\n",
    );
    text
}

/// The tables of counts that the figures of the limits include.
pub(super) fn counts(counts: Option<DpEvent>) -> String {
    counts.map_or_else(String::new, |tables| {
        format!(
            "  {:WIDTH$}{} tables of counts with noise, each deviation {} patients a cell, on the same account\n",
            "metrics",
            tables.steps(),
            tables.noise_multiplier().get()
        )
    })
}

/// What is spent and would be spent of each limit.
pub(super) fn limits(lines: &[ForecastLine], delta: fusiondp_dp::Delta) -> String {
    let mut text = format!(
        "\nepsilon at delta {delta}, rounded up:\n  {:26}{:10}{:>10}{:>10}{:>10}\n",
        "counted over", "relation", "spent", "then", "limit"
    );
    for line in lines {
        let limit = line.limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let beyond = line.limit.is_some_and(|limit| line.then > limit);
        text.push_str(&format!(
            "  {:26}{:10}{:>10}{:>10}{:>10}{}\n",
            line.scope,
            line.relation.to_string(),
            figure(line.spent),
            figure(line.then),
            limit,
            if beyond { "  beyond the limit" } else { "" },
        ));
    }
    text
}

fn names<'a>(columns: impl Iterator<Item = &'a fusiondp_learn::schema::Column>) -> String {
    let names: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn protected(study: &Study) -> String {
    if !study.fusion.mode.has_private_part() {
        return "nobody: the study reads no sensitive value in training".to_owned();
    }
    if study.noises_public_part() {
        return match &study.privacy.unit_column {
            Some(column) => format!("each patient's sensitive values, and whole records too, named by column {column}"),
            None => "each single record, its sensitive values and the rest of it; a patient with several is not protected as one"
                .to_owned(),
        };
    }
    match &study.privacy.unit_column {
        Some(column) => format!("all sensitive values of each patient, named by column {column}"),
        None => "the sensitive values of each single record; a patient with several records is not protected as one".to_owned(),
    }
}

fn mode(study: &Study) -> String {
    let mode = study.fusion.mode;
    let meaning = match mode {
        Mode::DpSgd => "noised gradients of true values alone",
        Mode::HybridOnly => "gradients without sensitive values alone",
        Mode::NonPrivate => "no protection",
        _ => "gradients without sensitive values, and beside them noised gradients of true ones",
    };
    format!("{mode}: {meaning}")
}

fn unnoised(study: &Study) -> String {
    let sizes = "number of patients and records";
    let imputed = if study.uses_imputer() { ", label and imputed values" } else { " and label" };
    match study.fusion.mode.has_public_part() && !study.noises_public_part() {
        true => format!("gradients computed from public columns{imputed}; {sizes}"),
        false => sizes.to_owned(),
    }
}

fn metrics(study: &Study) -> String {
    match study.evaluation.release {
        MetricRelease::None => "none leave".to_owned(),
        MetricRelease::Summary => format!(
            "counts, losses and histograms on true values of cohort {}, without noise, if policy.allow_metrics",
            cohorts(study)
        ),
        MetricRelease::Noisy => format!(
            "counts of patients of cohort {} by label and score, with noise of deviation {}, if it is at least \
             policy.min_metrics_noise",
            cohorts(study),
            study.evaluation.noise_multiplier.map_or(0.0, fusiondp_dp::NoiseMultiplier::get)
        ),
    }
}

fn cohorts(study: &Study) -> String {
    let cohorts = study.evaluation.during.iter().chain(&study.evaluation.final_cohort);
    let cohorts: Vec<&str> = cohorts.map(|cohort| cohort.as_str()).collect();
    cohorts.join(", ")
}

fn imputer(document: &StudyDocument, imputers: &ImputerProvider) -> String {
    let study = document.study();
    if !study.uses_imputer() {
        return "none is used".to_owned();
    }
    let digest =
        study.imputer.sha256().map_or_else(|| "not pinned".to_owned(), |digest| format!("sha256 {digest}"));
    match study.imputer {
        ImputerSpec::None {} | ImputerSpec::Redacted {} => "none is used".to_owned(),
        ImputerSpec::DeclaredNoise {} => {
            "declared noise: drawn from the study's ranges, fitted on nobody".to_owned()
        }
        ImputerSpec::Onnx { .. } | ImputerSpec::Precomputed { .. } => {
            let support =
                imputers.find(document).and_then(|imputer| imputer.map_or(Ok(None), |one| one.support()));
            let support = match support {
                Ok(Some(list)) => format!("fitted on {} patients, listed by digest", list.count()),
                Ok(None) => {
                    "does not list whom it was fitted on: ask the consortium that none is a patient here"
                        .to_owned()
                }
                Err(error) => error.to_string(),
            };
            format!("{}, {digest}; {support}", study.imputer.kind())
        }
    }
}

fn rounds(study: &Study) -> String {
    let training = &study.training;
    let private = training.rounds.saturating_sub(study.warmup_rounds());
    let batch = match training.expected_batch_size {
        BatchSize::All => "every patient in each step".to_owned(),
        BatchSize::Expected(units) => format!("{units} patients of all sites in each step, on average"),
    };
    format!(
        "{}, of which {private} read sensitive values, {} step(s) each; {batch}",
        training.rounds, training.local_steps
    )
}

fn target(study: &Study) -> String {
    match study.privacy.target {
        PrivacyTarget::Epsilon { epsilon, relation } => {
            format!("epsilon at most {} under {relation} at delta {}", shown(epsilon), study.privacy.delta)
        }
        PrivacyTarget::NoiseMultiplier { noise_multiplier } => {
            format!(
                "noise multiplier {noise_multiplier}; epsilon as it follows, at delta {}",
                study.privacy.delta
            )
        }
    }
}

fn shown(epsilon: Epsilon) -> f64 {
    epsilon.rounded_up(DECIMALS)
}

fn data(offered: &OfferedStudy) -> String {
    match &offered.look {
        None => "not looked at yet; the agent does so when it is offered the study".to_owned(),
        Some((Look::Problem(problem), _)) => format!("does not serve yet: {problem}"),
        Some((Look::Ready { units, records, data_set }, _)) => {
            format!("{units} patients with {records} records, data set {}…", &data_set.to_string()[..12])
        }
    }
}
