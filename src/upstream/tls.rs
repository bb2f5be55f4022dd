//! Whom an encrypted connection to the app trusts.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Trusts the system's roots, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set.
///
/// # Errors
///
/// A message, when there is not one usable root.
pub fn native_roots() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A root that cannot be read is one that is not trusted: that is no reason to trust none.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "no root certificate to trust the upstream by: {}",
            reasons.join("; ")
        ));
    }
    trusting(roots)
}

/// Trusts `roots` and nothing else.
///
/// # Errors
///
/// A message, should the cryptography provider support no version of TLS.
pub fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    // The provider is named: the process may have none, or another one, as its default.
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
