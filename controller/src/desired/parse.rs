//! Texts of settings, as annotations and flags have them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sluice_gateway::config::limits::MAX_FLOWS;

use super::quantity;

/// Why a text is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {fix}")]
pub struct NotASetting {
    /// What is wrong.
    pub fault: String,
    /// What to write.
    pub fix: &'static str,
}

/// Labels as `key=value,key=value`.
///
/// # Errors
/// A part without `=`, a key that comes twice, or one that no label can have.
pub fn node_selector(text: &str) -> Result<BTreeMap<String, String>, NotASetting> {
    let fix = "write labels of nodes as key=value,key=value";
    let mut selector = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let refuse = |why: &str| NotASetting { fault: format!("`{part}` {why}"), fix };
        let (key, value) = part.split_once('=').ok_or_else(|| refuse("is not a label"))?;
        if !is_key(key) || !(value.is_empty() || is_name(value)) {
            return Err(refuse("is not a label"));
        }
        if selector.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(refuse("names a label twice"));
        }
    }
    Ok(selector)
}

/// Tolerations as a list in JSON or YAML, with the fields of a pod's `spec.tolerations`.
///
/// # Errors
/// Another form, an unknown field, or a toleration that the API server would refuse.
pub fn tolerations(text: &str) -> Result<Vec<Toleration>, NotASetting> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Written {
        key: Option<String>,
        operator: Option<String>,
        value: Option<String>,
        effect: Option<String>,
        toleration_seconds: Option<i64>,
    }
    let fix = r#"write a list such as [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}]"#;
    let written: Vec<Written> = structured(text, fix)?;
    written
        .into_iter()
        .enumerate()
        .map(|(index, written)| {
            let Written { key, operator, value, effect, toleration_seconds } = written;
            let toleration = Toleration { key, operator, value, effect, toleration_seconds };
            match fault_of(&toleration) {
                None => Ok(toleration),
                Some(fault) => Err(NotASetting { fault: format!("[{index}].{fault}"), fix }),
            }
        })
        .collect()
}

/// What the API server would refuse about `toleration`.
fn fault_of(toleration: &Toleration) -> Option<&'static str> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, value) = (text(&toleration.key), text(&toleration.value));
    let exists = match text(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => false,
        _ => return Some("operator: is Exists or Equal"),
    };
    let effect = text(&toleration.effect);
    if !matches!(effect.as_str(), "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        Some("effect: is NoSchedule, PreferNoSchedule or NoExecute")
    } else if key.is_empty() && !exists {
        Some("operator: is Exists where there is no key")
    } else if !key.is_empty() && !is_key(&key) {
        Some("key: is not the key of a taint")
    } else if exists && !value.is_empty() {
        Some("value: is empty with the operator Exists")
    } else if !value.is_empty() && !is_name(&value) {
        Some("value: is not the value of a taint")
    } else if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        Some("tolerationSeconds: needs the effect NoExecute")
    } else {
        None
    }
}

/// Resources as `requests` and `limits` in JSON or YAML; quantities come out in canonical form.
///
/// # Errors
/// Another form, an unknown field, something that is not a quantity or is negative, or a request above its limit.
pub fn resources(text: &str) -> Result<ResourceRequirements, NotASetting> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        #[serde(default)]
        requests: BTreeMap<String, Amount>,
        #[serde(default)]
        limits: BTreeMap<String, Amount>,
    }
    /// Kubernetes takes numbers for quantities as well.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Amount {
        Text(String),
        Integer(u64),
        Number(f64),
    }
    let fix = r#"write it such as {"requests": {"cpu": "100m"}, "limits": {"memory": "256Mi"}}"#;
    let Written { requests, limits } = structured(text, fix)?;
    let quantities = |field: &str, amounts: BTreeMap<String, Amount>| {
        let read = |(name, amount): (String, Amount)| {
            let text = match amount {
                Amount::Text(text) => text,
                Amount::Integer(number) => number.to_string(),
                Amount::Number(number) => number.to_string(),
            };
            let refuse = || NotASetting { fault: format!("{field}.{name}: `{text}` is not an amount"), fix };
            let amount =
                quantity::value(&text).filter(|value| *value >= 0).and_then(|_| quantity::canonical(&text));
            Ok((name.clone(), Quantity(amount.ok_or_else(refuse)?)))
        };
        amounts.into_iter().map(read).collect::<Result<BTreeMap<_, _>, NotASetting>>()
    };
    let (requests, limits) = (quantities("requests", requests)?, quantities("limits", limits)?);
    for (name, limit) in &limits {
        let request = requests.get(name).and_then(|request| quantity::value(&request.0));
        if request > quantity::value(&limit.0) {
            return Err(NotASetting { fault: format!("requests.{name} is more than limits.{name}"), fix });
        }
    }
    let some = |map: BTreeMap<_, _>| (!map.is_empty()).then_some(map);
    Ok(ResourceRequirements { claims: None, requests: some(requests), limits: some(limits) })
}

/// Connections for each address family, as a number.
///
/// # Errors
/// Not a number within the gateway's bounds.
pub fn max_flows(text: &str) -> Result<u32, NotASetting> {
    text.parse().ok().filter(|flows| MAX_FLOWS.contains(flows)).ok_or_else(|| NotASetting {
        fault: "not a number of flows".to_owned(),
        fix: "write a number from 64 to 16777216",
    })
}

/// What `text` holds as YAML, which JSON is, too.
fn structured<T: DeserializeOwned>(text: &str, fix: &'static str) -> Result<T, NotASetting> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|fault| NotASetting { fault: fault.to_string(), fix })
}

/// The key of a label or taint: a name, or a DNS name, a slash and a name.
fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_part = |part: &str| is_name(part) && !part.contains('_') && part == part.to_lowercase();
    is_name(name) && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_part))
}

/// A name as labels have it: 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(good) && ends(bytes.first()) && ends(bytes.last())
}
