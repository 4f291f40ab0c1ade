//! Keys, certificates and tokens of a control plane, made anew for each.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// What signs the tokens of service accounts. This and the following are files in the control plane's folder.
pub const ACCOUNTS_KEY: &str = "accounts.key";
/// The certificate that the server's is signed by.
pub const AUTHORITY: &str = "authority.crt";
const ACCOUNTS_PUBLIC_KEY: &str = "accounts.pub";
const SERVER_CERTIFICATE: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const TOKENS: &str = "tokens.csv";

/// The API server's flags that name the files, for one that is started in their folder.
pub const API_SERVER_FLAGS: [(&str, &str); 6] = [
    ("tls-cert-file", SERVER_CERTIFICATE),
    ("tls-private-key-file", SERVER_KEY),
    ("token-auth-file", TOKENS),
    ("service-account-issuer", "https://kubernetes.default.svc"),
    ("service-account-signing-key-file", ACCOUNTS_KEY),
    ("service-account-key-file", ACCOUNTS_PUBLIC_KEY),
];

/// Somebody whom the API server knows. The token is the user's name: these servers are reachable on loopback devices and in namespaces alone, and
/// for as long as somebody tries something.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// The user's name, and the token.
    pub name: &'a str,
    /// The user's only group, or none if empty.
    pub group: &'a str,
}

/// May do everything.
pub const ADMIN: User<'static> = User { name: "admin", group: "system:masters" };

/// Writes the files into `folder`, for a server with these addresses. Returns the certificate (DER) that the server's is signed by.
///
/// # Errors
/// The folder is not writable.
pub fn make(folder: &Path, addresses: &[IpAddr], users: &[User<'_>]) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().context("making a key")?;
    let authority = CertifiedIssuer::self_signed(params, key).context("making a certificate authority")?;

    let mut params = CertificateParams::default();
    params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
    let key = KeyPair::generate().context("making a key")?;
    let certificate = params.signed_by(&key, &authority).context("making a certificate")?;

    let accounts = KeyPair::generate().context("making a key")?;
    let tokens: String =
        users.iter().map(|User { name, group }| format!("{name},{name},{name},{group}\n")).collect();
    for (name, text) in [
        (AUTHORITY, authority.pem()),
        (SERVER_CERTIFICATE, certificate.pem()),
        (SERVER_KEY, key.serialize_pem()),
        (ACCOUNTS_KEY, accounts.serialize_pem()),
        (ACCOUNTS_PUBLIC_KEY, accounts.public_key_pem()),
        (TOKENS, tokens),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(authority.der().to_vec())
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
