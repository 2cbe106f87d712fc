//! Figures and times for people: the same words on a terminal and in a report.

use fusiondp_dp::Epsilon;
use fusiondp_runtime::{Clock as _, SystemClock};

/// An epsilon, rounded up.
pub(crate) fn epsilon(value: f64) -> String {
    match Epsilon::new(value) {
        Ok(figure) if figure.is_finite() => format!("{:.4}", figure.rounded_up(4)),
        _ => "no finite bound".to_owned(),
    }
}

/// A duration in seconds.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// A time, UTC.
pub(crate) fn time(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "–".to_owned(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How long ago a time is.
pub(crate) fn ago(unix_ms: u64) -> String {
    let passed = SystemClock.now_ms().saturating_sub(unix_ms);
    format!("{} ago", duration(passed as f64 / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_rounded_up() {
        assert_eq!(epsilon(0.999_91), "1.0000");
        assert_eq!(epsilon(f64::INFINITY), "no finite bound");
    }

    #[test]
    fn times_are_utc_and_durations_short() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(u64::MAX), "–");
        let durations = [3.21, 42.7, 600.0, 9_000.0].map(duration);
        assert_eq!(durations, ["3.2 s", "43 s", "10 min", "2.5 h"]);
    }
}
