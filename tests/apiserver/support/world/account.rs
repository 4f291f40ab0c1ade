//! The namespace, and the user that controllers run as, with the role that they get.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::World;
use crate::{programs, wait};

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
        self.apply(&namespace.to_string()).await;
        let accounts = self.api::<ServiceAccount>();
        wait::eventually("the namespace has its service account", async || {
            accounts.get_opt("default").await.ok().flatten().map(drop)
        })
        .await;
    }

    /// Makes the service account that the controllers run as, and gives it the role that the controller prints, and no other.
    pub(super) async fn make_controller_account(&self) {
        let arguments = ["rbac", "--namespace", &self.namespace, "--serve", &self.namespace];
        self.apply(&programs::printed_by_controller(&arguments).unwrap()).await;
    }

    /// Gives it the role of a controller that serves all namespaces, too.
    pub(super) async fn widen_controller_role(&self) {
        let arguments = ["rbac", "--namespace", &self.namespace];
        self.apply(&programs::printed_by_controller(&arguments).unwrap()).await;
    }

    /// A token of that account.
    pub async fn controller_token(&self) -> String {
        token(&self.api(), ACCOUNT).await
    }

    /// The file of a kubeconfig for another account of the test's namespace.
    pub async fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let kubeconfig = self.servers.kubeconfig(&token(&self.api(), account).await, &self.namespace);
        self.folder.write(&format!("{account}.kubeconfig"), &kubeconfig).unwrap()
    }
}

/// A token of an account, good for an hour.
pub async fn token(accounts: &Api<ServiceAccount>, account: &str) -> String {
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let token = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    token.status.unwrap().token
}
