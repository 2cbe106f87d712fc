//! A study from submission to its report.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fusiondp_coordinator::receipts::{Folder, Trust};
use fusiondp_proto::v1;
use fusiondp_protocol::{SiteState, StudyState};
use serde_json::{Value, json};

use crate::fake::Behavior;
use crate::setup::{Federation, document};

#[tokio::test(flavor = "multi_thread")]
async fn a_study_runs_to_its_end_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b", "c", "unused"]).await;
    for id in ["a", "b"] {
        federation.join(id, Behavior::Works);
    }
    federation.join("c", Behavior::KeepsMetrics);
    let document = document(&[("min_sites = 2", "min_sites = 2\nsites = [\"a\", \"b\", \"c\"]")]);
    let id = federation.submit(&document).await;
    assert_eq!(federation.submit(&document).await, id, "submitting the same bytes again");

    let status = federation.wait_end(&id).await;
    assert_eq!((status.state, status.detail.as_str()), (StudyState::Finished, ""));
    assert_eq!((status.round, status.rounds), (6, 6));
    assert_eq!(status.sites.len(), 3);
    let plan = status.plan.unwrap();
    for site in &status.sites {
        assert_eq!((site.state, site.rounds_contributed, site.rounds_missed), (SiteState::Enrolled, 6, 0));
        // Every site has spent exactly what the plan foresaw: one warm-up round, five private ones.
        assert_eq!(site.epsilon_replace, plan.epsilon_replace);
        assert_eq!(site.epsilon_zero_out, plan.epsilon_zero_out);
    }
    let pooled: Vec<_> = status.metrics.iter().filter(|metric| metric.site_id.is_none()).collect();
    let points: Vec<_> =
        pooled.iter().map(|metric| (metric.round, metric.cohort.as_str(), metric.records)).collect();
    assert_eq!(points, [(6, "test", 80), (6, "val", 80)], "the newest evaluation of each cohort");
    let list = federation.admin.list_studies(v1::ListStudiesRequest {}).await.unwrap().into_inner();
    assert!(list.studies[0].metrics.is_empty());
    // 8 of 10 positives above 24 of 30 negatives, ties count half: (8*24 + (8*6 + 2*24)/2) / 300.
    assert!((pooled[0].auroc - 0.8).abs() < 1e-12, "{}", pooled[0].auroc);

    let files = federation.export(&id).await;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let receipts = ["receipts-a.jsonl", "receipts-b.jsonl", "receipts-c.jsonl"];
    let report = ["report.html", "report.json", "study.toml"];
    assert_eq!(
        names,
        [&["model-card.md", "model.onnx", "model.safetensors"][..], &receipts, &report].concat()
    );
    check_receipts(&files, plan.epsilon_replace.get());
    check_json(&files["report.json"], plan.epsilon_replace.get());
    check_html(&String::from_utf8(files["report.html"].clone()).unwrap());
    assert_eq!(files["study.toml"], document.text().as_bytes());
    let model = fusiondp_learn::onnx::inspect(&files["model.onnx"]).unwrap();
    assert_eq!(model.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["a", "s"]);

    for site in federation.stop().await {
        assert_eq!(site.receipts.len(), 6, "{}", site.id);
        assert_eq!(site.ledger.entries().len(), 5, "{}", site.id);
    }
}

/// Anybody can recompute what the report says from the receipts in it.
fn check_receipts(files: &BTreeMap<String, Vec<u8>>, epsilon_replace: f64) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let verified = Folder::read(folder.path()).unwrap().verify(&Trust::default(), || ()).unwrap();
    assert!(verified.holds(), "{verified:?}");
    assert_eq!((verified.sites.len(), verified.epsilon.replace), (3, epsilon_replace));
    assert!(verified.sites.iter().all(|site| (site.receipts, site.charges) == (6, 5)));
}

fn check_json(bytes: &[u8], epsilon_replace: f64) {
    let report: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(report["sites"], 3);
    assert_eq!(report["rounds"], 6);
    assert_eq!(report["epsilon"]["replace"].as_f64().unwrap(), epsilon_replace);
    assert!(report["epsilon"]["zero_out"].as_f64().unwrap() < epsilon_replace);
    assert_eq!(report["delta"], 1e-5);
    assert_eq!(report["noise_multiplier"], 2.0);
    assert_eq!(report["clip_norm"], 1.0);
    assert!((report["sampling_probability"].as_f64().unwrap() - 16.0 / 300.0).abs() < 1e-15);
    assert_eq!(report["headline_relation"], "replace");
    let metrics = report["metrics"].as_array().unwrap();
    let pooled = metrics.iter().filter(|metric| metric["site"].is_null());
    let points: Vec<_> =
        pooled.map(|metric| json!([metric["round"], metric["cohort"], metric["records"]])).collect();
    assert_eq!(json!(points), json!([[2, "val", 80], [4, "val", 80], [6, "test", 80], [6, "val", 80]]));
    assert!((report["auroc"].as_f64().unwrap() - 0.8).abs() < 1e-12);
    assert!(report["aupr"].as_f64().unwrap() > 0.3 && report["brier"] == 0.2);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(report["participation"].as_array().unwrap().len(), 18);
    assert_eq!(report["losses"].as_array().unwrap().len(), 6);
    assert_eq!(report["site_details"][0]["epsilon_by_round"].as_array().unwrap().len(), 5);
    assert_eq!(report["study"]["state"], "finished");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("metrics stay here") && warnings.contains("\"c\""), "{warnings}");
}

fn check_html(html: &str) {
    assert!(
        html.contains("small &lt;study&gt; &amp; more") && !html.contains("<study>"),
        "names are escaped"
    );
    for part in
        ["What it does not cover", "Labels.", "Membership.", "<svg", "ε, replace", "prefers-color-scheme"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("<script") && !html.contains("NaN"));
    // Nothing is loaded from anywhere.
    assert!(!html.contains("src=") && !html.contains("href="));
}

#[tokio::test(flavor = "multi_thread")]
async fn studies_queue_and_an_administrator_can_stop_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let first =
        federation.submit(&document(&[("enrolment_timeout_s = 2", "enrolment_timeout_s = 600")])).await;
    // Until it is offered, a study would be ended at once, as the third one is.
    while federation.store.study(&first).await.unwrap().unwrap().enrolment_deadline_ms.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = federation.submit(&document(&[("rounds = 6", "rounds = 1000"), ("= 2.0", "= 50.0")])).await;
    let waiting = federation.wait(&second, "queue", |status| !status.detail.is_empty()).await;
    assert_eq!(waiting.state, StudyState::Enrolling);
    assert!(waiting.detail.contains(first.as_str()), "{}", waiting.detail);

    let third = federation.submit(&document(&[("rounds = 6", "rounds = 7")])).await;
    stop(&mut federation, &third).await;
    assert_eq!(federation.status(&third).await.state, StudyState::Stopped, "without waiting for its turn");

    stop(&mut federation, &first).await;
    assert_eq!(federation.wait_end(&first).await.state, StudyState::Stopped);
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    federation.wait(&second, "round 3", |status| status.round >= 3).await;
    stop(&mut federation, &second).await;
    let status = federation.wait_end(&second).await;
    assert_eq!(status.state, StudyState::Stopped);
    assert!(status.round >= 3 && status.round < 1000);
    // Its model and its records stay.
    assert!(federation.export(&second).await.contains_key("model.onnx"));
    assert!(!federation.export(&first).await.contains_key("model.onnx"), "the first never trained");
    federation.stop().await;
}

async fn stop(federation: &mut Federation, id: &fusiondp_protocol::StudyId) {
    let request = fusiondp_proto::v1::StopStudyRequest { study_id: id.to_string() };
    federation.admin.stop_study(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_every_end_and_the_stream_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    federation.join("a", Behavior::Works);
    federation.join("b", Behavior::Works);
    let id = federation.submit(&document(&[])).await;
    let request = fusiondp_proto::v1::WatchStudyRequest { study_id: id.to_string() };
    let mut statuses = federation.admin.watch_study(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(status) = statuses.message().await.unwrap() {
        last = Some(status);
    }
    assert_eq!(last.unwrap().state, "finished");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_turn_fast() {
    let folder = tempfile::tempdir().unwrap();
    let members = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"];
    let mut federation = Federation::start(folder.path(), &members).await;
    for id in members {
        federation.join(id, Behavior::Works);
    }
    // All but the last rounds are warm-up: the accountant is not what is measured.
    let edits = [
        ("rounds = 6", "rounds = 100"),
        ("warmup_rounds = 1", "warmup_rounds = 99"),
        ("every_rounds = 2", "every_rounds = 25"),
    ];
    let id = federation.submit(&document(&edits)).await;
    federation.wait(&id, "first round", |status| status.round >= 1).await;
    let begun = Instant::now();
    let status = federation.wait_end(&id).await;
    let rate = 99.0 / begun.elapsed().as_secs_f64();
    assert_eq!(status.state, StudyState::Finished, "{}", status.detail);
    println!("{rate:.0} rounds per second with 8 sites");
    assert!(rate > 10.0, "{rate:.1} rounds per second");
    federation.stop().await;
}
