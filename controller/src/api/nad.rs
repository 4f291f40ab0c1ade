//! NetworkAttachmentDefinitions, and the CNI configuration in them.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::namespaced_name;
use crate::Refusal;

/// A network that multus gives to pods.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "k8s.cni.cncf.io",
    version = "v1",
    kind = "NetworkAttachmentDefinition",
    plural = "network-attachment-definitions",
    namespaced,
    derive = "Default",
    derive = "PartialEq"
)]
pub struct NetworkAttachmentDefinitionSpec {
    /// CNI configuration as JSON text; empty: a file on the node has it.
    #[serde(default)]
    pub config: String,
}

/// What is read of a CNI configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The plugin that makes the interface, such as `macvlan`; `None` where a file on the node says it.
    pub plugin: Option<String>,
    /// The plugin that gives the interface's addresses, such as `static` or `kube-ovn`; `None` where nothing gives any.
    pub ipam: Option<String>,
    /// Whether the text has `//` comments, which are no JSON: the CNI runtime refuses them.
    pub has_comments: bool,
    /// All of it, without comments; null where a file on the node has it.
    pub content: Value,
}

impl NetworkAttachmentDefinition {
    /// API version and kind in manifests.
    pub const API: (&str, &str) = ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition");

    /// `NetworkAttachmentDefinition <namespace>/<name>`, as refusals call it.
    pub fn describe(&self) -> String {
        format!("NetworkAttachmentDefinition {}", namespaced_name(&self.metadata))
    }

    /// The CNI configuration. Comments are tolerated.
    ///
    /// # Errors
    /// The text is not JSON even without its comments.
    pub fn network(&self) -> Result<NetworkConfig, Refusal> {
        self.parse().map_err(|fault| {
            let fix = "write the CNI configuration as JSON";
            Refusal::new(&self.describe(), "spec.config", format!("not JSON ({fault})"), fix)
        })
    }

    fn parse(&self) -> Result<NetworkConfig, serde_json::Error> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(rename = "type")]
            plugin: Option<String>,
            ipam: Option<Ipam>,
            #[serde(default)]
            plugins: Vec<Config>,
        }
        #[derive(Deserialize)]
        struct Ipam {
            #[serde(rename = "type")]
            plugin: Option<String>,
        }
        let text = self.spec.config.as_str();
        if text.trim().is_empty() {
            return Ok(NetworkConfig { plugin: None, ipam: None, has_comments: false, content: Value::Null });
        }
        let parse = |text: &str| serde_json::from_str::<Value>(text);
        let (content, has_comments) = match parse(text) {
            Ok(content) => (content, false),
            Err(fault) => {
                let content = parse(&without_comments(text, line_end))
                    .or_else(|_| parse(&without_comments(text, folded_end)));
                (content.map_err(|_| fault)?, true)
            }
        };
        let config = Config::deserialize(&content)?;
        // Of a chain the first makes the interface.
        let Config { plugin, ipam, plugins } = config;
        let first = plugins.into_iter().next();
        let (plugin, ipam) = match first {
            Some(first) => (plugin.or(first.plugin), ipam.or(first.ipam)),
            None => (plugin, ipam),
        };
        Ok(NetworkConfig { plugin, ipam: ipam.and_then(|ipam| ipam.plugin), has_comments, content })
    }
}

/// `json` without its `//` comments, whose length `end` finds from the text after the slashes.
fn without_comments(json: &str, end: fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find(['"', '/']) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        if let Some(comment) = from.strip_prefix("//") {
            rest = &comment[end(comment)..];
        } else {
            let length = if from.starts_with('"') { string_length(from) } else { 1 };
            out.push_str(&from[..length]);
            rest = &from[length..];
        }
    }
    out.push_str(rest);
    out
}

/// Where a comment ends that ends with its line.
fn line_end(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Where a comment ends whose line end a quoted YAML scalar has folded into a space: nothing marks it any more, so it is taken to end
/// before the next key (`"..." :`) or closing bracket.
fn folded_end(text: &str) -> usize {
    let ends = |(index, character): (usize, char)| match character {
        '}' | ']' => true,
        '"' => {
            let rest = &text[index..];
            rest[string_length(rest)..].trim_start().starts_with(':')
        }
        _ => false,
    };
    text.char_indices().find(|at| ends(*at)).map_or(text.len(), |(index, _)| index)
}

/// Bytes of the JSON string that `text` starts with, quotes included; all of `text` if it does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(config: &str) -> Result<NetworkConfig, Refusal> {
        let spec = NetworkAttachmentDefinitionSpec { config: config.to_owned() };
        NetworkAttachmentDefinition::new("external", spec).network()
    }

    #[test]
    fn plain_configurations() {
        let plain = |config: &str, plugin: Option<&str>, ipam: Option<&str>| {
            let network = network(config).unwrap();
            assert_eq!((network.plugin.as_deref(), network.ipam.as_deref()), (plugin, ipam), "{config}");
            assert!(!network.has_comments, "{config}");
        };
        plain("", None, None);
        plain(r#"{"type": "macvlan", "ipam": {"type": "static"}}"#, Some("macvlan"), Some("static"));
        let chain = r#"{"plugins": [{"type": "macvlan", "ipam": {"type": "kube-ovn"}}, {"type": "tuning"}]}"#;
        plain(chain, Some("macvlan"), Some("kube-ovn"));
        plain(r#"{"type": "macvlan", "ipam": {}}"#, Some("macvlan"), None);
        plain(r#"{"type": "a//b", "x": "\"//"}"#, Some("a//b"), None);
        assert!(network("{").is_err());
        assert!(network("macvlan").is_err());
    }

    #[test]
    fn comments_with_and_without_line_ends() {
        let macvlan = |text: &str| {
            let network = network(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!((network.plugin.as_deref(), network.ipam), (Some("macvlan"), None), "{text}");
            assert!(network.has_comments, "{text}");
        };
        macvlan("{ // \"one\": 1, }\n \"type\": \"macvlan\" }");
        macvlan(r#"{ "master": "eth0", // the card "type": "macvlan" }"#);
        macvlan(r#"{ "type": "macvlan", "master": "eth0" // the "real" card }"#);
        macvlan(r#"{ "type": "macvlan", "a": [1 // one ], "b": 2 // two }"#);
        macvlan("{ \"type\": \"macvlan\" }// end");
    }

    #[test]
    fn the_content_is_the_same_with_and_without_comments() {
        let content = |text: &str| network(text).unwrap().content;
        let plain = content(r#"{"type": "macvlan", "master": "eth0"}"#);
        assert_eq!(content("{\"master\": \"eth0\", // the card\n \"type\": \"macvlan\"}"), plain);
        assert_ne!(content(r#"{"type": "macvlan", "master": "eth1"}"#), plain);
        assert_eq!(content(" \n"), Value::Null);
    }

    proptest! {
        #[test]
        fn comments_of_any_form_never_panic(text in "[\"/\\\\{}\\[\\]:,a\n字 ]{0,40}") {
            let _ = network(&text);
        }

        #[test]
        fn text_without_comments_is_left_alone(key in "[a-z/\"\\\\]{0,8}", value in "[a-z/\"\\\\]{0,8}") {
            let text = serde_json::json!({ key: value }).to_string();
            prop_assert_eq!(&without_comments(&text, line_end), &text);
            prop_assert_eq!(&without_comments(&text, folded_end), &text);
        }
    }
}
