//! The controller's role: what the code asks the API server for, and nothing else.

mod needs;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

pub use needs::{NEEDS, RELEASE_NEEDS};

/// Name of all objects of the role, and of the account.
pub const NAME: &str = "sluice-controller";
/// API group of roles.
const GROUP: &str = "rbac.authorization.k8s.io";

/// Where something is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster, also where Services of one namespace only are served.
    Cluster,
    /// In the namespaces whose Services are served.
    Served,
    /// In the controller's own namespace, which has the leader's Lease.
    Home,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Cluster, Self::Served, Self::Home];

    /// As the chart calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Served => "served",
            Self::Home => "home",
        }
    }
}

/// Verbs on a resource, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Where.
    pub scope: Scope,
    /// API group; empty: the core.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Only the objects of these names; empty: all.
    pub names: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

/// Whom the role is for.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Its own namespace, which has its account and its Lease.
    pub namespace: String,
    /// The only namespace whose Services it serves; `None`: all.
    pub serves: Option<String>,
}

/// An object of the role.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// Whom the controller's pods run as.
    Account(ServiceAccount),
    /// What is needed in the whole cluster.
    ClusterRole(ClusterRole),
    /// Gives it to the account.
    ClusterRoleBinding(ClusterRoleBinding),
    /// What is needed in one namespace.
    Role(Role),
    /// Gives it to the account.
    RoleBinding(RoleBinding),
}

/// The account, its roles and their bindings.
pub fn objects(controller: &Controller) -> Vec<Object> {
    let account =
        ServiceAccount { metadata: metadata(NAME, Some(&controller.namespace)), ..ServiceAccount::default() };
    // Controllers for different namespaces share a cluster.
    let name =
        controller.serves.as_ref().map_or_else(|| NAME.to_owned(), |serves| format!("{NAME}-{serves}"));
    let in_cluster = |scope| match scope {
        Scope::Cluster => true,
        Scope::Served => controller.serves.is_none(),
        Scope::Home => false,
    };
    let mut objects = vec![
        Object::Account(account),
        Object::ClusterRole(ClusterRole {
            metadata: metadata(&name, None),
            rules: Some(rules(NEEDS, in_cluster)),
            ..ClusterRole::default()
        }),
        Object::ClusterRoleBinding(ClusterRoleBinding {
            metadata: metadata(&name, None),
            role_ref: role("ClusterRole", &name),
            subjects: Some(vec![subject(controller)]),
        }),
    ];
    let mut in_namespace = |namespace: &str, name: &str, needed: &dyn Fn(Scope) -> bool| {
        objects.push(Object::Role(Role {
            metadata: metadata(name, Some(namespace)),
            rules: Some(rules(NEEDS, needed)),
        }));
        objects.push(Object::RoleBinding(RoleBinding {
            metadata: metadata(name, Some(namespace)),
            role_ref: role("Role", name),
            subjects: Some(vec![subject(controller)]),
        }));
    };
    in_namespace(&controller.namespace, &format!("{name}-lease"), &|scope| scope == Scope::Home);
    if let Some(serves) = &controller.serves {
        in_namespace(serves, &name, &|scope| scope == Scope::Served);
    }
    objects
}

/// The rules of both roles, `run` and `release`, by [`Scope`]: what the chart makes roles of.
pub fn rules_of_chart() -> BTreeMap<&'static str, BTreeMap<&'static str, Vec<PolicyRule>>> {
    let by_scope =
        |needs| Scope::ALL.into_iter().map(|of| (of.name(), rules(needs, |scope| scope == of))).collect();
    BTreeMap::from([("run", by_scope(NEEDS)), ("release", by_scope(RELEASE_NEEDS))])
}

/// [`NEEDS`] as comments of a YAML file.
pub fn explanation() -> String {
    let line = |need: &Need| {
        let group = if need.group.is_empty() { String::new() } else { format!(".{}", need.group) };
        format!("#   {}{group}: {}: {}\n", need.resource, need.verbs.join(", "), need.why)
    };
    let lines: String = NEEDS.iter().map(line).collect();
    format!("# What sluice-controller asks for, and what for:\n#\n{lines}")
}

fn rules(needs: &[Need], needed: impl Fn(Scope) -> bool) -> Vec<PolicyRule> {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rule = |need: &Need| PolicyRule {
        api_groups: Some(vec![need.group.to_owned()]),
        resources: Some(vec![need.resource.to_owned()]),
        verbs: strings(need.verbs),
        resource_names: Some(strings(need.names)).filter(|names| !names.is_empty()),
        non_resource_urls: None,
    };
    needs.iter().filter(|need| needed(need.scope)).map(rule).collect()
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    let labels = [("app.kubernetes.io/name".to_owned(), NAME.to_owned())];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels.into()),
        ..ObjectMeta::default()
    }
}

fn role(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: GROUP.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subject(controller: &Controller) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: NAME.to_owned(),
        namespace: Some(controller.namespace.clone()),
        api_group: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules by kind and namespace of their role.
    fn granted(serves: Option<&str>) -> Vec<(String, Vec<PolicyRule>)> {
        let controller = Controller { namespace: "sluice-system".into(), serves: serves.map(str::to_owned) };
        let rules = |object| match object {
            Object::ClusterRole(role) => Some(("cluster".to_owned(), role.rules?)),
            Object::Role(role) => Some((role.metadata.namespace?, role.rules?)),
            _ => None,
        };
        objects(&controller).into_iter().filter_map(rules).collect()
    }

    #[test]
    fn each_need_is_granted_once_and_where_it_is_needed() {
        for serves in [None, Some("edge")] {
            let granted = granted(serves);
            let count: usize = granted.iter().map(|(_, rules)| rules.len()).sum();
            assert_eq!(count, NEEDS.len());
            for need in NEEDS {
                let place = match (need.scope, serves) {
                    (Scope::Cluster, _) | (Scope::Served, None) => "cluster",
                    (Scope::Served, Some(serves)) => serves,
                    (Scope::Home, _) => "sluice-system",
                };
                let has = |rule: &PolicyRule| {
                    rule.api_groups.as_deref() == Some(&[need.group.to_owned()])
                        && rule.resources.as_deref() == Some(&[need.resource.to_owned()])
                        && rule.verbs == need.verbs
                        && rule.resource_names.is_some() != need.names.is_empty()
                };
                assert!(
                    granted.iter().any(|(at, rules)| at == place && rules.iter().any(has)),
                    "{need:?} in {place} with {serves:?}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_granted_wholesale() {
        for need in NEEDS.iter().chain(RELEASE_NEEDS) {
            assert!(!need.verbs.contains(&"*") && need.resource != "*" && need.group != "*", "{need:?}");
            assert_ne!(need.resource, "secrets");
            assert!(!need.why.is_empty());
        }
    }

    #[test]
    fn controllers_of_different_namespaces_do_not_share_a_role() {
        let names = |serves: &str| {
            let controller = Controller { namespace: "sluice-system".into(), serves: Some(serves.into()) };
            let name = |object| match object {
                Object::ClusterRole(role) => role.metadata.name,
                Object::Role(role) => role.metadata.name,
                _ => None,
            };
            objects(&controller).into_iter().filter_map(name).collect::<Vec<_>>()
        };
        assert!(names("a").iter().all(|name| !names("b").contains(name)));
    }
}
