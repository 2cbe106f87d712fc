//! What a study may say of a model, and what its parameters look like.
#![allow(clippy::unwrap_used)]

mod engine_support;

use std::collections::BTreeMap;

use engine_support::*;
use fusiondp_learn::model::{
    AdapterSpec, Directions, FactorGroup, HeadFeature, HeadGradient, InputShape, Model, ModelError,
    ModelSpec, PrivateObjective, PrivateScope, Tensor, Workspace,
};
use fusiondp_learn::network::{DropoutSeed, NetworkError};

#[test]
fn a_spec_reads_from_a_study_file_with_its_defaults() {
    let spec: ModelSpec = toml::from_str("kind = \"split\"\nwidths = [128, 128]\ndropout = 0.4").unwrap();
    let expected = ModelSpec::Split {
        widths: vec![128, 128],
        layer_norm: true,
        dropout: 0.4,
        members: 1,
        head_gradient: HeadGradient::PrivateOnly,
        head: BTreeMap::new(),
    };
    assert_eq!(spec, expected);
    let spec: ModelSpec = toml::from_str("kind = \"linear\"").unwrap();
    assert_eq!(spec, ModelSpec::Linear {});
    assert!(toml::from_str::<ModelSpec>("kind = \"mlp\"\nwidths = [4]\nheads = 2").is_err());
}

#[test]
fn a_split_model_keeps_its_head_behind_its_tower() {
    let (_, model) = models().swap_remove(4);
    let names: Vec<&str> = model.layout().iter().map(Tensor::name).collect();
    assert_eq!(names[..2], ["tower.L.0.weight", "tower.L.0.bias"]);
    assert_eq!(names[names.len() - 3..], ["head.0", "head.1", "head.2"]);
    let head = model.head_range();
    assert_eq!(model.private_range().runs(), std::slice::from_ref(&head));
    assert_eq!(head.len(), 9);
    assert_eq!(model.public_range(), 0..head.start);
    assert_eq!(head.end, model.parameters());
    assert_eq!(model.layout().get("head.1").unwrap().range(), head.start + 3..head.start + 5);
    let (_, hybrid) = models().swap_remove(5);
    assert_eq!(hybrid.public_range(), 0..hybrid.parameters());
    assert!(model.initialise::<f32>(5)[head].iter().all(|&weight| weight == 0.0));
}

#[test]
fn a_tower_of_several_networks_is_their_mean() {
    let (_, model) = models().swap_remove(6);
    let names: Vec<&str> = model.layout().iter().map(Tensor::name).collect();
    let start = |member: usize| {
        let first = format!("tower.{member}.L.0.weight");
        model.layout().get(&first).unwrap().range().start
    };
    assert!(names.contains(&"tower.2.L.2.bias") && !names.iter().any(|name| name.starts_with("tower.3")));
    let (_, single) = models().swap_remove(4);
    let length = single.private_range().runs()[0].start;
    assert_eq!(
        (start(0), start(1), start(2), model.private_range().runs()[0].start),
        (0, length, 2 * length, 3 * length)
    );

    let initial: Vec<f64> = model.initialise(9);
    assert_eq!(initial[..length], single.initialise::<f64>(9)[..length]);
    assert_ne!(initial[..length], initial[length..2 * length]);

    let (params, view) = (parameters::<f64>(&model, 2), view(&model, 300, 3));
    let mut workspace = Workspace::default();
    let head = &model.private_range().gather(&params)[..];
    let mut of = |member: usize| {
        let params = [&params[start(member)..start(member) + length], head].concat();
        single.logits(&params, &view, &mut workspace).unwrap()
    };
    let members = [of(0), of(1), of(2)];
    let logits = model.logits(&params, &view, &mut Workspace::default()).unwrap();
    for (row, logit) in logits.iter().enumerate() {
        let mean = members.iter().map(|logits| logits[row]).sum::<f64>() / 3.0;
        assert!((logit - mean).abs() < 1e-12, "row {row}: {logit} is not {mean}");
    }
}

#[test]
fn head_parameters_times_weights_add_to_the_towers_logit() {
    let (_, model) = models().swap_remove(4);
    let params: Vec<f64> = parameters(&model, 2);
    let view = view(&model, 10, 3);
    let head = model.head_range();
    let mut without = params.clone();
    without[head.clone()].fill(0.0);
    let mut workspace = Workspace::default();
    let with = model.logits(&params, &view, &mut workspace).unwrap();
    let tower = model.logits(&without, &view, &mut workspace).unwrap();
    for row in 0..10 {
        let offsets = [0, 3, 5];
        let weights = [1.0, 0.5, 1.5];
        let parameter = |j: usize| params[head.start + offsets[j] + usize::from(view.bins[[row, j]])];
        let added: f64 = (0..3).map(|j| weights[j] * parameter(j)).sum();
        assert!((with[row] - tower[row] - added).abs() < 1e-14);
    }
}

#[test]
fn the_sepsis_network_has_its_known_size() {
    let spec = ModelSpec::mlp([64, 128, 64], true, 0.0);
    let model = Model::new(&spec, InputShape { dense: 36, bins: vec![] }).unwrap();
    assert_eq!(model.parameters(), 36 * 64 + 64 * 128 + 128 * 64 + 64 + 3 * (64 + 128 + 64) + 1);
    assert_eq!(model.hidden_width(), 64);
}

#[test]
fn initial_parameters_are_pinned() {
    // A change here changes every study's starting point: these bits must be the same on every platform.
    let spec = ModelSpec::mlp([3], true, 0.0);
    let model = Model::new(&spec, InputShape { dense: 2, bins: vec![] }).unwrap();
    let bits: Vec<u32> = model.initialise::<f32>(42)[..4].iter().map(|p| p.to_bits()).collect();
    assert_eq!(bits, PINNED);
}

const PINNED: [u32; 4] = [1_048_818_936, 1_059_259_489, 3_184_652_119, 1_043_886_095];

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let build = |spec: &ModelSpec, dense, bins: &[usize]| {
        Model::new(spec, InputShape { dense, bins: bins.iter().copied().map(HeadFeature::new).collect() })
            .unwrap_err()
    };
    let mlp = |dropout| ModelSpec::mlp([4], true, dropout);
    let split = ModelSpec::Split {
        widths: vec![4],
        layer_norm: true,
        dropout: 0.0,
        members: 1,
        head_gradient: HeadGradient::PrivateOnly,
        head: BTreeMap::new(),
    };
    assert!(matches!(build(&mlp(0.0), 0, &[]), ModelError::Network(NetworkError::ZeroWidth { .. })));
    assert!(matches!(build(&mlp(1.0), 2, &[]), ModelError::Network(NetworkError::DropoutRate { .. })));
    assert_eq!(build(&mlp(0.0), 2, &[3]), ModelError::UnexpectedBins { kind: "mlp", features: 1 });
    assert_eq!(build(&split, 2, &[]), ModelError::NoSensitiveFeature);
    assert_eq!(build(&split, 2, &[3, 0]), ModelError::BinCount { feature: 1, bins: 0 });
    for members in [0, 65] {
        let text = format!("kind = \"split\"\nwidths = [4]\nmembers = {members}");
        let error = build(&toml::from_str(&text).unwrap(), 2, &[3]);
        assert_eq!(error, ModelError::Members { members, largest: 64 });
    }
}

fn scoped(private: &str) -> Result<Model, ModelError> {
    let text = format!("kind = \"mlp\"\nwidths = [7, 6]\nprivate = {private}");
    Model::new(&toml::from_str(&text).unwrap(), InputShape { dense: 5, bins: vec![] })
}

#[test]
fn private_layers_are_the_ones_named() {
    let model = scoped("{ layers = [\"N.1\", \"L.1\", \"L.2\"] }").unwrap();
    let of = |name: &str| model.layout().get(name).unwrap().range();
    let expected = of("L.1.weight").start..of("L.2.bias").end;
    assert!(model.private_range().iter().eq(expected));
    assert_eq!(model.public_range(), 0..model.parameters());
    let gaps = scoped("{ layers = [\"L.0\", \"L.2\"] }").unwrap();
    assert_eq!(
        gaps.private_range().runs(),
        [0..of("L.0.bias").end, of("L.2.weight").start..of("L.2.bias").end]
    );
}

#[test]
fn adapters_lie_behind_the_network_and_start_without_effect() {
    let plain =
        Model::new(&ModelSpec::mlp([7, 6], true, 0.0), InputShape { dense: 5, bins: vec![] }).unwrap();
    let model = scoped("{ adapters = { rank = 2 } }").unwrap();
    let shapes: Vec<_> = model.layout().iter().skip(plain.layout().iter().count()).collect();
    let expected = [("A.0.up", [7, 2]), ("A.0.down", [2, 5]), ("A.1.up", [6, 2]), ("A.1.down", [2, 7])];
    assert!(shapes.iter().map(|t| (t.name(), t.shape())).eq(expected.iter().map(|(n, s)| (*n, &s[..]))));
    assert!(model.private_range().iter().eq(plain.parameters()..model.parameters()));

    let (params, bare): (Vec<f64>, Vec<f64>) = (model.initialise(3), plain.initialise(3));
    assert_eq!(params[..plain.parameters()], bare);
    let down = model.layout().get("A.1.down").unwrap().range();
    assert!(params[down].iter().all(|&b| b != 0.0 && b.abs() <= 1.0 / 7.0_f64.sqrt()));
    let (view, mut workspace) = (view(&plain, 20, 3), Workspace::default());
    let with = model.logits(&params, &view, &mut workspace).unwrap();
    assert_eq!(with, plain.logits(&bare, &view, &mut workspace).unwrap());
}

#[test]
fn an_adapter_adds_its_scaled_product_to_the_weight() {
    let scope = PrivateScope { layers: None, adapters: Some(AdapterSpec { rank: 1, scale: 3.0 }) };
    let spec = ModelSpec::Mlp { widths: vec![2], layer_norm: false, dropout: 0.0, private: scope };
    let model = Model::new(&spec, InputShape { dense: 2, bins: vec![] }).unwrap();
    let plain = Model::new(&ModelSpec::mlp([2], false, 0.0), InputShape { dense: 2, bins: vec![] }).unwrap();
    let network = [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 1.0, -1.0, 0.5];
    let params = [&network[..], &[1.0, -1.0], &[2.0, 5.0]].concat();
    let folded = [7.0, 17.0, -3.0, -11.0, 0.1, 0.2, 1.0, -1.0, 0.5];
    let (view, mut workspace) = (view::<f64>(&plain, 6, 3), Workspace::default());
    let found = model.logits(&params, &view, &mut workspace).unwrap();
    assert_eq!(found, plain.logits(&folded, &view, &mut workspace).unwrap());
}

#[test]
fn scopes_that_do_not_fit_are_refused_by_name() {
    let refused = |private: &str| scoped(private).unwrap_err().to_string();
    let known = "L.0, N.0, L.1, N.1, L.2";
    for (private, said) in [
        ("{ layers = [\"L.3\"] }", known),
        ("{ layers = [\"L.0.weight\"] }", known),
        ("{ layers = [\"L.0\", \"L.0\"] }", "\"L.0\" twice"),
        ("{ layers = [] }", "private.layers is empty"),
        ("{ adapters = { rank = 0 } }", "L.0 needs one of at least 1 and below 5"),
        ("{ adapters = { rank = 5 } }", "L.0 needs one of at least 1 and below 5"),
        ("{ layers = [\"L.0\"], adapters = { rank = 6 } }", "L.1 needs one of at least 1 and below 6"),
        ("{ layers = [\"L.0\", \"L.1\"], adapters = { rank = 1 } }", "private.adapters fits no layer"),
        ("{ adapters = { rank = 1, scale = 0.0 } }", "private.adapters.scale is 0"),
    ] {
        assert!(refused(private).contains(said), "{private}: {}", refused(private));
    }
}

/// Everything that a site computes with a workspace, in one line of bits.
fn passes(model: &Model, objective: &PrivateObjective, workspace: &mut Workspace<f32>) -> Vec<u32> {
    let (params, view) = (parameters::<f32>(model, 2), view(model, 300, 3));
    let (labels, batch) = (labels::<f32>(300, 5), batch::<f32>(model, &[1, 5, 2, 9], 4));
    let mut bits: Vec<u32> = Vec::new();
    let mut keep = |values: &[f32]| bits.extend(values.iter().map(|value| value.to_bits()));
    let mut public = vec![0.0; model.public_range().len()];
    let loss =
        model.public_gradient(&params, &view, &labels, Some(DropoutSeed(8)), &mut public, workspace).unwrap();
    keep(&public);
    keep(&[loss as f32]);
    keep(&model.logits(&params, &view, workspace).unwrap());
    let add = |_: usize, gradient: &[f32]| keep(gradient);
    model.private_gradients(&params, &batch, objective, 0.5, workspace, add).unwrap();
    let add = |group: &FactorGroup<'_, f32>| {
        keep(group.dense());
        keep(group.clip_factors());
        group.factors().for_each(|factor| {
            keep(factor.left);
            keep(factor.right);
        });
    };
    model.private_factors(&params, &batch, objective, 0.5, workspace, add).unwrap();
    let length = model.private_range().len();
    let directions: Vec<f32> = (0..3 * length).map(|i| (i % 7) as f32 - 3.0).collect();
    let directions = Directions::new(&directions, 3);
    let add = |_: usize, coefficients: &[f32]| keep(coefficients);
    model.private_coefficients(&params, &batch, objective, directions, 0.5, workspace, add).unwrap();
    bits
}

/// Buffers outlive a model: whoever used them before, larger or smaller, leaves nothing behind that counts.
#[test]
fn a_workspace_that_other_models_have_used_gives_the_same_bits() {
    let models = models();
    let mut used = Workspace::default();
    for (objective_name, objective) in objectives() {
        for (name, model) in models.iter().chain(models.iter().rev()) {
            let found = passes(model, &objective, &mut used);
            let fresh = passes(model, &objective, &mut Workspace::default());
            assert!(found == fresh, "{name}, {objective_name}");
        }
    }
}
