//! Numbers, times and names as a reader wants them.

use fusiondp_dp::Epsilon;

/// Escapes text for HTML content and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// An epsilon, rounded up.
pub(super) fn epsilon(value: f64) -> String {
    match Epsilon::new(value) {
        Ok(figure) if figure.is_finite() => format!("{:.4}", figure.rounded_up(4)),
        _ => "no finite bound".to_owned(),
    }
}

/// A figure with four significant digits, without an exponent where it can do without.
pub(super) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.3e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
    } else {
        let digits = (3 - magnitude.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.digits$}")
    }
}

/// A share with four digits, or a dash.
pub(super) fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

/// A count with thin spaces between thousands.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// A time, UTC.
pub(super) fn time(unix_ms: Option<u64>) -> String {
    let Some(unix_ms) = unix_ms else { return "–".to_owned() };
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "–".to_owned(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_rounded_up_and_figures_keep_their_digits() {
        assert_eq!(epsilon(0.999_91), "1.0000");
        assert_eq!(epsilon(f64::INFINITY), "no finite bound");
        assert_eq!(
            (figure(0.75), figure(1.05), figure(1024.0)),
            ("0.7500".into(), "1.050".into(), "1024".into())
        );
        assert_eq!((figure(1e-5), figure(0.0)), ("1e-5".into(), "0".into()));
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(escape("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(Some(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(None), "–");
        assert_eq!(
            (duration(3.21), duration(600.0), duration(9_000.0)),
            ("3.2 s".into(), "10 min".into(), "2.5 h".into())
        );
    }
}
