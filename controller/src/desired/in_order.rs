//! Whether a live object is as it should be, or a write is due.

use serde::Serialize;
use serde_json::Value;

use super::quantity;

/// Whether `live` contains every field of `wanted`, whose annotation `sluice.io/applied` is among them: its hash finds
/// fields that are no longer wanted, the comparison finds other people's edits.
///
/// The comparison follows server-side apply, so that what an apply would not change calls for none: maps, and lists whose items have a key,
/// may have more than we want (a webhook's label, an injected volume); other lists are compared as a whole. Quantities are compared by
/// their value.
pub fn in_order<K: Serialize>(wanted: &K, live: &K) -> bool {
    match (serde_json::to_value(wanted), serde_json::to_value(live)) {
        (Ok(wanted), Ok(live)) => contains(&live, &wanted, Kind::Other),
        _ => false,
    }
}

/// The spec of `wanted` with a null for each field that only `live` has: as a merge patch it removes these. For an API server that refuses
/// what others have set together with what we want, such as two kinds of strategy. Metadata, and items of lists that are others' as
/// a whole, are left alone. `None` if there is no spec, or none that can be written as JSON.
pub fn without_others<K: Serialize>(wanted: &K, live: &K) -> Option<Value> {
    let (mut wanted, live) = (serde_json::to_value(wanted).ok()?, serde_json::to_value(live).ok()?);
    let mut spec = wanted.get_mut("spec")?.take();
    clear(&mut spec, live.get("spec")?, Kind::Other);
    Some(spec)
}

fn clear(wanted: &mut Value, live: &Value, kind: Kind) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (name, live) in live.iter().filter(|(name, _)| *name != "metadata") {
                match wanted.get_mut(name) {
                    Some(wanted) => clear(wanted, live, kind.of_field(name)),
                    None => drop(wanted.insert(name.clone(), Value::Null)),
                }
            }
        }
        (Value::Array(wanted), Value::Array(live)) => {
            let Kind::Keyed(key) = kind else { return };
            for wanted in wanted {
                let same = live.iter().find(|live| live.get(key) == wanted.get(key));
                if let Some(live) = same {
                    clear(wanted, live, Kind::Other);
                }
            }
        }
        _ => {}
    }
}

/// What a value is, judged by the field that it is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A map of quantities.
    Quantities,
    Quantity,
    /// A list whose items are told apart by this field of theirs.
    Keyed(&'static str),
    Other,
}

impl Kind {
    /// The kind of the field `name` of an object of kind `self`.
    fn of_field(self, name: &str) -> Self {
        match name {
            _ if self == Self::Quantities => Self::Quantity,
            "limits" | "requests" => Self::Quantities,
            "sizeLimit" => Self::Quantity,
            "containers" | "env" | "volumes" => Self::Keyed("name"),
            "volumeMounts" => Self::Keyed("mountPath"),
            "ownerReferences" => Self::Keyed("uid"),
            _ => Self::Other,
        }
    }
}

fn contains(live: &Value, wanted: &Value, kind: Kind) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            contains(live.get(name).unwrap_or(&Value::Null), wanted, kind.of_field(name))
        }),
        (Value::Array(live), Value::Array(wanted)) => match kind {
            Kind::Keyed(key) => wanted.iter().all(|wanted| {
                let same = |live: &&Value| live.get(key) == wanted.get(key);
                live.iter().find(same).is_some_and(|live| contains(live, wanted, Kind::Other))
            }),
            _ => {
                let pairs = live.iter().zip(wanted);
                live.len() == wanted.len()
                    && pairs.into_iter().all(|(live, wanted)| contains(live, wanted, Kind::Other))
            }
        },
        (Value::String(live), Value::String(wanted)) if kind == Kind::Quantity => {
            quantity::value(live).is_some_and(|live| Some(live) == quantity::value(wanted))
        }
        _ => live == wanted,
    }
}
