#![allow(clippy::unwrap_used)]
use fusiondp_dp::{ChargeRequest, LedgerKey, NoiseMultiplier};
use fusiondp_protocol::{MetricSummary, StudyDocument};

use super::*;
use crate::store::Standing;
use crate::study::testing::{STUDY, counts_charge, counts_key, noisy_counts, noisy_document};

/// What a site does to its charge or its table.
type Change = fn(&mut ChargeRequest, &mut Vec<i64>);

const CELLS: [i64; 4] = [300, 100, 20, 80];

fn enrolled(key: Option<&LedgerKey>) -> StudySiteRow {
    StudySiteRow {
        site: "a".parse().unwrap(),
        standing: Standing::Enrolled,
        detail: String::new(),
        units: 100,
        records: 200,
        ledger_head: None,
        rounds_contributed: 0,
        rounds_missed: 0,
        epsilon_replace: 0.0,
        epsilon_zero_out: 0.0,
        records_replace: 0.0,
        records_zero_out: 0.0,
        mirror_gaps: 0,
        ledger_key: key.map(LedgerKey::public),
    }
}

fn report(document: &StudyDocument, metrics: ReleasedMetrics) -> EvaluationReport {
    EvaluationReport {
        study_id: document.id().clone(),
        model_version: 3,
        cohort: "test".parse().unwrap(),
        metrics,
    }
}

fn exact() -> ReleasedMetrics {
    ReleasedMetrics::Summary(MetricSummary {
        records: 1,
        positives: 1,
        brier: 0.1,
        log_loss: 0.1,
        positive_counts: vec![1],
        negative_counts: vec![0],
    })
}

/// The detail of the problem, or nothing where the report is taken.
fn refused(document: StudyDocument, site: &StudySiteRow, metrics: ReleasedMetrics) -> Option<String> {
    let report = report(&document, metrics);
    let context = StudyContext::new(document).unwrap();
    let expected = Expected { context: &context, enrolled: site, model_digest: Some(Digest::of(b"m")) };
    check_report(&expected, &report).err().map(|error| error.to_string())
}

fn counts_refused(change: impl FnOnce(&mut ChargeRequest, &mut Vec<i64>)) -> Option<String> {
    let document = noisy_document();
    let (mut charge, mut cells) = (counts_charge(&document, "test"), CELLS.to_vec());
    change(&mut charge, &mut cells);
    let counts = Box::new(noisy_counts(&cells, charge));
    refused(document, &enrolled(Some(&counts_key())), ReleasedMetrics::Noisy(counts))
}

#[test]
fn counts_are_taken_with_the_charge_of_this_evaluation_alone() {
    assert_eq!(counts_refused(|_, _| {}), None);
    let cases: [(&str, Change); 8] = [
        ("4 cells", |_, cells| cells.extend([1, 2])),
        ("study is not", |charge, _| charge.study = "other".to_owned()),
        ("study_digest is not", |charge, _| charge.study_digest = Digest::of(b"x")),
        ("event is not", |charge, _| {
            let noise_multiplier = NoiseMultiplier::new(6.0).unwrap();
            charge.event = DpEvent::GaussianHistogram { noise_multiplier, steps: std::num::NonZeroU32::MIN };
        }),
        ("event is not", |charge, _| charge.event = charge.event.with_steps(2.try_into().unwrap())),
        ("released is not", |charge, _| charge.released = Released::PrivateSum),
        ("released is not", |charge, _| charge.released = Released::Counts { cohort: "val".to_owned() }),
        ("model_digest is not", |charge, _| charge.model_digest = Digest::of(b"n")),
    ];
    for (part, change) in cases {
        let detail = counts_refused(change).unwrap();
        assert!(detail.contains(part), "{part}: {detail}");
    }
}

#[test]
fn counts_stand_under_the_sites_key_and_say_its_units() {
    let document = noisy_document;
    let counts = || noisy_counts(&CELLS, counts_charge(&document(), "test"));
    let noisy = |counts| ReleasedMetrics::Noisy(Box::new(counts));
    let stranger = LedgerKey::from_seed([4; LedgerKey::SEED_BYTES]);
    let detail = refused(document(), &enrolled(Some(&stranger)), noisy(counts())).unwrap();
    assert!(detail.contains("the charge of the counts"), "{detail}");
    assert!(refused(document(), &enrolled(None), noisy(counts())).unwrap().contains("ledger key"));
    let fewer = NoisyCounts { units: 499, ..counts() };
    let detail = refused(document(), &enrolled(Some(&counts_key())), noisy(fewer)).unwrap();
    assert!(detail.contains("units is not"), "{detail}");
}

#[test]
fn a_report_is_of_the_kind_that_the_study_releases() {
    let site = enrolled(Some(&counts_key()));
    let counts = || Box::new(noisy_counts(&CELLS, counts_charge(&noisy_document(), "test")));
    let summary = || {
        let evaluation = "[evaluation]\nrelease = \"summary\"\nfinal_cohort = \"test\"\n[schema]";
        StudyDocument::from_bytes(STUDY.replace("[schema]", evaluation).as_bytes()).unwrap()
    };
    let none = || StudyDocument::from_bytes(STUDY.as_bytes()).unwrap();
    assert_eq!(refused(summary(), &site, exact()), None);
    for (document, metrics) in [
        (noisy_document(), exact()),
        (summary(), ReleasedMetrics::Noisy(counts())),
        (none(), exact()),
        (none(), ReleasedMetrics::Noisy(counts())),
    ] {
        let detail = refused(document, &site, metrics).unwrap();
        assert!(detail.contains("evaluation.release"), "{detail}");
    }
}
