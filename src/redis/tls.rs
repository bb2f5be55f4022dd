//! Whom an encrypted connection to Redis trusts, and what it shows.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector, TlsHostMapping};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::address::{Address, Place};

/// What an address says of encryption, as fred takes it; nothing for an address without.
pub(super) fn config(address: &Address) -> Result<Option<TlsConfig>, String> {
    let Some(files) = &address.tls else {
        return Ok(None);
    };
    let roots = match &files.ca {
        Some(file) => from_file(file)?,
        None => of_system()?,
    };
    // The provider is named: the process may have none, or another one, as its default.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, &error))?;
            let config = config.with_client_auth_cert(certificates(cert)?, secret);
            config.map_err(|error| at(key, &error))?
        }
        _ => config.with_no_client_auth(),
    };
    // A cluster names its nodes by address; their certificates name the host that was asked.
    let hostnames = match address.place {
        Place::Cluster(_) => TlsHostMapping::DefaultHost,
        _ => TlsHostMapping::None,
    };
    Ok(Some(TlsConfig {
        connector: TlsConnector::from(config),
        hostnames,
    }))
}

fn from_file(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| at(file, &error))?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A root that cannot be read is one that is not trusted: that is no reason to trust none.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    match usable {
        0 => Err("no root certificate to trust Redis by: name a file with `?ca=`".to_owned()),
        _ => Ok(roots),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| at(file, &error))?;
    if chain.is_empty() {
        return Err(at(file, &"holds no certificate"));
    }
    Ok(chain)
}

fn at(file: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", file.display())
}
