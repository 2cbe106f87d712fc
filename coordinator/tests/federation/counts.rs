//! Tables of counts with noise, whose charges belong into the mirror whenever they arrive.

use fusiondp_coordinator::receipts::{Folder, Trust};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_protocol::{EvaluationReport, Problem, ProblemType, ReleasedMetrics, StudyState};
use fusiondp_runtime::Role;
use tonic::transport::Channel;

use crate::fake::{Behavior, register};
use crate::setup::{Federation, channel, document};

/// Tables of one edge with noise 5, of the final model.
const NOISY: (&str, &str) = (
    "release = \"summary\"\nevery_rounds = 2\nduring = \"val\"",
    "release = \"noisy\"\nnoise_multiplier = 5.0\nedges = [0]",
);

async fn send(client: &mut FederationClient<Channel>, report: &EvaluationReport) -> Problem {
    let status = client.submit_evaluation(v1::EvaluationReport::from(report.clone())).await.unwrap_err();
    Problem::from_status(&status).unwrap_or_else(|| panic!("{status:?}"))
}

/// It was charged and has left the site: in the mirror, in the receipts and in what the report says that counts cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_counts_that_arrives_after_the_study_has_ended_is_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let document = document(&[NOISY]);
    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    for id in ["a", "b"] {
        federation.join(id, Behavior::KeepsMetrics);
    }
    let id = federation.submit(&document).await;
    let status = federation.wait_end(&id).await;
    assert_eq!(status.state, StudyState::Finished, "{}", status.detail);
    let mut sites = federation.stop().await;
    let a = sites.iter_mut().find(|site| site.id.as_str() == "a").unwrap();

    let mut federation = Federation::start(folder.path(), &["a", "b"]).await;
    let version = federation.store.study(&id).await.unwrap().unwrap().final_version;
    let digest = federation.store.model(&id, version).await.unwrap().unwrap().digest;
    let mut client = FederationClient::new(channel(&federation.connector, "a", Role::Site));
    register(&mut client).await.unwrap();
    let report = a.noisy_report(&document, (version, digest), "test").await;
    let ReleasedMetrics::Noisy(counts) = &report.metrics else { panic!("{report:?}") };

    // What is not the site's charge, or was not asked for, is not mirrored.
    let mut altered = counts.clone();
    altered.units += 1;
    let altered = EvaluationReport { metrics: ReleasedMetrics::Noisy(altered), ..report.clone() };
    assert_eq!(send(&mut client, &altered).await.kind, ProblemType::MalformedMessage);
    let unasked = EvaluationReport { model_version: 1, ..report.clone() };
    assert_ne!(version, 1);
    send(&mut client, &unasked).await;
    assert!(federation.store.counts_charges(&id).await.unwrap().is_empty());

    for _ in 0..2 {
        assert_eq!(send(&mut client, &report).await.kind, ProblemType::StudyEnded);
    }
    let mirrored = federation.store.counts_charges(&id).await.unwrap();
    assert_eq!(mirrored, [("a".parse().unwrap(), counts.charge.clone())]);
    assert_eq!(register(&mut client).await.unwrap().newest_entry, Some(counts.charge.clone()));
    let files = federation.export(&id).await;
    let receipts = ReceiptsFile::parse(std::str::from_utf8(&files["receipts-a.jsonl"]).unwrap()).unwrap();
    assert_eq!(receipts.counts, std::slice::from_ref(&counts.charge));
    // The report tells of it with its cost, or this would name the difference.
    let exported = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(exported.path().join(name), bytes).unwrap();
    }
    let verified = Folder::read(exported.path()).unwrap().verify(&Trust::default(), || ()).unwrap();
    assert!(verified.holds(), "{verified:?}");
    assert_eq!(verified.counts.unwrap().cohorts[0].tables, 1);
    federation.stop().await;
}
