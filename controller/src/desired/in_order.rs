//! Whether a live object is as it should be, or a write is due.

use serde::Serialize;
use serde_json::Value;

use super::quantity;

/// Whether `live` contains every field of `wanted`, whose annotation `sluice.io/applied` is among them: its hash finds
/// fields that are no longer wanted, the comparison finds other people's edits. Lists have the same length and are compared item by
/// item; quantities are compared by their value. What the API server adds does not count.
pub fn in_order<K: Serialize>(wanted: &K, live: &K) -> bool {
    match (serde_json::to_value(wanted), serde_json::to_value(live)) {
        (Ok(wanted), Ok(live)) => contains(&live, &wanted, Kind::Other),
        _ => false,
    }
}

/// What a value is, judged by the field that it is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quantity,
    Quantities,
    Other,
}

impl Kind {
    /// The kind of the field `name` of an object of kind `self`.
    fn of_field(self, name: &str) -> Self {
        match name {
            _ if self == Self::Quantities => Self::Quantity,
            "limits" | "requests" => Self::Quantities,
            "sizeLimit" => Self::Quantity,
            _ => Self::Other,
        }
    }
}

fn contains(live: &Value, wanted: &Value, kind: Kind) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            contains(live.get(name).unwrap_or(&Value::Null), wanted, kind.of_field(name))
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted, kind))
        }
        (Value::String(live), Value::String(wanted)) if kind == Kind::Quantity => {
            live == wanted || quantity::value(live).is_some_and(|live| Some(live) == quantity::value(wanted))
        }
        // The API server leaves out what is empty.
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        _ => live == wanted,
    }
}
