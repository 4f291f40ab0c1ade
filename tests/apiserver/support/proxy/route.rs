//! What a request asks for, in the words of roles.

use hyper::{Method, Uri};

/// Verb and object of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Empty: the core group.
    pub group: String,
    /// With its subresource: `services/status`. Of a path that names none, the whole path.
    pub resource: String,
    /// Empty: the cluster, or all namespaces.
    pub namespace: String,
    /// Empty: all objects, or one that is being created.
    pub name: String,
}

impl Route {
    /// Reads a request's first line.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).peekable();
        let group = match parts.next() {
            Some("api") => Some(""),
            Some("apis") => parts.next(),
            _ => None,
        };
        let (Some(group), Some(_version)) = (group, parts.next()) else {
            return Self {
                verb: method.as_str().to_lowercase(),
                resource: uri.path().to_owned(),
                ..Self::default()
            };
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            // `namespaces/x` alone is a namespace, and so are its own subresources.
            ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status" | "finalize"]) => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (resource, name) = match rest {
            [resource] => ((*resource).to_owned(), ""),
            [resource, name] => ((*resource).to_owned(), *name),
            [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), *name),
            [] => (String::new(), ""),
        };
        let watches = uri
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"));
        let verb = match (method.as_str(), name.is_empty()) {
            ("GET", _) if watches => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            (other, _) => other,
        };
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether it is asked in order to change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(method: Method, uri: &'static str) -> String {
        let Route { verb, group, resource, namespace, name } = Route::of(&method, &Uri::from_static(uri));
        format!("{verb} {group}|{resource}|{namespace}|{name}")
    }

    #[test]
    fn requests_are_read() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/services?limit=500", "list |services||"),
            (Method::GET, "/api/v1/namespaces/a/services/web?watch=true", "watch |services|a|web"),
            (Method::GET, "/api/v1/namespaces/a", "get |namespaces||a"),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "update |namespaces/finalize||a"),
            (
                Method::PATCH,
                "/api/v1/namespaces/a/services/web/status?fieldManager=x",
                "patch |services/status|a|web",
            ),
            (Method::POST, "/apis/apps/v1/namespaces/a/deployments", "create apps|deployments|a|"),
            (
                Method::DELETE,
                "/apis/sluice.io/v1alpha1/ipreservations/x.y.1",
                "delete sluice.io|ipreservations||x.y.1",
            ),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection |pods|a|"),
            (Method::GET, "/readyz", "get |/readyz||"),
            (Method::GET, "/apis", "get |/apis||"),
        ] {
            assert_eq!(words(method, uri), expected, "{uri}");
        }
    }
}
