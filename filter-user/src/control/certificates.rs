//! Certificates and keys for control over the network, both ends: files to rustls configurations. TLS 1.3 only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::settings;

/// Names of one certificate that are looked at.
const NAMES: usize = 64;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What the daemon needs.
pub(super) fn server(files: &settings::Remote) -> Result<Arc<ServerConfig>> {
    let roots = Arc::new(roots(&files.client_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .with_context(|| format!("{} signs no clients", files.client_ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&files.certificate)?, key(&files.key)?)
        .context("the certificate and the key do not fit")?;
    // a resumed session would outlive its certificate
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a command needs.
pub(super) fn client(ca: &Path, certificate: &Path, private: &Path) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain(certificate)?, key(private)?)
        .context("the certificate and the key do not fit")?;
    Ok(Arc::new(config))
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{} holds no sound certificate", path.display()))?;
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read certificates from {}", path.display());
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(unreadable)?;
    if chain.is_empty() {
        bail!("{} holds no certificate in PEM form", path.display());
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let unreadable = || format!("cannot read a private key from {}", path.display());
    let mode = fs::metadata(path)
        .with_context(unreadable)?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        bail!(
            "everybody can get at the private key {} (mode {:04o}); chmod o-rwx it",
            path.display(),
            mode & 0o7777
        );
    }
    PrivateKeyDer::from_pem_file(path).with_context(unreadable)
}

/// The names a certificate speaks for: the subject's common name, then DNS names, mail addresses and URIs.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let common = parsed.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok());
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let alternatives = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some(*name)
            }
            _ => None,
        });
    common
        .chain(alternatives)
        .take(NAMES)
        .map(str::to_owned)
        .collect()
}
