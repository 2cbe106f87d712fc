//! Range checks that name the field.

use super::StudyError;

/// Outcome of a check.
pub(super) type Check = Result<(), StudyError>;

/// A count within a range.
pub(super) fn within(
    field: &'static str,
    value: u32,
    allowed: std::ops::RangeInclusive<u32>,
    range: &'static str,
) -> Check {
    if allowed.contains(&value) { Ok(()) } else { Err(out_of_range(field, value, range)) }
}

/// A finite number above 0.
pub(super) fn positive(field: &'static str, value: f64) -> Check {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(out_of_range(field, value, "a finite number above 0"))
}

/// The error for a value out of range.
pub(super) fn out_of_range(field: &'static str, value: impl ToString, range: &'static str) -> StudyError {
    StudyError::OutOfRange { field, value: value.to_string(), range }
}
