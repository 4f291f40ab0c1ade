//! The namespace, and the user that controllers run as.

use std::fmt::Debug;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::World;
use crate::wait;

/// The controllers' service account, in the namespace of the test.
const ACCOUNT: &str = "sluice-controller";

impl World {
    /// The user that the audit log knows the test's controllers by.
    pub fn controller_user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace)
    }

    /// Makes the namespace, unless it is there, and waits until pods can be made in it.
    pub(super) async fn make_namespace(&self) {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace } });
        put(&self.cluster_api::<Namespace>(), &self.namespace, &namespace).await;
        let accounts = self.api::<ServiceAccount>();
        wait::eventually("the namespace has its service account", async || {
            accounts.get_opt("default").await.ok().flatten().map(drop)
        })
        .await;
    }

    /// Makes the service account that the controllers run as.
    pub(super) async fn make_controller_account(&self) {
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } });
        put(&self.api::<ServiceAccount>(), ACCOUNT, &account).await;
        let name = format!("{ACCOUNT}-{}", self.namespace);
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace }],
        });
        put(&self.cluster_api::<ClusterRoleBinding>(), &name, &binding).await;
    }

    /// A token of that account.
    pub async fn controller_token(&self) -> String {
        let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts = self.api::<ServiceAccount>();
        let token = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
        token.status.unwrap().token
    }
}

/// Creates an object or gives it the content, whether or not it is there.
async fn put<K: Clone + Debug + DeserializeOwned>(api: &Api<K>, name: &str, object: &Value) {
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}
