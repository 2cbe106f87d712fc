//! Each transition on its own: pure functions of what is stored.
#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::Digest;
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::Model;
use fusiondp_learn::server::{PrivateScale, ServerState};
use fusiondp_protocol::{Plan, SiteId, SiteSize, StudyDocument, chunks};

use super::aggregation::{AggregationError, StoredUpdate, UpdateKind};
use super::configuration::{ConfigurationError, TaskInput, training_task};
use super::outcome::Next;
use super::reporting::{ReportingStep, SiteOutcome};
use super::selection::{Candidate, SelectionError, SelectionRule, SelectionStep};
use super::*;

const KEY: RoundKey = RoundKey { round: 2, attempt: 1, model_version: 2 };

fn site(id: &str) -> SiteId {
    id.parse().unwrap()
}

fn candidate(id: &str, connected: bool, reported: bool) -> Candidate {
    Candidate { site: site(id), connected, reported }
}

fn rule(min_sites: u32) -> SelectionRule {
    SelectionRule { min_sites, settle_until_ms: 1_000 }
}

fn document() -> StudyDocument {
    let text = crate::study::testing::STUDY;
    StudyDocument::from_bytes(text.as_bytes()).unwrap()
}

fn plan() -> Plan {
    let size = |id| SiteSize { site: site(id), units: 100, records: 200 };
    Plan::derive(&document(), &[size("a"), size("b")]).unwrap()
}

#[test]
fn selection_takes_everybody_who_is_there_once_there_are_enough() {
    let candidates = [candidate("a", true, false), candidate("b", false, true), candidate("c", false, false)];
    let step = Selection::new(KEY).choose(&candidates, rule(2), 2_000).unwrap();
    let SelectionStep::Selected(chosen) = step else { panic!("{step:?}") };
    assert_eq!(chosen.selected(), &BTreeSet::from([site("a"), site("b")]));
}

#[test]
fn selection_waits_for_absent_sites_only_while_it_settles() {
    let candidates = [candidate("a", true, false), candidate("b", true, false), candidate("c", false, false)];
    let early = Selection::new(KEY).choose(&candidates, rule(2), 999).unwrap();
    let SelectionStep::Waiting(selection, waiting) = early else { panic!("{early:?}") };
    assert_eq!(waiting.to_string(), "waiting for sites: 2 connected, 2 needed, absent: c");
    assert!(matches!(selection.choose(&candidates, rule(2), 1_000).unwrap(), SelectionStep::Selected(_)));
    let all = [candidate("a", true, false), candidate("b", true, false)];
    assert!(matches!(Selection::new(KEY).choose(&all, rule(2), 0).unwrap(), SelectionStep::Selected(_)));
}

#[test]
fn selection_waits_for_enough_and_gives_up_when_too_few_are_left() {
    let candidates = [candidate("a", true, false), candidate("b", false, false)];
    let step = Selection::new(KEY).choose(&candidates, rule(2), 9_000).unwrap();
    assert!(matches!(step, SelectionStep::Waiting(..)));
    let error = Selection::new(KEY).choose(&candidates, rule(3), 9_000).unwrap_err();
    assert_eq!(error, SelectionError::TooFewSites { round: 2, left: 2, min_sites: 3 });
}

#[test]
fn configuration_makes_one_task_for_all() {
    let plan = plan();
    let chosen = Configuration::new(KEY, BTreeSet::from([site("a"), site("b")]));
    let digest = Digest::of(b"model");
    let input = TaskInput { plan: &plan, newest_version: 2, model_digest: digest, deadline_ms: 700 };
    let reporting = chosen.clone().configure(&input).unwrap();
    let task = training_task(KEY, &input);
    assert_eq!(reporting.working().count(), 2);
    assert_eq!((task.round, task.attempt, task.model_version, task.deadline_ms), (2, 1, 2, 700));
    assert!(task.private_part, "round 2 comes after the one warm-up round");
    assert_eq!(task.model_digest, digest);

    let stale = TaskInput { newest_version: 3, ..input.clone() };
    let error = chosen.clone().configure(&stale).unwrap_err();
    assert_eq!(error, ConfigurationError::WrongVersion { round: 2, expected: 2, newest: 3 });
    let beyond = Configuration::new(RoundKey { round: 99, ..KEY }, BTreeSet::new());
    assert!(matches!(beyond.configure(&input), Err(ConfigurationError::RoundBeyondPlan { round: 99, .. })));
}

fn reporting(outcomes: &[(&str, SiteOutcome)]) -> Reporting {
    Reporting::new(KEY, 1_000, outcomes.iter().map(|(id, outcome)| (site(id), *outcome)).collect())
}

#[test]
fn reporting_goes_on_when_everybody_has_answered() {
    let waiting = reporting(&[("a", SiteOutcome::Reported), ("b", SiteOutcome::Working)]);
    assert!(matches!(waiting.step(1, 999), ReportingStep::Waiting(_)), "before the deadline");
    let done = reporting(&[("a", SiteOutcome::Reported), ("b", SiteOutcome::Failed)]);
    let ReportingStep::Complete(aggregation) = done.clone().step(1, 0) else { panic!("all have answered") };
    assert_eq!(aggregation.reported(), &BTreeSet::from([site("a")]));
    let ReportingStep::Short(abandoned) = done.step(2, 0) else { panic!("one of two") };
    assert_eq!(abandoned.reason(), "1 updates, 2 needed; failed: b");
}

#[test]
fn reporting_goes_on_at_the_deadline_with_enough_and_never_with_none() {
    let half = reporting(&[("a", SiteOutcome::Reported), ("b", SiteOutcome::Working)]);
    assert!(matches!(half.clone().step(1, 1_000), ReportingStep::Complete(_)));
    let ReportingStep::Short(abandoned) = half.step(2, 1_000) else { panic!("one of two") };
    assert!(abandoned.reason().contains("no answer by the deadline: b"));
    let none = reporting(&[("a", SiteOutcome::Refused)]);
    assert!(matches!(none.step(0, 0), ReportingStep::Short(_)));
}

#[test]
fn an_attempt_is_followed_by_the_next_round_or_the_next_attempt() {
    assert_eq!(Finished::new(KEY).new_version(), 3);
    let Next::Round(next) = Finished::new(KEY).next(3) else { panic!("round 3 of 3 follows") };
    assert_eq!(next.key(), RoundKey { round: 3, attempt: 1, model_version: 3 });
    assert_eq!(Finished::new(KEY).next(2), Next::Done);
    let again = Abandoned::new(KEY, "why".into()).next(2).unwrap();
    assert_eq!(again.key(), RoundKey { attempt: 2, ..KEY });
    let given_up = Abandoned::new(again.key(), "why".into()).next(2).unwrap_err();
    assert!(given_up.to_string().contains("round 2 was abandoned 2 times"), "{given_up}");
}

fn server_state() -> ServerState {
    let document = document();
    let study = document.study();
    let encoder = Encoder::new(&study.schema, &study.model).unwrap();
    let model = Model::new(&study.model, encoder.input_shape()).unwrap();
    ServerState::new(&model, study.server_settings(), model.initialise(7)).unwrap()
}

fn update(id: &str, seed: i64, private: bool) -> StoredUpdate {
    let values = server_state().parameters().len();
    let public: Vec<f32> = (0..values).map(|index| (seed as f32 * 0.37 + index as f32).sin()).collect();
    let mut payload = Vec::new();
    chunks::encode_f32(&public, &mut payload);
    let sums: Vec<i64> = (0..values as i64).map(|index| (seed * 7_919 + index) % 1_000_003).collect();
    if private {
        chunks::encode_i64(&sums, &mut payload);
    }
    StoredUpdate {
        site: site(id),
        units: 100 + seed as u64,
        records: 200 + seed as u64,
        public_loss: 0.5,
        public_values: values,
        private_values: if private { values } else { 0 },
        payload,
    }
}

fn gradients() -> UpdateKind {
    let scale = PrivateScale { grid_step: 2f64.powi(-20), sampling_probability: 0.1, noise_deviation: 1.0 };
    UpdateKind::Gradients { scale, public_length: server_state().parameters().len() }
}

fn aggregation(ids: &[&str]) -> Aggregation {
    Aggregation::new(RoundKey::first_attempt(1, 1), ids.iter().map(|id| site(id)).collect())
}

#[test]
fn aggregation_does_not_depend_on_the_order_of_updates() {
    let names = ["a", "b", "c", "d", "e"];
    let mut updates: Vec<StoredUpdate> =
        names.iter().enumerate().map(|(index, id)| update(id, index as i64 + 1, true)).collect();
    let apply = |updates: Vec<StoredUpdate>| {
        aggregation(&names).apply(server_state(), updates, &gradients()).unwrap().state.to_bytes()
    };
    let expected = apply(updates.clone());
    for _ in 0..names.len() {
        updates.rotate_left(1);
        assert!(apply(updates.clone()) == expected, "bit for bit");
    }
    updates.reverse();
    assert!(apply(updates) == expected);
}

#[test]
fn aggregation_refuses_what_the_phase_does_not_name_and_damaged_bytes() {
    let apply = |ids: &[&str], updates| aggregation(ids).apply(server_state(), updates, &gradients());
    let missing = apply(&["a", "b"], vec![update("a", 1, true)]);
    assert!(matches!(missing, Err(AggregationError::WrongUpdates { round: 1, .. })));
    let twice = apply(&["a"], vec![update("a", 1, true), update("a", 2, true)]);
    assert!(matches!(twice, Err(AggregationError::WrongUpdates { .. })));
    let mut cut = update("a", 1, true);
    cut.payload.pop();
    assert!(matches!(apply(&["a"], vec![cut]), Err(AggregationError::Length { .. })));
    let mut poisoned = update("a", 1, true);
    poisoned.payload[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(matches!(apply(&["a"], vec![poisoned]), Err(AggregationError::Payload { .. })));
    let mixed = apply(&["a", "b"], vec![update("a", 1, true), update("b", 2, false)]);
    assert!(matches!(mixed, Err(AggregationError::Step { .. })));
}

#[test]
fn an_update_without_a_public_part_stands_for_zeros() {
    let values = server_state().parameters().len();
    let mut silent = update("a", 3, true);
    silent.payload.drain(..values * 4);
    silent.public_values = 0;
    let mut zeros = update("a", 3, true);
    zeros.payload[..values * 4].fill(0);
    let apply = |update| aggregation(&["a"]).apply(server_state(), vec![update], &gradients()).unwrap();
    let applied = apply(silent);
    assert_eq!(applied.public_loss, None);
    assert!(applied.state.parameters() == apply(zeros).state.parameters());
}

#[test]
fn a_site_that_reports_an_absurd_loss_leaves_the_mean_finite() {
    let mut absurd = [update("a", 1, true), update("b", 2, true)];
    absurd.iter_mut().for_each(|update| update.public_loss = f64::MAX);
    let loss = |updates: &[StoredUpdate]| {
        aggregation(&["a", "b"]).apply(server_state(), updates.to_vec(), &gradients()).unwrap().public_loss
    };
    assert!(loss(&absurd).unwrap().is_finite());
    let plain = loss(&[update("a", 1, true), update("b", 2, true)]).unwrap();
    assert!((plain - 0.5).abs() < 1e-12);
}

#[test]
fn outcomes_keep_their_names() {
    for outcome in ["working", "reported", "late", "missing", "failed", "refused"] {
        assert_eq!(outcome.parse::<SiteOutcome>().unwrap().as_str(), outcome);
    }
    assert!("lost".parse::<SiteOutcome>().is_err());
    let empty: BTreeMap<SiteId, SiteOutcome> = BTreeMap::new();
    assert!(matches!(Reporting::new(KEY, 0, empty).step(1, 1), ReportingStep::Short(_)));
}
