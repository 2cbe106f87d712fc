#![allow(clippy::unwrap_used)]
use fusiondp_dp::Protection;
use fusiondp_learn::model::PrivateLoss;

use super::*;
use crate::problem::{Problem, ProblemType};
use crate::testing::{MLP, RECORDS, edit, parse_edited};

const SEPSIS: &str = include_str!("../../../../deploy/samples/sepsis-study.toml");
const BANK: &str = include_str!("../../../../deploy/samples/bank-study.toml");
const PINNED: &str =
    "kind = \"onnx\"\nsha256 = \"e54ad52e61d2d4618dcff8fa1480ac66b24ee2eab73331322db1049f11ccf330\"";

const TARGET: &str = "target = { epsilon = 1.0, relation = \"replace\" }";

/// [`MLP`] with a split model.
fn split() -> String {
    let text = edit(MLP, "kind = \"mlp\"", "kind = \"split\"");
    let text = edit(&text, "consistency_weight = 0.5", "private_loss = \"direct\"");
    edit(
        &text,
        "[federation]",
        "private_optimizer = { kind = \"momentum\", learning_rate = 1.0, momentum = 0.9 }\n[federation]",
    )
}

/// Asserts that the edits are refused with the error of this pattern, whose message gives a remedy.
macro_rules! refused {
    ($text:expr, $edits:expr, $pattern:pat) => {{
        let error = parse_edited($text, $edits).unwrap_err();
        assert!(matches!(error, $pattern), "{error:?}");
        let message = error.to_string();
        assert!(message.contains([';', ',']), "no remedy: {message}");
        assert_eq!(Problem::from(error).kind, ProblemType::StudyInvalid);
        message
    }};
}

#[test]
fn the_sample_studies_stand() {
    let sepsis = Study::parse(SEPSIS).unwrap();
    assert_eq!((sepsis.schema.public().count(), sepsis.schema.sensitive().count()), (30, 6));
    assert!(sepsis.has_private_head() && !sepsis.uses_imputer());
    assert_eq!(sepsis.private_objective().loss, fusiondp_learn::model::PrivateLoss::Direct);
    let bank = Study::parse(BANK).unwrap();
    assert_eq!((bank.schema.public().count(), bank.schema.sensitive().count()), (11, 5));
    assert!(bank.has_private_head() && !bank.uses_imputer());
    assert_eq!((bank.warmup_rounds(), bank.training.rounds), (592, 600));
}

#[test]
fn the_small_studies_of_these_tests_stand() {
    Study::parse(MLP).unwrap();
    Study::parse(&split()).unwrap();
}

#[test]
fn a_sample_is_submitted_once_its_imputer_is_pinned() {
    for text in [SEPSIS, BANK] {
        let study = Study::parse(text).unwrap();
        assert!(matches!(study.validate_for_submission(), Err(StudyError::ImputerUnpinned)));
        Study::parse(&edit(text, "kind = \"onnx\"", PINNED)).unwrap().validate_for_submission().unwrap();
    }
}

#[test]
fn a_study_survives_being_written_and_read() {
    for text in [SEPSIS, BANK, MLP, &split()] {
        let study = Study::parse(text).unwrap();
        assert_eq!(Study::parse(&toml::to_string(&study).unwrap()).unwrap(), study);
    }
}

#[test]
fn settings_for_engine_and_server_are_the_documents() {
    let edits = [
        ("consistency_weight = 0.5", "consistency_weight = 0.1\nrepresentation_scale = 8.0"),
        ("public_batch_size = 32", "public_batch_size = 32\nmax_weight_norm = 50.0"),
    ];
    let study = parse_edited(MLP, &edits).unwrap();
    let objective = study.private_objective();
    assert_eq!((objective.consistency_weight, objective.representation_scale), (0.1, 8.0));
    let settings = study.server_settings();
    assert_eq!((settings.rounds, settings.calibration_weight), (10, 1.0));
    assert_eq!(settings.max_weight_norm, Some(50.0));
    assert!(settings.private_optimizer.is_none());
}

#[test]
fn unknown_fields_are_refused_with_line_and_path() {
    for section in ["study", "model", "imputer", "fusion", "privacy", "training", "federation", "evaluation"]
    {
        let header = format!("[{section}]\n");
        let message =
            refused!(MLP, &[(&header, &format!("{header}surprise = 1\n"))], StudyError::Syntax { .. });
        assert!(message.contains("surprise"), "{message}");
        assert!(message.contains(section), "{message}");
    }
    let message = refused!(MLP, &[("[study]", "[extra]\n[study]")], StudyError::Syntax { .. });
    assert!(message.contains("extra"), "{message}");
}

#[test]
fn wrong_types_are_refused_with_their_path() {
    for (from, to, path) in [
        ("rounds = 10", "rounds = 10.0", "training.rounds"),
        ("rounds = 10", "rounds = -1", "training.rounds"),
        ("rounds = 10", "rounds = \"10\"", "training.rounds"),
        ("clip_norm = 1.0", "clip_norm = true", "privacy.clip_norm"),
        ("clip_norm = 1.0", "clip_norm = nan", "privacy.clip_norm"),
        ("clip_norm = 1.0", "clip_norm = 0.0", "privacy.clip_norm"),
        ("delta = 1e-5", "delta = 1.0", "privacy.delta"),
        ("min_sites = 2", "min_sites = 2\nsites = [\"Hospital A\"]", "federation.sites[0]"),
        ("final_cohort = \"test\"", "final_cohort = \"../x\"", "evaluation.final_cohort"),
        ("mode = \"fusiondp\"", "mode = \"magic\"", "fusion.mode"),
    ] {
        let edits: &[_] = if from.starts_with("rounds") {
            &[("\nrounds = 10", &format!("\n{to}") as &str)]
        } else {
            &[(from, to)]
        };
        let message = refused!(MLP, edits, StudyError::Syntax { .. });
        assert!(message.contains(path), "{message}");
        assert!(message.starts_with("study document, line "), "{message}");
    }
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let error = Study::parse("[study]\nname = \"x\"\nthis is nothing\n").unwrap_err();
    assert!(matches!(error, StudyError::Syntax { line: 3, .. }), "{error:?}");
}

#[test]
fn a_target_is_one_thing() {
    for target in [
        "{ epsilon = 1.0 }",
        "{ relation = \"replace\" }",
        "{ epsilon = 1.0, relation = \"replace\", noise_multiplier = 1.0 }",
        "{ epsilon = -1.0, relation = \"replace\" }",
        "{}",
    ] {
        let edits = [(TARGET, &format!("target = {target}") as &str)];
        refused!(MLP, &edits, StudyError::Syntax { .. });
    }
    for target in ["{ noise_multiplier = 0.0 }", "{ noise_multiplier = 0 }", "{ noise_multiplier = -1.5 }"] {
        let edits = [(TARGET, &format!("target = {target}") as &str)];
        refused!(MLP, &edits, StudyError::NoNoise { .. });
    }
    for target in [
        "{ epsilon = 1.0, relation = \"add-remove\" }",
        "{ epsilon = 1.0, relation = [\"replace\", \"zero_out\"] }",
        "{ epsilon = 1.0, relation = { or = [\"replace\", \"zero_out\"] } }",
        "[{ epsilon = 1.0, relation = \"replace\" }]",
    ] {
        let edits = [(TARGET, &format!("target = {target}") as &str)];
        refused!(MLP, &edits, StudyError::RelationChoice);
    }
    for target in ["0.0", "inf", "\"infinity\""] {
        let edits = [("epsilon = 1.0", &format!("epsilon = {target}") as &str)];
        refused!(MLP, &edits, StudyError::TargetEpsilon { .. });
    }
    parse_edited(MLP, &[(TARGET, "target = { noise_multiplier = 1.05 }")]).unwrap();
}

#[test]
fn what_must_not_be_set_is_refused_by_name_wherever_it_stands() {
    let sensitivity = [("[fusion]", "[fusion]\nsensitivity = 1.0")];
    let message = refused!(MLP, &sensitivity, StudyError::SensitivityGiven { .. });
    assert!(message.starts_with("fusion.sensitivity"), "{message}");
    let column = [("name = \"s\", role", "name = \"s\", l1_sensitivity = 2, role")];
    let message = refused!(MLP, &column, StudyError::SensitivityGiven { .. });
    assert!(message.starts_with("schema.columns[3].l1_sensitivity"), "{message}");
    let message = refused!(MLP, &[("[model]", "[model]\nSeed = 1")], StudyError::SeedGiven { .. });
    assert!(message.starts_with("model.Seed"), "{message}");
    parse_edited(MLP, &[("[training]", "[training]\ninitialization_seed = 3")]).unwrap();
    for transform in ["{ type = \"standardize\" }", "{ type = \"bins\", quantiles = 4 }", "\"fit\""] {
        let edit = format!("transform = {transform}");
        let edits = [("transform = { type = \"bins\", edges = [0.5] }", &edit[..])];
        refused!(MLP, &edits, StudyError::TransformNotDeclared { .. });
    }
}

#[test]
fn delta_is_at_most_one_over_the_fewest_units_of_a_study() {
    let message =
        refused!(MLP, &[("delta = 1e-5", "delta = 0.07")], StudyError::DeltaAboveUnits { units: 16, .. });
    assert!(message.contains("0.0625"), "{message}");
    parse_edited(MLP, &[("delta = 1e-5", "delta = 0.0625")]).unwrap();
    let all =
        [("expected_batch_size = 16", "expected_batch_size = \"all\""), ("delta = 1e-5", "delta = 0.6")];
    refused!(MLP, &all, StudyError::DeltaAboveUnits { units: 2, .. });
}

#[test]
fn a_label_is_not_sensitive() {
    let again = "columns = [\n  { name = \"y\", role = \"sensitive\", kind = { type = \"binary\" } },";
    refused!(MLP, &[("columns = [", again)], StudyError::LabelDeclaredSensitive { .. });
    refused!(MLP, &[("role = \"label\"", "role = \"sensitive\"")], StudyError::Schema(_));
}

#[test]
fn a_private_part_needs_something_to_protect() {
    refused!(MLP, &[("role = \"sensitive\"", "role = \"public\"")], StudyError::NoSensitiveColumn { .. });
    let edits =
        [("role = \"sensitive\"", "role = \"public\""), ("mode = \"fusiondp\"", "mode = \"hybrid-only\"")];
    parse_edited(MLP, &edits).unwrap();
}

#[test]
fn the_unit_is_the_declared_one() {
    refused!(MLP, &[("unit_column = \"id\"", "unit_column = \"a\"")], StudyError::UnitColumnUnknown { .. });
    refused!(MLP, &[("unit_column = \"id\"", "")], StudyError::UnitColumnUnused { .. });
    let edits = [("unit_column = \"id\"", ""), ("  { name = \"id\", role = \"unit-id\" },\n", "")];
    parse_edited(MLP, &edits).unwrap();
}

#[test]
fn models_that_cannot_be_built_are_refused() {
    refused!(MLP, &[("widths = [8]", "widths = [0]")], StudyError::Model(_));
    refused!(MLP, &[("widths = [8]", "widths = [8]\ndropout = 1.0")], StudyError::Model(_));
    for members in ["members = 0", "members = 65"] {
        let edit = format!("widths = [8]\n{members}");
        let message = refused!(&split(), &[("widths = [8]", &edit)], StudyError::Model(_));
        assert!(message.contains("members must be between 1 and 64"), "{message}");
    }
}

#[test]
fn a_split_model_needs_bins() {
    let edits = [(", transform = { type = \"bins\", edges = [0.5] }", "")];
    let message = refused!(&split(), &edits, StudyError::SplitWithoutBins { .. });
    assert!(message.contains("\"s\""), "{message}");
}

#[test]
fn the_private_optimizer_is_for_the_head_of_a_split_model() {
    let given = "private_optimizer = { kind = \"momentum\", learning_rate = 1.0, momentum = 0.9 }";
    refused!(&split(), &[(given, "")], StudyError::PrivateOptimizerMissing);
    let edits = [("[federation]", &format!("{given}\n[federation]") as &str)];
    refused!(MLP, &edits, StudyError::PrivateOptimizerUnused { field: "private_optimizer" });
    let hybrid = [
        ("widths = [8]", "widths = [8]\nhead_gradient = \"hybrid-and-private\""),
        ("private_loss = \"direct\"", ""),
    ];
    parse_edited(&split(), &hybrid).unwrap();
    refused!(&split(), &[hybrid[0], hybrid[1], (given, "")], StudyError::PrivateOptimizerMissing);
}

#[test]
fn a_head_gets_the_loss_that_fits_its_gradient() {
    let hybrid = ("widths = [8]", "widths = [8]\nhead_gradient = \"hybrid-and-private\"");
    refused!(&split(), &[hybrid], StudyError::HybridHeadWithDirectLoss);
    refused!(&split(), &[("private_loss = \"direct\"", "")], StudyError::PrivateHeadWithDifferenceLoss);
}

#[test]
fn no_part_of_a_split_model_stays_untrained() {
    let message =
        refused!(&split(), &[("\"fusiondp\"", "\"dp-sgd\"")], StudyError::SplitPartUntrained { .. });
    assert!(message.contains("the tower"), "{message}");
    let message =
        refused!(&split(), &[("\"fusiondp\"", "\"non-private\"")], StudyError::SplitPartUntrained { .. });
    assert!(message.contains("the head"), "{message}");
    parse_edited(&split(), &[("\"fusiondp\"", "\"hybrid-only\"")]).unwrap();
}

#[test]
fn the_private_gradient_may_go_to_some_layers_or_to_adapters() {
    let with = |private: &str| format!("widths = [8]\nprivate = {private}");
    for private in ["{ layers = [\"L.0\"] }", "{ adapters = { rank = 1 }, layers = [\"L.1\", \"N.0\"] }"] {
        let study = parse_edited(MLP, &[("widths = [8]", &with(private))]).unwrap();
        assert!(!study.model.private_scope().is_whole());
        assert_eq!(Study::parse(&toml::to_string(&study).unwrap()).unwrap(), study);
    }
    let unknown = with("{ layers = [\"L.9\"] }");
    let message = refused!(MLP, &[("widths = [8]", &unknown)], StudyError::Model(_));
    assert!(message.contains("\"L.9\"") && message.contains("L.0, N.0, L.1"), "{message}");
    refused!(MLP, &[("widths = [8]", &with("{ layers = [] }"))], StudyError::Model(_));
    refused!(&split(), &[("widths = [8]", &with("{ layers = [\"L.0\"] }"))], StudyError::Syntax { .. });
    let (layers, dp_sgd) = (with("{ layers = [\"L.1\"] }"), ("\"fusiondp\"", "\"dp-sgd\""));
    let edits =
        [("widths = [8]", &layers[..]), dp_sgd, ("consistency_weight = 0.5", ""), ("warmup_rounds = 2", "")];
    refused!(MLP, &edits, StudyError::ScopePartUntrained { mode: Mode::DpSgd });
}

#[test]
fn a_projection_needs_public_gradients_before_the_first_private_round() {
    let with = |more: &str| format!("warmup_rounds = 2\n{more}");
    let two = with("private_directions = 2");
    let study = parse_edited(MLP, &[("warmup_rounds = 2", &two)]).unwrap();
    let encoder = fusiondp_learn::encode::Encoder::new(&study.schema, &study.model).unwrap();
    let model = Model::new(&study.model, encoder.input_shape()).unwrap();
    assert_eq!((study.private_values(&model), study.direction_values(&model)), (2, 2 * model.parameters()));
    let directions = |count: u32| with(&format!("private_directions = {count}"));
    refused!(
        MLP,
        &[("warmup_rounds = 2", &directions(3))],
        StudyError::DirectionsWarmup { directions: 3, warmup: 2 }
    );
    for count in [0, 257] {
        let message =
            parse_edited(MLP, &[("warmup_rounds = 2", &directions(count))]).unwrap_err().to_string();
        assert!(message.contains("fusion.private_directions"), "{message}");
    }
    let plain = ("consistency_weight = 0.5", "");
    let dp_sgd = ("\"fusiondp\"", "\"dp-sgd\"");
    refused!(
        MLP,
        &[("warmup_rounds = 2", &two), plain, dp_sgd],
        StudyError::DirectionsMode { mode: Mode::DpSgd }
    );
    refused!(&split(), &[("warmup_rounds = 2", &two)], StudyError::DirectionsNeed { .. });
    let local = [
        ("warmup_rounds = 2", &two[..]),
        ("expected_batch_size = 16", "expected_batch_size = 16\nlocal_steps = 3\nlocal_learning_rate = 0.1"),
    ];
    refused!(MLP, &local, StudyError::DirectionsNeed { .. });
}

#[test]
fn a_second_phase_of_private_gradients_alone_follows_a_public_one() {
    let phases = ("warmup_rounds = 2", "warmup_rounds = 2\npublic_rounds = \"warmup\"");
    let direct = ("consistency_weight = 0.5", "private_loss = \"direct\"");
    let redacted = ("kind = \"onnx\"", "kind = \"redacted\"");
    let study = parse_edited(MLP, &[phases, direct, redacted]).unwrap();
    assert!(study.fusion.has_public_part(false) && !study.fusion.has_public_part(true));
    assert!(!study.uses_imputer());
    study.validate_for_submission().unwrap();
    assert_eq!(Study::parse(&toml::to_string(&study).unwrap()).unwrap(), study);
    assert!(Study::parse(MLP).unwrap().fusion.has_public_part(true));
    refused!(MLP, &[phases], StudyError::PhaseLoss);
    refused!(
        MLP,
        &[("warmup_rounds = 2", "public_rounds = \"warmup\""), direct],
        StudyError::PhasesMissing { .. }
    );
    let head = [
        ("widths = [8]", "widths = [8]\nhead_gradient = \"hybrid-and-private\""),
        ("private_loss = \"direct\"", ""),
        redacted,
    ];
    refused!(&split(), &head, StudyError::RedactedHead);
}

#[test]
fn feature_dp_draws_declared_noise() {
    let mode = ("\"fusiondp\"", "\"feature-dp\"");
    refused!(MLP, &[mode], StudyError::DeclaredNoiseMissing { kind: "onnx" });
    parse_edited(MLP, &[mode, ("kind = \"onnx\"", "kind = \"declared-noise\"")]).unwrap();
}

#[test]
fn a_hybrid_view_needs_an_imputer() {
    refused!(MLP, &[("[imputer]\nkind = \"onnx\"", "")], StudyError::ImputerMissing { mode: Mode::FusionDp });
    parse_edited(&split(), &[("[imputer]\nkind = \"onnx\"", "")]).unwrap();
}

#[test]
fn calibrated_is_without_consistency() {
    let mode = ("\"fusiondp\"", "\"calibrated\"");
    refused!(MLP, &[mode], StudyError::CalibratedWithConsistency { .. });
    let plain = ("consistency_weight = 0.5", "");
    parse_edited(MLP, &[mode, plain]).unwrap();
    let direct = ("consistency_weight = 0.5", "private_loss = \"direct\"");
    refused!(MLP, &[mode, direct], StudyError::PrivateLossOfMode { mode: Mode::Calibrated, .. });
}

#[test]
fn naive_fusion_adds_the_gradient_of_the_true_view() {
    let edits = [("\"fusiondp\"", "\"naive-fusion\""), ("consistency_weight = 0.5", "")];
    let study = parse_edited(MLP, &edits).unwrap();
    assert_eq!(study.private_objective().loss, PrivateLoss::Direct);
    assert!(study.uses_imputer() && study.fusion.mode.has_public_part());
    let edits = [edits[0], ("consistency_weight = 0.5", "private_loss = \"difference\"")];
    refused!(MLP, &edits, StudyError::PrivateLossOfMode { mode: Mode::NaiveFusion, .. });
}

#[test]
fn the_direct_loss_knows_no_consistency() {
    let direct = ("consistency_weight = 0.5", "consistency_weight = 0.5\nprivate_loss = \"direct\"");
    refused!(MLP, &[direct], StudyError::DirectWithConsistency { .. });
    let dp_sgd = ("\"fusiondp\"", "\"dp-sgd\"");
    refused!(MLP, &[dp_sgd], StudyError::DirectWithConsistency { .. });
    let difference = ("consistency_weight = 0.5", "private_loss = \"difference\"");
    refused!(MLP, &[dp_sgd, difference], StudyError::PrivateLossOfMode { mode: Mode::DpSgd, .. });
}

#[test]
fn consistency_needs_a_hidden_layer_that_sees_sensitive_columns() {
    let edits = [
        ("widths = [8]", "widths = [8]\nhead_gradient = \"hybrid-and-private\""),
        ("private_loss = \"direct\"", "consistency_weight = 0.5"),
    ];
    refused!(&split(), &edits, StudyError::ConsistencyWithoutEffect { model: "split", .. });
    let linear = ("kind = \"mlp\"\nwidths = [8]", "kind = \"linear\"");
    refused!(MLP, &[linear], StudyError::ConsistencyWithoutEffect { model: "linear", .. });
    parse_edited(MLP, &[linear, ("consistency_weight = 0.5", "")]).unwrap();
}

#[test]
fn warm_up_leaves_private_rounds_and_has_something_to_do() {
    refused!(MLP, &[("warmup_rounds = 2", "warmup_rounds = 10")], StudyError::WarmupAboveRounds { .. });
    parse_edited(MLP, &[("warmup_rounds = 2", "warmup_rounds = 9")]).unwrap();
    let edits = [("\"fusiondp\"", "\"dp-sgd\""), ("consistency_weight = 0.5", "")];
    refused!(MLP, &edits, StudyError::WarmupWithoutPublicPart { warmup: 2 });
    parse_edited(MLP, &[edits[0], edits[1], ("warmup_rounds = 2", ""), ("public_batch_size = 32", "")])
        .unwrap();
}

#[test]
fn local_steps_need_a_rate_and_plain_averaging() {
    let steps = ("expected_batch_size = 16", "expected_batch_size = 16\nlocal_steps = 3");
    let rate = ("public_batch_size = 32", "public_batch_size = 32\nlocal_learning_rate = 0.1");
    refused!(MLP, &[steps], StudyError::LocalRateMissing { local_steps: 3 });
    refused!(MLP, &[rate], StudyError::LocalRateUnused);
    parse_edited(MLP, &[steps, rate]).unwrap();
    for optimizer in [
        "{ kind = \"adam\", learning_rate = 0.1 }",
        "{ kind = \"momentum\", learning_rate = 0.1, momentum = 0.9 }",
        "{ kind = \"sgd\", learning_rate = 0.1, weight_decay = 0.1 }",
    ] {
        let other = ("{ kind = \"sgd\", learning_rate = 0.1 }", optimizer);
        refused!(MLP, &[steps, rate, other], StudyError::AveragingOptimizer { field: "optimizer" });
    }
    let message =
        refused!(&split(), &[steps, rate], StudyError::AveragingOptimizer { field: "private_optimizer" });
    assert!(message.contains("private_optimizer = {"), "{message}");
}

#[test]
fn a_posterior_moves_the_head_of_a_split_model_in_place_of_an_optimizer() {
    let optimizer = "private_optimizer = { kind = \"momentum\", learning_rate = 1.0, momentum = 0.9 }";
    let posterior = "posterior = { curvature = 0.05, amplitude = 2.0, length = 4.0, memory = 0.3 }";
    let study = parse_edited(&split(), &[(optimizer, posterior)]).unwrap();
    let settings = study.server_settings();
    assert!(settings.private_optimizer.is_none());
    assert_eq!(settings.posterior.map(|spec| spec.amplitude), Some(2.0));

    let both = format!("{optimizer}\n{posterior}");
    refused!(&split(), &[(optimizer, &both)], StudyError::PosteriorAndOptimizer);
    let edits = [("[federation]", &format!("{posterior}\n[federation]") as &str)];
    refused!(MLP, &edits, StudyError::PrivateOptimizerUnused { field: "posterior" });
    let negative = posterior.replace("4.0", "-4.0");
    let message = refused!(&split(), &[(optimizer, &negative)], StudyError::Posterior { .. });
    assert!(message.contains("length is -4"), "{message}");
    let steps =
        ("expected_batch_size = 16", "expected_batch_size = 16\nlocal_steps = 3\nlocal_learning_rate = 0.1");
    let hybrid = ("widths = [8]", "widths = [8]\nhead_gradient = \"hybrid-and-private\"");
    for (edits, named) in [
        (vec![(optimizer, posterior), hybrid, ("private_loss = \"direct\"", "")], "private-only"),
        (
            vec![(optimizer, posterior), ("[privacy]", "calibration_weight = 2.0\n[privacy]")],
            "calibration_weight",
        ),
        (vec![(optimizer, posterior), steps], "local_steps"),
    ] {
        let message = refused!(&split(), &edits, StudyError::PosteriorNeeds { .. });
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn optimizers_and_averaging_stay_in_range() {
    let optimizer = "{ kind = \"sgd\", learning_rate = 0.1 }";
    refused!(MLP, &[(optimizer, "{ kind = \"sgd\", learning_rate = 0.0 }")], StudyError::Optimizer { .. });
    refused!(MLP, &[(optimizer, "{ kind = \"adam\", learning_rate = inf }")], StudyError::Optimizer { .. });
    for averaging in ["{ kind = \"ema\", decay = 1.0 }", "{ kind = \"tail\", from = -0.1 }"] {
        let edits = [("[federation]", &format!("averaging = {averaging}\n[federation]") as &str)];
        refused!(MLP, &edits, StudyError::Optimizer { field: "averaging", .. });
    }
    let edits = [("[federation]", "averaging = { kind = \"none\", decay = 0.9 }\n[federation]")];
    refused!(MLP, &edits, StudyError::Syntax { .. });
    let edits = [("[federation]", "schedule = \"exponential\"\n[federation]")];
    refused!(MLP, &edits, StudyError::Syntax { .. });
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    for (from, to, field) in [
        ("consistency_weight = 0.5", "consistency_weight = -0.5", "fusion.consistency_weight"),
        ("consistency_weight = 0.5", "calibration_weight = nan", "fusion.calibration_weight"),
        ("consistency_weight = 0.5", "representation_scale = 0.0", "fusion.representation_scale"),
        ("\nrounds = 10", "\nrounds = 0", "training.rounds"),
        ("\nrounds = 10", "\nrounds = 100001", "training.rounds"),
        ("expected_batch_size = 16", "expected_batch_size = 0", "training.expected_batch_size"),
        ("public_batch_size = 32", "", "training.public_batch_size"),
        (
            "public_batch_size = 32",
            "public_batch_size = 9\nmax_weight_norm = -1.0",
            "training.max_weight_norm",
        ),
        ("min_sites = 2", "min_sites = 0", "federation.min_sites"),
        ("min_sites = 2", "min_sites = 2\nround_timeout_s = 0", "federation.round_timeout_s"),
        ("min_sites = 2", "min_sites = 2\nmax_overlap = 0", "federation.max_overlap"),
        ("min_sites = 2", "min_sites = 2\nmax_round_attempts = 0", "federation.max_round_attempts"),
        ("name = \"small\"", "name = \" \"", "study.name"),
        ("name = \"small\"", "name = \"small \"", "study.name"),
        ("clip_norm = 1.0", "clip_norm = 1e-31", "privacy.clip_norm"),
        (TARGET, "target = { noise_multiplier = 0.0009 }", "privacy.target.noise_multiplier"),
        (TARGET, "target = { noise_multiplier = 1e7 }", "privacy.target.noise_multiplier"),
    ] {
        let message = refused!(MLP, &[(from, to)], StudyError::OutOfRange { .. });
        assert!(message.starts_with(field), "{message}");
    }
    let edits = [
        ("\nrounds = 10", "\nrounds = 100000"),
        ("expected_batch_size = 16", "expected_batch_size = 16\nlocal_steps = 11\nlocal_learning_rate = 0.1"),
    ];
    refused!(MLP, &edits, StudyError::TooManySteps { steps: 1_100_000 });
}

#[test]
fn named_sites_suffice_and_differ() {
    let sites = |list: &'static str| [("min_sites = 2", list)];
    let text = "min_sites = 2\nsites = [\"a\"]";
    refused!(MLP, &sites(text), StudyError::FewerSitesThanNeeded { listed: 1, needed: 2 });
    let text = "min_sites = 2\nsites = [\"a\", \"b\", \"a\"]";
    refused!(MLP, &sites(text), StudyError::DuplicateSite { .. });
    parse_edited(MLP, &sites("min_sites = 2\nsites = [\"a\", \"b\"]")).unwrap();
}

#[test]
fn released_metrics_have_a_cohort() {
    refused!(MLP, &[("final_cohort = \"test\"", "")], StudyError::CohortMissing);
    let curve = ("final_cohort = \"test\"", "final_cohort = \"test\"\nevery_rounds = 5");
    refused!(MLP, &[curve], StudyError::CurveCohortMissing { every_rounds: 5 });
    let none = "[evaluation]\nrelease = \"summary\"\nfinal_cohort = \"test\"";
    assert_eq!(parse_edited(MLP, &[(none, "")]).unwrap().evaluation, Evaluation::default());
}

#[test]
fn noisy_metrics_name_their_noise_and_their_intervals() {
    const SUMMARY: &str = "release = \"summary\"";
    let noisy = |fields: &str| format!("release = \"noisy\"\n{fields}");
    let whole = noisy("noise_multiplier = 5.0\nedges = [-2, 0, 1.5]");
    let study = parse_edited(MLP, &[(SUMMARY, &whole)]).unwrap();
    let asked = study.evaluation.noisy().unwrap();
    assert_eq!((asked.noise_multiplier.get(), asked.edges.cells()), (5.0, 8));
    assert_eq!(parse_edited(MLP, &[]).unwrap().evaluation.noisy(), None);
    let refused = |text: &str| parse_edited(MLP, &[(SUMMARY, text)]).unwrap_err().to_string();
    for (fields, parts) in [
        ("edges = [0]", &["without noise_multiplier"][..]),
        ("noise_multiplier = 5.0", &["without edges"]),
        ("noise_multiplier = 0.0001\nedges = [0]", &["evaluation.noise_multiplier", "0.0001"]),
        ("noise_multiplier = 5000\nedges = [0]", &["evaluation.noise_multiplier", "4096"]),
        ("noise_multiplier = 5\nedges = []", &["evaluation.edges", "1 to 63"]),
        ("noise_multiplier = 5\nedges = [0, 0]", &["evaluation.edges", "above the one before"]),
        ("noise_multiplier = 5\nedges = [1, 0]", &["evaluation.edges", "above the one before"]),
        ("noise_multiplier = 5\nedges = [0, inf]", &["evaluation.edges", "finite"]),
        ("noise_multiplier = 5\nedges = [nan]", &["evaluation.edges", "finite"]),
    ] {
        let error = refused(&noisy(fields));
        assert!(parts.iter().all(|part| error.contains(part)), "{fields}: {error}");
    }
    for field in ["noise_multiplier = 5.0", "edges = [0]"] {
        let error = refused(&format!("{SUMMARY}\n{field}"));
        assert!(error.contains("needs release = \"noisy\""), "{field}: {error}");
    }
    let homeless = [(SUMMARY, &*whole), ("final_cohort = \"test\"", "")];
    assert!(matches!(parse_edited(MLP, &homeless), Err(StudyError::CohortMissing)));
}

#[test]
fn every_logit_has_a_cell() {
    let edges = ScoreEdges::try_from(vec![-1.0, 0.0, 2.0]).unwrap();
    let intervals = [(-9.0, 0), (-1.0, 1), (-0.5, 1), (0.0, 2), (2.0, 3), (f32::INFINITY, 3), (f32::NAN, 0)];
    for (logit, interval) in intervals {
        assert_eq!(edges.cell(logit, false), interval, "{logit}");
        assert_eq!(edges.cell(logit, true), 4 + interval, "{logit}");
    }
    assert!(ScoreEdges::try_from((0..64).map(f64::from).collect::<Vec<_>>()).is_err());
    assert!(ScoreEdges::try_from((0..63).map(f64::from).collect::<Vec<_>>()).is_ok());
}

#[test]
fn evaluations_are_counted_ahead() {
    let evaluations = |text: &str| {
        parse_edited(MLP, &[("final_cohort = \"test\"", text)]).unwrap().evaluation.evaluations(10)
    };
    assert_eq!(evaluations("final_cohort = \"test\""), 1);
    // After rounds 3, 6 and 9, and both cohorts at the end.
    assert_eq!(evaluations("final_cohort = \"test\"\nduring = \"val\"\nevery_rounds = 3"), 5);
    // The end is the round that would be due.
    assert_eq!(evaluations("final_cohort = \"test\"\nduring = \"test\"\nevery_rounds = 5"), 2);
    assert_eq!(evaluations("during = \"val\""), 1);
}

#[test]
fn unprotected_training_is_not_submitted() {
    let edits = [("\"fusiondp\"", "\"non-private\""), ("kind = \"onnx\"", PINNED)];
    let study = parse_edited(MLP, &edits).unwrap();
    assert!(matches!(study.validate_for_submission(), Err(StudyError::NonPrivateSubmitted)));
}

#[test]
fn modes_say_what_they_compute() {
    for mode in Mode::ALL {
        let name = mode.as_str();
        assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{name}\""));
        assert!(mode.has_public_part() || mode.has_private_part(), "{name}");
    }
    let study = parse_edited(MLP, &[("\"fusiondp\"", "\"hybrid-only\"")]).unwrap();
    assert_eq!(study.warmup_rounds(), study.training.rounds);
}

#[test]
fn a_document_is_its_bytes() {
    let document = StudyDocument::from_bytes(MLP.as_bytes()).unwrap();
    assert_eq!(document.text(), MLP);
    assert_eq!(document.digest(), fusiondp_dp::Digest::of(MLP.as_bytes()));
    assert!(document.id().as_str().starts_with("small-"));
    let commented = StudyDocument::from_bytes(format!("{MLP}# a comment\n").as_bytes()).unwrap();
    assert_eq!(commented.study(), document.study());
    assert_ne!(commented.id(), document.id());
}

#[test]
fn documents_that_are_no_text_or_too_long_are_refused() {
    assert!(matches!(StudyDocument::from_bytes(b"\xff"), Err(StudyError::NotUtf8 { .. })));
    let long = format!("{MLP}#{}", " ".repeat(MAX_STUDY_BYTES));
    assert!(matches!(StudyDocument::from_bytes(long.as_bytes()), Err(StudyError::TooLong { .. })));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\PC\n]{0,200}") {
        proptest::prop_assert!(Study::parse(&text).is_err());
    }

    #[test]
    fn no_cut_document_makes_the_reader_panic(cut in 0..MLP.len()) {
        // The document ends in its one mandatory list, so no proper prefix but the missing last newline is a study.
        proptest::prop_assert!(Study::parse(&MLP[..cut]).is_err() || cut == MLP.len() - 1);
    }
}

#[test]
fn whole_records_are_protected_where_nothing_is_computed_from_them_in_the_clear() {
    let of = |edits: &[(&str, &str)]| parse_edited(MLP, edits).unwrap().protects();
    assert_eq!(of(&[]), Protection::SensitiveValues);
    assert_eq!(of(RECORDS), Protection::WholeRecords);
    let dp_sgd = [
        ("\"fusiondp\"", "\"dp-sgd\""),
        ("kind = \"onnx\"", "kind = \"none\""),
        ("consistency_weight = 0.5\nwarmup_rounds = 2\n", ""),
        ("public_batch_size = 32\n", ""),
    ];
    assert_eq!(of(&dp_sgd), Protection::SensitiveValues, "metrics leave in the clear");
    assert_eq!(of(&[&dp_sgd[..], &RECORDS[2..]].concat()), Protection::WholeRecords);
}

#[test]
fn a_second_tier_that_protects_nothing_is_refused_by_name() {
    let records = |edits: &[(&'static str, &'static str)]| [RECORDS, edits].concat();
    let named = |edits: &[(&str, &str)], named: &str| {
        let said = refused!(MLP, edits, StudyError::Records { .. });
        assert!(said.contains(named), "{named}: {said}");
    };
    named(&[RECORDS[0], RECORDS[1]], "metrics in the clear");
    named(&[RECORDS[1], RECORDS[2]], "public_batch_size");
    named(&records(&[("\"fusiondp\"", "\"non-private\"")]), "true values");
    let averaged = ("[federation]", "local_steps = 2\nlocal_learning_rate = 0.1\n[federation]");
    named(&records(&[averaged]), "local_steps = 1");
    let split = edit(&split(), "kind = \"split\"", "kind = \"split\"\nmembers = 2");
    let said = parse_edited(&split, RECORDS).unwrap_err().to_string();
    assert!(said.contains("members = 1"), "{said}");
    let out_of_range = [
        ("expected_batch_size = 24", "expected_batch_size = 0"),
        ("clip_norm = 0.5", "clip_norm = 1e31"),
        ("{ epsilon = 4.0, relation = \"replace\" }", "{ noise_multiplier = 5000.0 }"),
    ];
    for edit in out_of_range {
        let said = refused!(MLP, &records(&[edit]), StudyError::OutOfRange { .. });
        assert!(said.contains("privacy.records"), "{said}");
    }
}
