//! Quantities of resources, as Kubernetes writes them: compared by value, written in canonical form.

/// Units of the value: a thousand-millionth, the finest that Kubernetes keeps.
const NANO: i128 = 1_000_000_000;

/// Decimal suffixes with their power of ten in nano, from the smallest.
const DECIMAL: [(&str, u32); 10] =
    [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];
/// Binary suffixes, each 1024 times the one before; the first is 1024.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The value of `text` in nano; `None` if it is no quantity, or finer or larger than Kubernetes keeps.
pub(super) fn value(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mantissa: i128 = all.parse().ok()?;
    // The value is mantissa * factor / 10^places nano.
    let places = u32::try_from(fraction.len()).ok()?;
    let factor = factor(suffix)?;
    let scaled = mantissa.checked_mul(factor)?;
    let divisor = 10_i128.checked_pow(places)?;
    if scaled % divisor != 0 {
        return None;
    }
    let value = scaled / divisor;
    (value <= i128::from(i64::MAX).checked_mul(NANO)?).then_some(if negative { -value } else { value })
}

/// What one unit of a number with `suffix` is, in nano.
fn factor(suffix: &str) -> Option<i128> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return 10_i128.checked_pow(*power);
    }
    if let Some(index) = BINARY.iter().position(|name| *name == suffix) {
        let power = u32::try_from(index).ok()? + 1;
        return NANO.checked_mul(1024_i128.checked_pow(power)?);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    10_i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)
}

/// `text` as the API server stores it: an integer with the largest suffix, of the kind that it was written with. `None` if it is
/// no quantity. Exponents become suffixes.
pub(super) fn canonical(text: &str) -> Option<String> {
    let value = value(text)?;
    let binary = BINARY.iter().any(|suffix| text.ends_with(suffix));
    if value == 0 {
        return Some("0".to_owned());
    }
    if binary && value % (NANO * 1024) == 0 {
        let mut number = value / NANO / 1024;
        let mut index = 0;
        while number % 1024 == 0 && index + 1 < BINARY.len() {
            number /= 1024;
            index += 1;
        }
        return Some(format!("{number}{}", BINARY[index]));
    }
    let fits = |(_, power): &&(&str, u32)| value % 10_i128.pow(*power) == 0;
    let (suffix, power) = DECIMAL.iter().rev().find(fits)?;
    Some(format!("{}{suffix}", value / 10_i128.pow(*power)))
}

/// `bytes` in canonical form.
pub(super) fn of_mebibytes(mebibytes: u64) -> String {
    canonical(&format!("{mebibytes}Mi")).unwrap_or_else(|| format!("{mebibytes}Mi"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values() {
        let same = [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1000"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("1e-3", "1m"),
            ("1E", "1000P"),
            ("1Ei", "1024Pi"),
            ("-1", "-1000m"),
            ("128974848", "123Mi"),
        ];
        for (one, other) in same {
            assert!(value(one).is_some(), "{one}");
            assert_eq!(value(one), value(other), "{one} {other}");
        }
        assert_ne!(value("1M"), value("1Mi"));
        for bad in [
            "", "Mi", "1 Mi", "1mi", "1KI", "1e", "1x", "--1", "1-2", "1.2.3", ".", "0.1n", "8Ei", "1e99",
            "字",
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }

    /// From the documentation of Kubernetes: "1.5 will be serialized as 1500m", "1.5Gi as 1536Mi"; below 1024 without a binary suffix.
    #[test]
    fn canonical_forms() {
        let cases = [
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("2000000", "2M"),
            ("0", "0"),
            ("0Mi", "0"),
            ("0.5Ki", "512"),
            ("100m", "100m"),
            ("1e3", "1k"),
            ("-1500m", "-1500m"),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(canonical("much"), None);
    }

    proptest! {
        #[test]
        fn canonical_keeps_the_value_and_is_its_own_canonical_form(
            number in -1_000_000_i64..1_000_000, places in 0_usize..4, suffix in "(n|u|m||k|M|G|Ki|Mi|Gi|Ti|e3|E-2)",
        ) {
            let fraction = if places == 0 { String::new() } else { format!(".{:0places$}", 7) };
            let text = format!("{number}{fraction}{suffix}");
            if let Some(value_of) = value(&text) {
                let canonical_form = canonical(&text).unwrap();
                prop_assert_eq!(value(&canonical_form), Some(value_of));
                let again = canonical(&canonical_form);
                prop_assert_eq!(again.as_ref(), Some(&canonical_form));
                prop_assert!(!canonical_form.contains('.'), "{}", canonical_form);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9.eEiKMm+-]{0,45}|\\PC{0,8}") {
            let _ = canonical(&text);
        }
    }
}
