#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::params::ClipNorm;
use crate::random::SecureRng;
use crate::step::shape::Factor;

/// Factors of one linear block for all rows: left, right, constant.
type Owned = (Vec<f32>, Vec<f32>, bool);

/// A group that owns its values.
#[derive(Debug, Clone)]
struct Group {
    blocks: Vec<Block>,
    offsets: Vec<usize>,
    clip_factors: Vec<f32>,
    linear: Vec<Vec<Owned>>,
    dense: Vec<f32>,
}

impl Group {
    fn shape(&self) -> ContributionShape {
        ContributionShape::new(self.blocks.clone())
    }

    fn lend<T>(&self, use_it: impl FnOnce(&UnitGroup<'_>) -> T) -> T {
        let factors: Vec<Vec<Factor<'_>>> = self
            .linear
            .iter()
            .map(|block| {
                block
                    .iter()
                    .map(|(left, right, constant)| Factor { left, right, constant: *constant })
                    .collect()
            })
            .collect();
        let linear: Vec<&[Factor<'_>]> = factors.iter().map(Vec::as_slice).collect();
        use_it(&UnitGroup {
            offsets: &self.offsets,
            clip_factors: &self.clip_factors,
            linear: &linear,
            dense: &self.dense,
        })
    }

    fn units(&self) -> usize {
        self.clip_factors.len()
    }

    /// The units at these positions.
    fn pick(&self, units: &[usize]) -> Self {
        let shape = self.shape();
        let rows: Vec<usize> =
            units.iter().flat_map(|&unit| self.offsets[unit]..self.offsets[unit + 1]).collect();
        let take = |values: &[f32], indices: &[usize], width: usize| -> Vec<f32> {
            indices.iter().flat_map(|&i| values[i * width..][..width].to_vec()).collect()
        };
        let mut offsets = vec![0];
        for &unit in units {
            offsets.push(offsets.last().unwrap() + self.offsets[unit + 1] - self.offsets[unit]);
        }
        let linear = self.linear.iter().zip(shape.linear()).map(|(block, (outputs, inputs))| {
            let picked = block.iter().map(|(left, right, constant)| {
                (take(left, &rows, outputs), take(right, &rows, inputs), *constant)
            });
            picked.collect()
        });
        Self {
            linear: linear.collect(),
            offsets,
            clip_factors: units.iter().map(|&unit| self.clip_factors[unit]).collect(),
            dense: take(&self.dense, units, shape.dense()),
            blocks: self.blocks.clone(),
        }
    }
}

fn grid(clip: f64) -> Grid {
    Grid::for_clip_norm(ClipNorm::new(clip).unwrap())
}

/// Sum of the groups, one after the other.
fn sum_of(clip: f64, groups: &[Group]) -> Vec<i64> {
    let mut sum = FactoredSum::new(groups[0].shape(), grid(clip));
    for group in groups {
        group.lend(|group| {
            group.check(&sum.shape().clone()).unwrap();
            sum.add(group);
        });
    }
    sum.finish()
}

/// A row's integers by the definition, one operation at a time; `None`: outside. The last entry of the right side is the
/// constant.
fn row_integers(
    left: &[f32],
    right: &[f32],
    constant: bool,
    steps: f64,
) -> Option<Vec<(Vec<i128>, Vec<i128>)>> {
    let mut rows = LinearRows::new(left.len(), right.len());
    if rows.push(left, right, constant, steps) == Rounded::Outside {
        return None;
    }
    Some(rows.integers())
}

/// What one unit adds, in 128 bits; the zero vector if it is outside the ball.
fn written_out(clip: f64, group: &Group, unit: usize) -> Vec<i128> {
    let zero = vec![0; group.shape().dimension()];
    let records = group.offsets[unit + 1] - group.offsets[unit];
    let finer = if records < 64 { 0 } else { (records as f64 / 64.0).log2().floor() as i32 + 1 };
    let vector = rounded(clip, group, unit, finer).or_else(|| rounded(clip, group, unit, 0));
    let Some(mut vector) = vector else { return zero };
    let squares = squared_norm(&vector);
    if squares > 1 << 56 && squares <= 1 << 58 && records > 1 {
        shrink(&mut vector, squares);
    }
    if squared_norm(&vector) > 1 << 56 { zero } else { vector }
}

/// One unit's vector, its left sides on a grid finer by `finer` bits.
fn rounded(clip: f64, group: &Group, unit: usize, finer: i32) -> Option<Vec<i128>> {
    let factor = group.clip_factors[unit];
    if !(factor.is_finite() && factor > 0.0) {
        return None;
    }
    let mut vector = Vec::new();
    let mut linear = group.linear.iter();
    let mut dense = group.dense[unit * group.shape().dense()..].iter();
    for block in &group.blocks {
        match *block {
            Block::Dense { length } => {
                for value in dense.by_ref().take(length) {
                    let steps = f64::from(value * ((1_048_576.0 / clip) as f32 * factor));
                    if steps.is_nan() || steps.abs() > 1_048_576.0 {
                        return None;
                    }
                    vector.push(steps.round_ties_even() as i128 * 256);
                }
            }
            Block::Linear { outputs, inputs } | Block::Matrix { outputs, inputs } => {
                let bias = matches!(block, Block::Linear { .. });
                let mut weight = vec![0; outputs * (inputs + usize::from(bias))];
                let factors = linear.next().unwrap();
                for row in group.offsets[unit]..group.offsets[unit + 1] {
                    for (left, right, constant) in factors {
                        let steps = f64::from(factor) * (268_435_456.0 / clip) * 2.0_f64.powi(finer);
                        let (left, right) =
                            (&left[row * outputs..][..outputs], &right[row * inputs..][..inputs]);
                        for (left, right) in row_integers(left, right, *constant, steps)? {
                            for i in 0..outputs {
                                for j in 0..inputs {
                                    weight[i * inputs + j] += left[i] * right[j];
                                }
                                if bias {
                                    weight[outputs * inputs + i] += left[i] * right[inputs];
                                }
                            }
                        }
                    }
                }
                vector.extend(weight.into_iter().map(|value: i128| value / (1 << finer)));
            }
        }
    }
    Some(vector)
}

/// Multiplies by `floor(2^60 / s) / 2^32`, s being the least integer whose square is at least `squares`.
fn shrink(vector: &mut [i128], squares: i128) {
    let floor = (squares as f64).sqrt() as i128;
    let length = (floor - 2..).find(|length| length * length >= squares).unwrap();
    let factor = (1 << 60) / length;
    for value in vector {
        *value = value.signum() * ((value.abs() * factor) >> 32);
    }
}

fn squared_norm(vector: &[i128]) -> i128 {
    vector.iter().map(|v| v * v).sum()
}

fn value() -> BoxedStrategy<f32> {
    prop_oneof![
        12 => -1.0..1.0_f32,
        2 => Just(0.0_f32),
        1 => -1e3..1e3_f32,
        1 => any::<f32>(),
        1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::MAX), Just(1e-40_f32), Just(-f32::MIN_POSITIVE)],
    ]
    .boxed()
}

fn tame() -> BoxedStrategy<f32> {
    prop_oneof![8 => -1.0..1.0_f32, 1 => Just(0.0_f32)].boxed()
}

/// Groups of one to six units of up to `rows` rows in two linear and two dense blocks, one or two factors per block.
fn groups(rows: usize, value: BoxedStrategy<f32>) -> impl Strategy<Value = Group> {
    let sizes = prop::collection::vec(0..=rows, 1..7);
    (sizes, 1..9_usize, 1..20_usize, 0..5_usize, any::<(bool, bool)>()).prop_flat_map(
        move |(sizes, outputs, inputs, dense, (paired, bias))| {
            let total: usize = sizes.iter().sum();
            let units = sizes.len();
            let offsets = sizes.iter().fold(vec![0], |mut all: Vec<usize>, size| {
                all.push(all.last().unwrap() + size);
                all
            });
            let blocks = vec![
                if bias { Block::Linear { outputs, inputs } } else { Block::Matrix { outputs, inputs } },
                Block::Dense { length: dense },
                Block::Linear { outputs: 1, inputs: outputs },
                Block::Dense { length: 1 },
            ];
            let values = |count| prop::collection::vec(value.clone(), count);
            let factors = if paired { 2 } else { 1 };
            let block = |outputs: usize, inputs: usize| {
                prop::collection::vec((values(total * outputs), values(total * inputs)), factors)
            };
            let clip_factors = prop::collection::vec(
                prop_oneof![8 => 1e-3..0.4_f32, 1 => Just(1.0_f32), 1 => Just(0.0_f32), 1 => Just(f32::NAN)],
                units,
            );
            (block(outputs, inputs), block(1, outputs), values(units * (dense + 1)), clip_factors).prop_map(
                move |(one, two, dense, clip_factors)| {
                    let owned = |block: Vec<(Vec<f32>, Vec<f32>)>, bias: bool| {
                        let last = block.len() - 1;
                        let factors = block.into_iter().enumerate();
                        factors.map(|(i, (left, right))| (left, right, bias && i == last)).collect()
                    };
                    let (blocks, offsets) = (blocks.clone(), offsets.clone());
                    Group {
                        blocks,
                        offsets,
                        clip_factors,
                        linear: vec![owned(one, bias), owned(two, true)],
                        dense,
                    }
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the engine hands over, each unit's vector is inside the ball and its sum is exact.
    #[test]
    fn the_sum_is_that_of_the_units_written_out_and_each_is_in_the_ball(
        group in groups(3, value()), clip in 1e-2..1e2_f64,
    ) {
        let mut expected = vec![0_i128; group.shape().dimension()];
        for unit in 0..group.units() {
            let vector = written_out(clip, &group, unit);
            prop_assert!(squared_norm(&vector) <= 1 << 56);
            let alone = sum_of(clip, &[group.pick(&[unit])]);
            prop_assert!(alone.iter().map(|&v| i128::from(v)).eq(vector.iter().copied()));
            expected.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v);
        }
        let found = sum_of(clip, &[group]);
        prop_assert!(found.iter().map(|&v| i128::from(v)).eq(expected));
    }

    /// Units of more rows than inner products are taken of, and of so many that the grid is finer.
    #[test]
    fn a_unit_of_many_rows_has_the_same_integers(
        group in prop_oneof![groups(40, tame()), groups(150, tame()), groups(150, value())], clip in 1.0..1e3_f64,
    ) {
        let mut expected = vec![0_i128; group.shape().dimension()];
        for unit in 0..group.units() {
            expected.iter_mut().zip(written_out(clip, &group, unit)).for_each(|(sum, v)| *sum += v);
        }
        let found = sum_of(clip, &[group]);
        prop_assert!(found.iter().map(|&v| i128::from(v)).eq(expected));
    }

    #[test]
    fn order_and_grouping_do_not_matter(group in groups(3, value()), cut in 0..7_usize, clip in 1e-1..1e1_f64) {
        let all: Vec<usize> = (0..group.units()).collect();
        let reversed: Vec<usize> = all.iter().rev().copied().collect();
        let whole = sum_of(clip, std::slice::from_ref(&group));
        prop_assert_eq!(&whole, &sum_of(clip, &[group.pick(&reversed)]));
        let (first, second) = all.split_at(cut.min(all.len()));
        prop_assert_eq!(&whole, &sum_of(clip, &[group.pick(second), group.pick(first)]));
    }

    /// The real product within the bound of the rounding that `engine_clip_norm` allows for.
    #[test]
    fn rounding_is_within_its_bound(group in groups(1, tame())) {
        let group = group.pick(&[0]);
        let (factor, clip) = (f64::from(group.clip_factors[0]), 30.0);
        prop_assume!(factor > 0.0 && group.offsets[1] == 1);
        let found = sum_of(clip, std::slice::from_ref(&group));
        let (outputs, inputs) = group.shape().linear().next().unwrap();
        let mut exact = vec![0.0; outputs * (inputs + 1)];
        let mut bound = 1e-6;
        for (left, right, constant) in &group.linear[0] {
            let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            let constant = if *constant { 1.0 } else { 0.0 };
            for i in 0..outputs {
                for j in 0..inputs {
                    exact[i * inputs + j] += f64::from(left[i]) * f64::from(right[j]);
                }
                exact[outputs * inputs + i] += f64::from(left[i]) * constant;
            }
            let right_norm = (norm(right) + constant).sqrt();
            // Half a step of the left side is 2^-15 C over the norm 2^14 of the right side.
            bound += 0.5 / 16_384.0 * (clip * (outputs as f64).sqrt()
                + factor * norm(left).sqrt() * right_norm * (inputs as f64 + 1.0).sqrt()) * 1.001;
        }
        exact.truncate(group.blocks[0].length());
        let step = clip / 268_435_456.0;
        let off: f64 = found.iter().zip(&exact).map(|(&v, e)| (v as f64 * step - factor * e).powi(2)).sum();
        prop_assert!(off.sqrt() <= bound, "{} above {bound}", off.sqrt());
    }
}

/// One unit of one row in one linear block.
fn single(left: &[f32], right: &[f32], factor: f32) -> Group {
    Group {
        blocks: vec![Block::Linear { outputs: left.len(), inputs: right.len() }],
        offsets: vec![0, 1],
        clip_factors: vec![factor],
        linear: vec![vec![(left.to_vec(), right.to_vec(), false)]],
        dense: Vec::new(),
    }
}

#[test]
fn the_sphere_itself_is_inside_and_one_step_more_is_not() {
    let found = |left: f32| sum_of(1.0, &[single(&[left, 0.0], &[1.0], 1.0)]);
    assert_eq!(found(1.0)[0], 1 << 28);
    assert_eq!(found(1.0 + 2.0 / 32_768.0)[0], 0);
    // One part more of the left side: its square is beyond that of the radius.
    let beside = |value: f32| sum_of(1.0, &[single(&[1.0, value], &[1.0], 1.0)]);
    assert_eq!(beside(0.4 / 16_384.0)[..2], [1 << 28, 0]);
    assert_eq!(beside(0.6 / 16_384.0)[..2], [0, 0]);
}

#[test]
fn a_contribution_that_is_not_finite_or_huge_is_the_zero_vector() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e35] {
        assert!(sum_of(1.0, &[single(&[0.1, bad], &[0.5], 1.0)]).iter().all(|&v| v == 0), "left {bad}");
        assert!(sum_of(1.0, &[single(&[0.1], &[0.5, bad], 1.0)]).iter().all(|&v| v == 0), "right {bad}");
    }
    for factor in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        assert!(sum_of(1.0, &[single(&[0.1], &[0.5], factor)]).iter().all(|&v| v == 0), "factor {factor}");
    }
}

/// Two long rows that cancel: each is cut into pieces that 16 bits hold, and the small rest arrives.
#[test]
fn long_rows_that_cancel_are_not_lost() {
    let group = Group {
        blocks: vec![Block::Linear { outputs: 1, inputs: 1 }],
        offsets: vec![0, 1],
        clip_factors: vec![1.0],
        linear: vec![vec![(vec![20.0], vec![1.0], false), (vec![-19.5], vec![1.0], false)]],
        dense: Vec::new(),
    };
    let found = sum_of(1.0, &[group])[0] as f64 / 268_435_456.0;
    assert!((found - 0.5).abs() < 0.01, "{found}");
    let beyond = single(&[70.0], &[1.0], 1.0);
    assert_eq!(sum_of(1.0, &[beyond])[0], 0);
}

/// Rows that the finer grid of many records cannot hold are taken on the grid of few.
#[test]
fn rows_too_long_for_the_finer_grid_are_not_lost() {
    let mut left = vec![0.0; 64];
    (left[0], left[1]) = (100.0, -99.5);
    let group = Group {
        offsets: vec![0, 64],
        linear: vec![vec![(left, vec![1.0; 64], false)]],
        ..single(&[0.0], &[0.0], 1.0)
    };
    let found = sum_of(1.0, &[group])[0] as f64 / 268_435_456.0;
    assert!((found - 0.5).abs() < 0.01, "{found}");
}

/// What is beyond the ball by more than rounding explains is still nothing; one record is never shrunk.
#[test]
fn units_of_several_records_are_shrunk_up_to_twice_the_clip_norm() {
    let unit = |left: &[f32]| Group {
        offsets: vec![0, left.len()],
        linear: vec![vec![(left.to_vec(), vec![1.0; left.len()], false)]],
        ..single(&[0.0], &[0.0], 1.0)
    };
    for records in [2, 17, 64, 200] {
        let found = |norm: f32| sum_of(1.0, &[unit(&vec![norm / records as f32; records])])[0];
        let distance = ((1_i64 << 28) - found(1.01)).abs();
        assert!(distance <= 2, "{records} records: {distance}");
        assert!(((1_i64 << 28) - found(1.9)).abs() <= 2);
        assert_eq!(found(2.1), 0);
    }
    assert_eq!(sum_of(1.0, &[unit(&[1.01])])[0], 0);
}

/// Runs are cut where their bounds would leave 32 bits: many units whose products all add up in one coordinate.
#[test]
fn sums_of_equal_large_products_do_not_overflow() {
    let unit = single(&[0.999], &[1.0], 1.0);
    let value = sum_of(1.0, std::slice::from_ref(&unit))[0];
    assert!(value > 268_000_000);
    let many = vec![unit; 1_000];
    assert_eq!(sum_of(1.0, &many)[0], 1_000 * value);
}

/// Equal views of a difference loss: in one factor the right side is zero, in the other the left side.
#[test]
fn equal_views_give_exactly_zero() {
    let group = Group {
        blocks: vec![Block::Linear { outputs: 2, inputs: 3 }, Block::Dense { length: 1 }],
        offsets: vec![0, 1],
        clip_factors: vec![1.0],
        linear: vec![vec![
            (vec![0.3, -0.7], vec![0.0; 3], false),
            (vec![0.0, -0.0], vec![0.2, 0.9, -4.0], true),
        ]],
        dense: vec![0.0],
    };
    assert!(sum_of(0.1, &[group]).iter().all(|&v| v == 0));
}

/// Norm and direction of what a unit of random rows adds, against the clipped exact sum.
///
/// Rows of one unit share a part of the given size, as the records of one patient do.
fn kept(outputs: usize, inputs: usize, records: usize, (shared, seed): (f32, u64)) -> (f64, f64) {
    let mut random = SecureRng::seeded_for_simulation(seed, 0);
    let mut rows = |width: usize| -> Vec<f32> {
        let own = 1.0 - shared;
        let common: Vec<f32> = (0..width).map(|_| shared * random.random_range(-1.0..1.0_f32)).collect();
        let values =
            (0..records * width).map(|at| common[at % width] + own * random.random_range(-1.0..1.0_f32));
        values.collect()
    };
    let (left, right) = (rows(outputs), rows(inputs));
    let mut exact = vec![0.0_f64; outputs * (inputs + 1)];
    for (left, right) in left.chunks(outputs).zip(right.chunks(inputs)) {
        for (i, &left) in left.iter().enumerate() {
            for (j, &right) in right.iter().enumerate() {
                exact[i * inputs + j] += f64::from(left) * f64::from(right);
            }
            exact[outputs * inputs + i] += f64::from(left);
        }
    }
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let blocks = vec![Block::Linear { outputs, inputs }];
    let engine_norm = 1.0 - largest_rounding(&ContributionShape::new(blocks.clone())) - 1.0 / 8192.0;
    let group = Group {
        blocks,
        offsets: vec![0, records],
        clip_factors: vec![(engine_norm / norm(&exact)) as f32],
        linear: vec![vec![(left, right, true)]],
        dense: Vec::new(),
    };
    let found = sum_of(1.0, &[group]);
    let found: Vec<i128> = found.into_iter().map(i128::from).collect();
    assert!(squared_norm(&found) <= 1 << 56);
    let found: Vec<f64> = found.into_iter().map(|v| v as f64 / 268_435_456.0).collect();
    let inner: f64 = found.iter().zip(&exact).map(|(a, b)| a * b).sum();
    (norm(&found), inner / norm(&found) / norm(&exact))
}

/// Rows that have nothing in common, much, and everything; the last is the worst case, since equal rows round equally.
#[test]
fn units_of_many_records_keep_length_and_direction() {
    for (outputs, inputs) in [(1, 6), (6, 36), (128, 128)] {
        for shared in [0.0, 0.9, 1.0] {
            for records in [2, 17, 63, 64, 300, 600, 3_000] {
                for seed in 0..3 {
                    let (length, cosine) = kept(outputs, inputs, records, (shared, seed));
                    let case =
                        format!("{outputs} by {inputs}, {records} records, shared {shared}, seed {seed}");
                    assert!(length > 0.995, "{case}: {length}");
                    assert!(cosine > 0.9999, "{case}: {cosine}");
                }
            }
        }
    }
}
