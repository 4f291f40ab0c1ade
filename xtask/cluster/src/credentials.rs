//! Keys, certificates and tokens of a control plane, made anew for each.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use crate::folder::Folder;

/// Files in the servers' folder.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The key of the above.
pub const SERVER_KEY: &str = "server.key";
/// Tokens and the users that they stand for.
pub const TOKENS: &str = "tokens.csv";
/// What signs the tokens of service accounts.
pub const ACCOUNTS_KEY: &str = "accounts.key";
/// What they are checked by.
pub const ACCOUNTS_PUBLIC_KEY: &str = "accounts.pub";
/// The certificate that the server's is signed by.
pub const AUTHORITY: &str = "authority.crt";

/// What clients need to know.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate (DER) that the server's is signed by.
    pub authority: Vec<u8>,
    /// Lets its bearer do everything.
    pub admin_token: String,
}

impl Credentials {
    /// Writes them into `folder`, for a server on `address`.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn make(folder: &Folder, address: IpAddr) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().context("making a key")?;
        let authority =
            CertifiedIssuer::self_signed(params, key).context("making a certificate authority")?;

        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &authority).context("making a certificate")?;

        let accounts = KeyPair::generate().context("making a key")?;
        // Reachable on the loopback device alone, and for as long as a test runs: the token need not be a secret.
        let admin_token = "admin".to_owned();
        folder.write(AUTHORITY, &authority.pem())?;
        folder.write(SERVER_CERTIFICATE, &certificate.pem())?;
        folder.write(SERVER_KEY, &key.serialize_pem())?;
        folder.write(ACCOUNTS_KEY, &accounts.serialize_pem())?;
        folder.write(ACCOUNTS_PUBLIC_KEY, &accounts.public_key_pem())?;
        folder.write(TOKENS, &format!("{admin_token},admin,admin,system:masters\n"))?;
        Ok(Self { authority: authority.der().to_vec(), admin_token })
    }

    /// A kubeconfig beside the files, for a server at `url`.
    pub fn kubeconfig(&self, url: &str, token: &str) -> String {
        kubeconfig(url, Some(AUTHORITY), token, "default")
    }
}

/// A kubeconfig; `authority` is the file of the certificate that the server's is signed by, `namespace` where its user is at home.
pub fn kubeconfig(url: &str, authority: Option<&str>, token: &str, namespace: &str) -> String {
    let authority = authority.map(|file| format!(", certificate-authority: {file}")).unwrap_or_default();
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters: [{{name: test, cluster: {{server: \"{url}\"{authority}}}}}]\n\
         users: [{{name: test, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test, namespace: {namespace}}}}}]\n\
         current-context: test\n"
    )
}
