//! The API server's audit log: who asked for what.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The log's file in the servers' folder.
pub const LOG: &str = "audit.log";

/// Only service accounts, as which the controllers under test run: everybody else here may do everything anyway.
pub const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: [\"system:serviceaccounts\"]}
- {level: None}
";

/// One request, in the words of roles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// Empty: the core group.
    pub group: String,
    /// With its subresource: `services/status`.
    pub resource: String,
    /// As in a role: `get`, `list`, `watch`, ...
    pub verb: String,
    /// The namespace; empty: the cluster.
    pub namespace: String,
    /// Whether it was let through.
    pub allowed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Option<Object>,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// What `user` asked for, as the log has it; requests for other things than resources are left out.
///
/// # Errors
/// The file cannot be read, or is no audit log.
pub fn read(log: &Path, user: &str) -> Result<Vec<Access>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let mut found = Vec::new();
    // The last line may not be complete yet.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let event: Event = serde_json::from_str(line).with_context(|| format!("an audit event: {line}"))?;
        let Some(object) = event.object_ref.filter(|object| !object.resource.is_empty()) else { continue };
        if event.user.username != user {
            continue;
        }
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        found.push(Access {
            group: object.api_group,
            resource,
            verb: event.verb,
            namespace: object.namespace,
            allowed: event.response_status.code != 403,
        });
    }
    Ok(found)
}
