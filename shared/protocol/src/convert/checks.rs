//! The checks that conversions are made of. Each takes the field's name for its error.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bytes::Bytes;
use fusiondp_dp::{Digest, Epsilon};

use super::ConvertError;

type Checked<T> = Result<T, ConvertError>;

/// A message field that must be present.
pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Checked<T> {
    value.ok_or(ConvertError::Missing { field })
}

/// A text that a domain type reads: an id, a state.
pub(super) fn parsed<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Checked<T> {
    text.parse().map_err(|error: T::Err| invalid(field, error))
}

/// A number that a domain type checks: a privacy parameter.
pub(super) fn parameter<T: TryFrom<f64, Error: Display>>(field: &'static str, value: f64) -> Checked<T> {
    T::try_from(value).map_err(|error| invalid(field, error))
}

/// A value refused by its own type.
pub(super) fn invalid(field: &'static str, error: impl Display) -> ConvertError {
    ConvertError::Invalid { field, problem: error.to_string() }
}

/// 32 bytes.
pub(super) fn digest(field: &'static str, bytes: &Bytes) -> Checked<Digest> {
    exact_bytes(field, bytes).map(Digest::from_bytes)
}

/// Exactly `N` bytes.
pub(super) fn exact_bytes<const N: usize>(field: &'static str, bytes: &Bytes) -> Checked<[u8; N]> {
    let refused = |_| ConvertError::OutOfRange {
        field,
        value: format!("{} bytes", bytes.len()),
        range: format!("exactly {N} bytes"),
    };
    <[u8; N]>::try_from(bytes.as_ref()).map_err(refused)
}

/// Bytes on the wire.
pub(super) fn digest_bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// A number within a range.
pub(super) fn within<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Checked<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    let allowed = format!("{} to {}", range.start(), range.end());
    Err(ConvertError::OutOfRange { field, value: value.to_string(), range: allowed })
}

/// A finite number of at least 0.
pub(super) fn non_negative(field: &'static str, value: f64) -> Checked<f64> {
    within(field, value, 0.0..=f64::MAX)
}

/// A probability.
pub(super) fn fraction(field: &'static str, value: f64) -> Checked<f64> {
    within(field, value, 0.0..=1.0)
}

/// A finite privacy loss.
pub(super) fn epsilon(field: &'static str, value: f64) -> Checked<Epsilon> {
    parameter(field, non_negative(field, value)?)
}

/// At most `limit` elements or bytes.
pub(super) fn at_most(field: &'static str, length: usize, limit: usize) -> Checked<()> {
    if length <= limit { Ok(()) } else { Err(ConvertError::TooLong { field, length, limit }) }
}

/// One line of at most `limit` characters.
pub(super) fn line(field: &'static str, text: String, limit: usize) -> Checked<String> {
    // A character has at most four bytes, so this refuses huge texts without walking them.
    if text.len() > limit.saturating_mul(4) {
        return Err(ConvertError::TooLong { field, length: text.len(), limit });
    }
    at_most(field, text.chars().count(), limit)?;
    if text.chars().any(char::is_control) {
        return Err(invalid(field, "holds a control character; send one plain line"));
    }
    Ok(text)
}

/// A time where 0 means "not yet" or "never".
pub(super) fn optional_time(time_ms: u64) -> Option<u64> {
    (time_ms != 0).then_some(time_ms)
}
