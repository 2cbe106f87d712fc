#![allow(clippy::unwrap_used)]

use ndarray::{Array2, ArrayView2};

use super::*;

/// Deterministic values in [-1, 1].
fn values(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-52) - 1.0).collect()
}

fn input(seed: u64, rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_vec((rows, columns), values(seed, rows * columns)).unwrap()
}

/// A parameter vector away from the special values of the initialization.
fn parameters(network: &Mlp) -> Vec<f64> {
    let mut params = vec![0.0; network.parameters()];
    network.initialise(1, &mut params);
    for (p, v) in params.iter_mut().zip(values(2, network.parameters())) {
        *p += 0.3 * v;
    }
    params
}

/// A loss with cross terms between outputs: sum over rows of (w . output)^2 / 2.
fn loss(network: &Mlp, params: &[f64], input: ArrayView2<'_, f64>, dropout: Option<Dropout>) -> f64 {
    let mut tape = Tape::default();
    let output = network.forward(params, input, dropout, &mut tape).unwrap();
    output.rows().into_iter().map(|row| mix(row.as_slice().unwrap()).powi(2) / 2.0).sum()
}

fn mix(row: &[f64]) -> f64 {
    row.iter().enumerate().map(|(o, y)| y * (1.0 + 0.5 * o as f64)).sum()
}

fn check_finite_differences(network: &Mlp, dropout: Option<Dropout>) {
    let params = parameters(network);
    let input = input(5, 7, network.inputs());
    let mut tape = Tape::default();
    let output = network.forward(&params, input.view(), dropout, &mut tape).unwrap();
    let d_output = Array2::from_shape_fn(output.dim(), |(r, o)| {
        mix(output.row(r).as_slice().unwrap()) * (1.0 + 0.5 * o as f64)
    });
    let mut gradient = vec![0.0; network.parameters()];
    network.backward(&params, input.view(), d_output.view(), &mut tape, &mut gradient).unwrap();

    let largest = gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
    for (index, &expected) in gradient.iter().enumerate() {
        let h = 1e-5;
        let moved = |step: f64| {
            let mut params = params.clone();
            params[index] += step;
            loss(network, &params, input.view(), dropout)
        };
        let numeric = (moved(h) - moved(-h)) / (2.0 * h);
        assert!(
            (numeric - expected).abs() < 2e-8 * largest,
            "coordinate {index}: {numeric} against {expected}"
        );
    }
}

#[test]
fn gradient_matches_finite_differences() {
    for normalization in [Normalization::Layer, Normalization::None] {
        for widths in [&[][..], &[5], &[6, 4, 5]] {
            for outputs in [1, 3] {
                check_finite_differences(&Mlp::new(4, widths, outputs, normalization).unwrap(), None);
            }
        }
    }
}

#[test]
fn gradient_with_a_fixed_dropout_mask_matches_finite_differences() {
    let dropout = Dropout::new(0.4, DropoutSeed(11)).unwrap();
    for normalization in [Normalization::Layer, Normalization::None] {
        check_finite_differences(&Mlp::new(4, &[6, 5], 2, normalization).unwrap(), Some(dropout));
    }
}

#[test]
fn backward_adds_to_the_gradient() {
    let network = Mlp::new(3, &[4], 2, Normalization::Layer).unwrap();
    let params = parameters(&network);
    let input = input(8, 5, 3);
    let d_output = Array2::from_elem((5, 2), 0.3);
    let run = |gradient: &mut [f64]| {
        let mut tape = Tape::default();
        network.forward(&params, input.view(), None, &mut tape).unwrap();
        network.backward(&params, input.view(), d_output.view(), &mut tape, gradient).unwrap();
    };
    let mut once = vec![0.0; network.parameters()];
    run(&mut once);
    let mut twice = once.clone();
    run(&mut twice);
    for (a, b) in once.iter().zip(&twice) {
        assert!((2.0 * a - b).abs() < 1e-12);
    }
}

#[test]
fn single_precision_follows_double_precision() {
    let network = Mlp::new(6, &[16, 12], 2, Normalization::Layer).unwrap();
    let params = parameters(&network);
    let input = input(3, 9, 6);
    let (mut wide, mut narrow) = (Tape::default(), Tape::default());
    let expected = network.forward(&params, input.view(), None, &mut wide).unwrap();
    let params: Vec<f32> = params.iter().map(|&p| p as f32).collect();
    let input = input.mapv(|x| x as f32);
    let output = network.forward(&params, input.view(), None, &mut narrow).unwrap();
    for (a, b) in output.iter().zip(expected) {
        assert!((f64::from(*a) - b).abs() < 2e-6, "{a} against {b}");
    }
}

#[test]
fn layout_names_every_tensor_in_order_without_gaps() {
    let network = Mlp::new(36, &[64, 128, 64], 1, Normalization::Layer).unwrap();
    let names: Vec<&str> = network.layout().iter().map(Tensor::name).collect();
    assert_eq!(names[..6], ["L.0.weight", "L.0.bias", "N.0.weight", "N.0.bias", "L.1.weight", "L.1.bias"]);
    assert_eq!(names[names.len() - 2..], ["L.3.weight", "L.3.bias"]);
    let mut end = 0;
    for tensor in network.layout() {
        assert_eq!(tensor.range().start, end);
        assert_eq!(tensor.range().len(), tensor.shape().iter().product::<usize>());
        end = tensor.range().end;
    }
    assert_eq!(end, network.parameters());
    assert_eq!(network.layout().get("L.1.weight").unwrap().shape(), [128, 64]);
}

#[test]
fn initial_values_follow_from_the_seed_alone() {
    let network = Mlp::new(3, &[4], 1, Normalization::Layer).unwrap();
    let fill = |seed| {
        let mut params = vec![f64::NAN; network.parameters()];
        network.initialise(seed, &mut params);
        params
    };
    assert_eq!(fill(7), fill(7));
    assert_ne!(fill(7), fill(8));
    let params = fill(7);
    let gain = network.layout().get("N.0.weight").unwrap().range();
    assert!(params[gain.clone()].iter().all(|&g| g == 1.0));
    assert!(params[gain.end..gain.end + 4].iter().all(|&s| s == 0.0));
    assert!(params[..16].iter().all(|w| w.abs() <= 1.0 / 3.0_f64.sqrt()));
}

#[test]
fn refuses_what_does_not_fit() {
    assert_eq!(
        Mlp::new(3, &[4, 0], 1, Normalization::None).unwrap_err(),
        NetworkError::ZeroWidth { what: "hidden layer" }
    );
    assert!(matches!(Mlp::new(usize::MAX, &[4], 1, Normalization::None), Err(NetworkError::TooLarge { .. })));
    let network = Mlp::new(3, &[4], 1, Normalization::None).unwrap();
    let params = parameters(&network);
    let mut tape = Tape::default();
    let wide = input(1, 2, 4);
    let error = network.forward(&params, wide.view(), None, &mut tape).unwrap_err();
    assert_eq!(error.to_string(), "input has 4 columns, the network needs 3");
    let transposed = input(1, 3, 2);
    let error = network.forward(&params, transposed.t(), None, &mut tape).unwrap_err();
    assert!(matches!(error, NetworkError::Strided { what: "input" }));
    assert!(network.forward(&params[1..], input(1, 2, 3).view(), None, &mut tape).is_err());
}

#[test]
fn an_empty_batch_gives_an_empty_output_and_no_gradient() {
    let network = Mlp::new(3, &[4], 1, Normalization::Layer).unwrap();
    let params = parameters(&network);
    let empty = Array2::zeros((0, 3));
    let mut tape = Tape::default();
    assert_eq!(network.forward(&params, empty.view(), None, &mut tape).unwrap().dim(), (0, 1));
    let mut gradient = vec![0.0; network.parameters()];
    let d_output = Array2::zeros((0, 1));
    network.backward(&params, empty.view(), d_output.view(), &mut tape, &mut gradient).unwrap();
    assert!(gradient.iter().all(|&g| g == 0.0));
}
