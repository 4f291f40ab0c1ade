//! The API server's audit log: who asked for what.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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
    /// The object's; empty where many are meant.
    pub name: String,
    /// Whether it was let through.
    pub allowed: bool,
    /// Whether it did what was asked.
    pub succeeded: bool,
}

impl Access {
    /// Whether it has changed something.
    pub fn is_write(&self) -> bool {
        self.succeeded && !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
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
    name: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// What `user` asked for, as the log has it from byte `start` on, and where it ends; requests for other things than resources are left out.
///
/// # Errors
/// The file cannot be read, or is no audit log.
pub fn read(log: &Path, user: &str, start: u64) -> Result<(Vec<Access>, u64)> {
    let what = || format!("reading {}", log.display());
    let mut file = File::open(log).with_context(what)?;
    file.seek(SeekFrom::Start(start)).with_context(what)?;
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(what)?;
    // The last line may not be complete yet.
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    let mut found = Vec::new();
    // Most lines are other users', and to parse them takes long.
    for line in text.lines().filter(|line| line.contains(user)) {
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
            name: object.name,
            allowed: event.response_status.code != 403,
            succeeded: (200..300).contains(&event.response_status.code),
        });
    }
    Ok((found, start + text.len() as u64))
}
