#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::Path;

use super::*;
use crate::report::tests::{context, facts_with_model};
use crate::report::write;

/// A report with a model whose parameters are all `value`.
fn report(folder: &Path, value: f32) -> ReportFolder {
    let context = context();
    for file in write(&context, &facts_with_model(&context, value)).unwrap() {
        fs::write(folder.join(file.name), file.bytes).unwrap();
    }
    ReportFolder::open(folder).unwrap()
}

fn audit(report: &ReportFolder, gaussian_bound: f64) -> AuditEvidence {
    let line = AuditLine {
        mechanism: "private <sum>".to_owned(),
        fault: None,
        relation: NeighboringRelation::Replace,
        claim: Epsilon::new(1.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
        canaries: 16_384,
        guesses: 328,
        right: 223,
        wrong: 7_000,
        lower_bound: 0.41,
        gaussian_bound,
    };
    let planted = AuditLine { fault: Some("half-noise".to_owned()), gaussian_bound: 1.8, ..line.clone() };
    AuditEvidence {
        format: AuditFormat::V1,
        made_with: "fusiondp-simulate 0.1.0".to_owned(),
        study_digest: report.document().digest(),
        seed: 1,
        error_probability: 0.01,
        results: vec![line, planted],
    }
}

fn attacks(report: &ReportFolder) -> AttackEvidence {
    let told = Distinction { auroc: 0.512, advantage: 0.02, hits_at_one_percent: 0.013 };
    AttackEvidence {
        format: AttackFormat::V1,
        made_with: "fusiondp-simulate 0.1.0".to_owned(),
        study_digest: report.document().digest(),
        model_digest: report.model_digest(),
        study: "s".to_owned(),
        epsilon: 1.0,
        seed: 1,
        cohort: "test".to_owned(),
        auroc: 0.931,
        membership: Membership {
            members: 14_293,
            others: 2_870,
            by_loss: told,
            by_references: Some(References { models: 16, found: told }),
        },
        reconstruction: vec![Reconstruction {
            column: "Age".to_owned(),
            records: 4_000,
            slots: 15,
            mode: 0.127,
            imputer: 0.143,
            baseline: 0.145,
            with_model: 0.158,
            model_alone: 0.1,
        }],
        inversion: None,
        perturbed: vec![Perturbed { radius: 0.1, auroc: 0.891 }],
        worst_group: Some(Group {
            column: "ICULOS".to_owned(),
            values: "48 to 60".to_owned(),
            records: 736,
            positives: 38,
            auroc: 0.78,
        }),
    }
}

fn page(folder: &Path) -> String {
    fs::read_to_string(folder.join("report.html")).unwrap()
}

#[test]
fn a_report_says_that_nobody_has_attacked_it_until_somebody_has() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), 0.5);
    let bare = page(folder.path());
    assert!(
        bare.contains("Nobody has attacked the releases") && bare.contains("Nobody has attacked this model")
    );
    report.add_audit(&audit(&report, 0.85)).unwrap();
    report.add_attacks(&attacks(&report)).unwrap();
    let html = page(folder.path());
    assert!(!html.contains("Nobody has attacked"), "{html}");
    for shown in [
        "private &lt;sum&gt;",
        "223 of 328",
        "0.850",
        "stay below the claims. Where a fault was planted on purpose they exceed them",
        "planted half-noise",
    ] {
        assert!(html.contains(shown), "{shown}");
    }
    for shown in ["by 16 reference models", "1.3\u{a0}%", "+0.013", "moved by up to 0.1", "48 to 60", "0.931"]
    {
        assert!(html.contains(shown), "{shown}");
    }
    assert!(
        html.contains("computed from true values and leave without noise")
            && !bare.contains("without noise: no ε")
    );
    assert_eq!(html.matches("<h2>Proof by attack</h2>").count(), 1);
    let outside = |html: &str| {
        let (before, rest) = html.split_once("<!-- attacks -->").unwrap();
        (before.to_owned(), rest.split_once("<!-- end of attacks -->").unwrap().1.to_owned())
    };
    assert_eq!(outside(&bare), outside(&html));
}

#[test]
fn evidence_outlives_a_new_export_of_the_same_study_and_model_only() {
    let folder = tempfile::tempdir().unwrap();
    let first = report(folder.path(), 0.5);
    first.add_audit(&audit(&first, 0.85)).unwrap();
    first.add_attacks(&attacks(&first)).unwrap();
    assert_eq!(report(folder.path(), 0.5).refresh().unwrap(), Vec::<&str>::new());
    assert!(page(folder.path()).contains("223 of 328") && page(folder.path()).contains("48 to 60"));
    let other = report(folder.path(), 0.25);
    assert_eq!(other.refresh().unwrap(), ["attacks.json"]);
    assert!(page(folder.path()).contains("223 of 328") && !page(folder.path()).contains("48 to 60"));
    let refused = other.add_attacks(&attacks(&first)).unwrap_err().to_string();
    assert!(refused.contains("attacks.json is of another model"), "{refused}");
    let foreign = AuditEvidence { study_digest: Digest::of(b"other"), ..audit(&other, 0.85) };
    let refused = other.add_audit(&foreign).unwrap_err().to_string();
    assert!(refused.contains("audit.json is of another study document"), "{refused}");
    fs::write(folder.path().join("audit.json"), serde_json::to_vec(&foreign).unwrap()).unwrap();
    assert_eq!(other.refresh().unwrap(), ["audit.json"]);
    assert!(page(folder.path()).contains("Nobody has attacked the releases"));
}

#[test]
fn a_fault_that_was_not_noticed_or_not_planted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), 0.5);
    let mut blind = audit(&report, 0.85);
    blind.results[1].gaussian_bound = 0.9;
    report.add_audit(&blind).unwrap();
    let html = page(folder.path());
    assert!(
        html.contains("Of 1 faults that were planted") && html.contains("half-noise in private &lt;sum&gt;")
    );
    blind.results.truncate(1);
    report.add_audit(&blind).unwrap();
    assert!(page(folder.path()).contains("No fault was planted"));
}

#[test]
fn a_bound_above_the_claim_of_the_code_as_it_is_is_not_overlooked() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), 0.5);
    report.add_audit(&audit(&report, 1.001)).unwrap();
    let html = page(folder.path());
    assert!(html.contains("A lower bound exceeds the claim") && !html.contains("stay below the claims"));
}

#[test]
fn files_that_report_json_does_not_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), 0.5);
    let context = context();
    let params = report.parameters(context.model()).unwrap();
    assert!(params.len() == context.model().parameters() && params.iter().all(|&value| value == 0.5));
    let changed = vec![0.25; params.len()];
    let bytes = context.model().to_safetensors(&changed, ("k", "v")).unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let refused = report.parameters(context.model()).unwrap_err().to_string();
    assert!(refused.contains("model.safetensors: its SHA-256 is"), "{refused}");
    fs::write(folder.path().join("study.toml"), format!("{}\n", context.document().text())).unwrap();
    let refused = ReportFolder::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("study.toml: its SHA-256 is"), "{refused}");
    fs::remove_file(folder.path().join("report.json")).unwrap();
    let refused = ReportFolder::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("report.json") && refused.contains("study export"), "{refused}");
}
