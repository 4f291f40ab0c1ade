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
