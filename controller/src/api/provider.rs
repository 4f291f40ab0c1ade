//! `<nad>.<namespace>`: how Services and Subnets name a network.

use std::fmt;
use std::str::FromStr;

/// The NetworkAttachmentDefinition that a Service or a Subnet means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Name of the NetworkAttachmentDefinition.
    pub nad: String,
    /// Its namespace.
    pub namespace: String,
}

/// A text is not two names joined by one dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not <name>.<namespace> of a NetworkAttachmentDefinition")]
pub struct NotAProvider;

impl FromStr for Provider {
    type Err = NotAProvider;

    fn from_str(text: &str) -> Result<Self, NotAProvider> {
        match text.split_once('.') {
            Some((nad, namespace)) if is_label(nad) && is_label(namespace) => {
                Ok(Self { nad: nad.to_owned(), namespace: namespace.to_owned() })
            }
            _ => Err(NotAProvider),
        }
    }
}

/// A DNS label (RFC 1123), what namespaces are named by, and what a name must be to be told from the namespace behind it.
fn is_label(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.nad, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_required() {
        let provider: Provider = "lb-svc-attachment.kube-system".parse().unwrap();
        assert_eq!(
            (provider.nad.as_str(), provider.namespace.as_str()),
            ("lb-svc-attachment", "kube-system")
        );
        assert_eq!(provider.to_string(), "lb-svc-attachment.kube-system");
        for bad in ["", ".", "nad", "nad.", ".ns", "a.b.c", "a.b.ovn", "A.b", "a b.c", "-a.b", "ns/nad"] {
            assert_eq!(bad.parse::<Provider>(), Err(NotAProvider), "{bad:?}");
        }
    }
}
