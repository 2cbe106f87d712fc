//! Minimizing a bound over a free parameter.

/// Where a function was smallest, among the points tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Minimum {
    /// The argument.
    pub(super) at: f64,
    /// The value there.
    pub(super) value: f64,
}

/// Scans `scan` equally spaced points of `range`, then refines around the best with `refine` golden sections.
///
/// NaN counts as no value at all. If no point has a finite value, the result has an infinite one.
pub(super) fn minimum(
    range: (f64, f64),
    scan: u32,
    refine: u32,
    mut function: impl FnMut(f64) -> f64,
) -> Minimum {
    let spacing = (range.1 - range.0) / f64::from(scan.max(2) - 1);
    let mut best = Minimum { at: range.0, value: f64::INFINITY };
    for index in 0..scan {
        try_point(range.0 + spacing * f64::from(index), &mut best, &mut function);
    }
    let (low, high) = ((best.at - spacing).max(range.0), (best.at + spacing).min(range.1));
    golden_section((low, high), refine, &mut best, &mut function);
    best
}

/// Evaluates one point and keeps it if it is better.
fn try_point(at: f64, best: &mut Minimum, function: &mut impl FnMut(f64) -> f64) -> f64 {
    let value = function(at);
    if value < best.value {
        *best = Minimum { at, value };
    }
    value
}

fn golden_section(
    (mut low, mut high): (f64, f64),
    sections: u32,
    best: &mut Minimum,
    function: &mut impl FnMut(f64) -> f64,
) {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut left, mut right) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let mut at_left = try_point(left, best, function);
    let mut at_right = try_point(right, best, function);
    for _ in 0..sections {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - RATIO * (high - low);
            at_left = try_point(left, best, function);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + RATIO * (high - low);
            at_right = try_point(right, best, function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_deeper_of_two_valleys() {
        let found = minimum((-3.0, 3.0), 25, 30, |x| (x * x - 1.0).powi(2) + 0.1 * x);
        assert!((found.at + 1.0123).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn no_value_is_infinite() {
        assert_eq!(minimum((0.0, 1.0), 5, 5, |_| f64::NAN).value, f64::INFINITY);
    }
}
