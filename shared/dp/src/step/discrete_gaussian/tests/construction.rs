//! The tables and the two ways to decide, against what the proof needs of them.

use super::*;

/// Density at a distance of `x / sigma`.
fn density(x: f64, sigma: u64) -> f64 {
    (-(x / sigma as f64).powi(2) / 2.0).exp()
}

proptest! {
    /// What the proof needs of weights and bounds, in doubles with a slack for their own rounding.
    #[test]
    fn weights_are_above_the_density_and_sum_to_a_power_of_two(sigma in any_sigma()) {
        let strips = Strips::new(sigma);
        let (width, full) = (2_f64.powi(strips.log2_width as i32), strips.full_weight as f64);
        prop_assert_eq!(strips.weights.iter().sum::<u64>(), 1_u64 << (63 - strips.log2_width));
        prop_assert_eq!((strips.inner.len(), strips.anywhere.len()), (TAIL, STRIPS));
        let slack = 1e-9;
        let unit = 2_f64.powi(-62);
        for strip in 0..TAIL {
            let weight = strips.weights[strip] as f64;
            let inner = full * density(strip as f64 * width, sigma);
            let outer = full * density((strip + 1) as f64 * width, sigma);
            prop_assert!(inner <= weight * (1.0 + 1e-14), "strip {}", strip);
            prop_assert!(strips.inner[strip].lower as f64 * unit <= inner / weight + slack, "strip {}", strip);
            prop_assert!(strips.inner[strip].upper as f64 * unit >= inner / weight - slack, "strip {}", strip);
            prop_assert!(strips.anywhere[strip] as f64 * unit <= outer / weight + slack, "strip {}", strip);
            // Bounds in which the exponential hardly matters: otherwise every draw would be decided the slow way.
            let uncertain = (strips.inner[strip].upper - strips.inner[strip].lower) as f64 * unit;
            prop_assert!(uncertain * weight <= 1e-11 * full + 1.0, "strip {}", strip);
        }
        prop_assert_eq!(strips.anywhere[TAIL], 0);
    }

    /// A piece of the tail is drawn with at least the probability that its densest value needs.
    #[test]
    fn pieces_of_the_tail_are_above_the_density(sigma in any_sigma()) {
        let strips = Strips::new(sigma);
        let width = 2_f64.powi(strips.log2_width as i32);
        let ratio = 2_f64.powi(LOG2_TAIL_WIDTH as i32);
        prop_assert!(ratio * width >= sigma as f64 / 8.0);
        prop_assert!(TAIL as f64 * width >= 7.9 * sigma as f64);
        for piece in 0..40 {
            let begin = (TAIL as f64 + f64::from(piece) * ratio) * width;
            let needed = ratio * strips.full_weight as f64 * density(begin, sigma) * 2_f64.powi(piece + 1);
            prop_assert!(needed <= strips.weights[TAIL] as f64 * (1.0 + 1e-14), "piece {}", piece);
        }
    }

    /// Few draws are rejected, and few need a closer look, for every noise multiplier.
    #[test]
    fn most_words_are_accepted_at_once(sigma in 1025..=(1_u64 << 40) + 1) {
        let gaussian = DiscreteGaussian::with_sigma(sigma);
        let strips = &gaussian.strips;
        let total = Strips::total(strips.log2_width) as f64;
        let half = (std::f64::consts::PI / 2.0).sqrt() * sigma as f64;
        let accepted = strips.full_weight as f64 * half / 2_f64.powi(strips.log2_width as i32) / total;
        prop_assert!(accepted > 0.985, "{}", accepted);
        let depth = 2_f64.powi(DEPTH_BITS as i32) * STRIPS as f64;
        let at_once = gaussian.columns.iter().map(|column| column.accepted as f64).sum::<f64>() / depth;
        prop_assert!(at_once > 0.97, "{}", at_once);
    }

    /// The columns hold each strip as often as its weight says, and positions count through each piece without a gap.
    #[test]
    fn columns_divide_every_weight_without_a_gap(sigma in any_sigma()) {
        let gaussian = DiscreteGaussian::with_sigma(sigma);
        let log2_width = gaussian.strips.log2_width;
        let height = columns::height(log2_width);
        let mut units = vec![0_u64; STRIPS];
        for (own, column) in gaussian.columns.iter().enumerate() {
            let mut pieces = vec![(own, Vec::new()), (column.other, Vec::new())];
            for (first, last) in segments(column, height, log2_width) {
                let place = |unit: u64| column.place(own, unit << log2_width, log2_width);
                let (begin, end) = (place(first), place(last));
                prop_assert_eq!((begin.strip, begin.length), (end.strip, end.length));
                prop_assert_eq!(end.position - begin.position, last - first);
                // A column whose other strip is its own has one piece only.
                let piece = pieces.iter_mut().find(|(strip, _)| *strip == begin.strip).unwrap();
                piece.1.push((begin.position, end.position, begin.length));
            }
            for (strip, mut ranges) in pieces {
                ranges.sort_unstable();
                let mut next = 0;
                for &(begin, end, _) in &ranges {
                    prop_assert_eq!(begin, next);
                    next = end + 1;
                }
                prop_assert!(ranges.iter().all(|&(_, _, length)| length == next));
                units[strip] += next;
            }
        }
        prop_assert_eq!(&units, &gaussian.strips.weights);
    }
}

/// First and last unit of the stretches between the marks of a column, without empty ones.
fn segments(column: &Column, height: u64, log2_width: u32) -> Vec<(u64, u64)> {
    let (own, all) = (column.own_accepted >> log2_width, column.accepted >> log2_width);
    // The remaining mark is where the strip changes behind what is accepted at once.
    let strip = |unit: u64| column.place(STRIPS, unit << log2_width, log2_width).strip;
    let (mut low, mut high) = (all, height);
    while low < high {
        let middle = low + (high - low) / 2;
        if strip(middle) == STRIPS { low = middle + 1 } else { high = middle }
    }
    let marks = [0, own, all, low, height];
    marks.windows(2).filter(|ends| ends[0] < ends[1]).map(|ends| (ends[0], ends[1] - 1)).collect()
}

/// A word whose depth lies near a mark of its column, where a wrong bound would show, or anywhere.
fn word_near_a_mark(gaussian: &DiscreteGaussian, word: u64, choice: u8) -> u64 {
    let (own, depth) = split(word);
    let column = &gaussian.columns[own];
    let near = |mark: u64| (mark + (depth & 0xff)).saturating_sub(128) & low_bits(DEPTH_BITS);
    let depth = match choice % 4 {
        0 => near(column.own_accepted),
        1 => near(column.accepted),
        2 => column.accepted + depth % (low_bits(DEPTH_BITS) - column.accepted).max(1),
        _ => depth,
    };
    (word & !low_bits(DEPTH_BITS)) | depth.min(low_bits(DEPTH_BITS))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Every decision goes through the exact comparison too, with the same bits.
    #[test]
    fn all_ways_to_decide_agree(
        sigma in any_sigma(),
        words in prop::collection::vec((any::<u64>(), any::<u8>(), any::<u64>()), 20),
    ) {
        let gaussian = DiscreteGaussian::with_sigma(sigma);
        for (word, choice, digits) in words {
            let word = word_near_a_mark(&gaussian, word, choice);
            let Some(candidate) = gaussian.candidate(word, &mut rng(1)) else { continue };
            let position = candidate.place.position;
            let exact = |digits| gaussian.comparison(&candidate).decide(position, digits, &mut rng(2));
            if let Some(value) = gaussian.accepted_at_once(word) {
                prop_assert_eq!(value, candidate.value);
                prop_assert!(exact(u64::MAX), "accepted at once against the rule");
            }
            if let Some(estimate) = gaussian.estimate(&candidate, digits) {
                prop_assert_eq!(estimate, exact(digits));
            }
        }
    }

    /// Just beyond the ends of the estimate's uncertainty, and within it, the exact comparison is right and monotone.
    #[test]
    fn the_undecided_range_holds_the_exact_limit(sigma in any_sigma(), word in any::<u64>()) {
        let gaussian = DiscreteGaussian::with_sigma(sigma);
        let Some(mut candidate) = gaussian.candidate(word, &mut rng(1)) else { return Ok(()) };
        prop_assume!(candidate.place.strip != TAIL);
        let length = u128::from(candidate.place.length);
        let mut decide = |uniform: u128, exactly: bool| {
            candidate.place.position = (uniform >> FRACTION_BITS) as u64;
            let digits = (uniform as u64) << (64 - FRACTION_BITS);
            match exactly {
                true => Some(gaussian.comparison(&candidate).decide(candidate.place.position, digits, &mut rng(2))),
                false => gaussian.estimate(&candidate, digits),
            }
        };
        // The estimate decides all but a narrow range; bisection finds its lower end.
        let (mut low, mut high) = (0, length << FRACTION_BITS);
        while low < high {
            let middle = low + (high - low) / 2;
            if decide(middle, false) == Some(true) { low = middle + 1 } else { high = middle }
        }
        if low > 0 {
            prop_assert_eq!(decide(low - 1, true), Some(true));
        }
        let range = (length << FRACTION_BITS) >> 33;
        if decide((low + range).min((length << FRACTION_BITS) - 1), false) == Some(false) {
            prop_assert_eq!(decide((low + range).min((length << FRACTION_BITS) - 1), true), Some(false));
            let decisions: Vec<_> = (0..=8).map(|part| decide(low + range * part / 8, true)).collect();
            prop_assert!(decisions.windows(2).all(|pair| pair[0] >= pair[1]), "{:?}", decisions);
        }
    }
}

/// Under the negative sign the innermost value is -1, so that zero has one word per offset like any other value.
#[test]
fn zero_is_proposed_under_one_sign_only() {
    let gaussian = DiscreteGaussian::with_sigma(1 << 20);
    let width = 1_u64 << gaussian.strips.log2_width;
    let negative = 1 << DEPTH_BITS;
    assert_eq!(gaussian.value(0, 0), 0);
    assert_eq!(gaussian.value(0, negative), -1);
    assert_eq!(gaussian.value(0, width - 1), width as i64 - 1);
    assert_eq!(gaussian.value(0, negative | (width - 1)), -(width as i64));
    assert_eq!(gaussian.value(1, negative), -(width as i64) - 1);
    assert_eq!(gaussian.value(1, 0), width as i64);
}

/// The generator of a run of equal words.
struct Constant(u64);

impl rand::TryRng for Constant {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.0 as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Self::Error> {
        destination.fill(self.0 as u8);
        Ok(())
    }
}

#[test]
fn proposals_in_the_tail_are_bounded() {
    assert_eq!(tail_piece(&mut Constant(0)), None);
    assert_eq!(tail_piece(&mut Constant(1)), Some(0));
    assert_eq!(tail_piece(&mut Constant(1 << 63)), Some(63));
    // The farthest value that the tail can propose at the largest sigma.
    let gaussian = DiscreteGaussian::with_sigma((1 << 40) + 1);
    let log2_width = gaussian.strips.log2_width;
    let end = (TAIL as u64 + (u64::from(MOST_TAIL_PIECES) << LOG2_TAIL_WIDTH)) << log2_width;
    assert!(end < 1 << 51);
    // A far candidate is decided without trouble.
    let place = Place { strip: TAIL, position: 0, length: 1 };
    let far = Candidate { value: -(end as i64), place, log2_rarity: LOG2_TAIL_WIDTH + MOST_TAIL_PIECES };
    assert!(!gaussian.accepts(&far, u64::MAX, &mut rng(1)));
}
