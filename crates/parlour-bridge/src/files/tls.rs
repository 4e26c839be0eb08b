//! TLS between two bridges: version 1.3 only, certificates on both sides, and the host that a certificate is for.
//!
//! No session is resumed: each connection verifies the certificates anew, and a certificate that has expired begins no
//! further one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};

use super::config::TlsFiles;
use super::finding::Finding;
use crate::identity::Host;
use crate::wire::ALPN;

/// The identity of this host towards other bridges, read from its files.
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files. A later change of them has no effect: read them again.
    ///
    /// # Errors
    ///
    /// A file cannot be read, is malformed, or does not belong to the others. [`check`](super::check::check) says more.
    pub fn read(files: &TlsFiles) -> Result<Self, Finding> {
        let wrong = |path: &Path| {
            let place = path.display().to_string();
            move |problem: String| Finding::mistake(place, problem, "run the check of the configuration")
        };
        let authorities = read(&files.authority).map_err(wrong(&files.authority))?;
        let authorities = certificates(&authorities).map_err(wrong(&files.authority))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| wrong(&files.authority)(error.to_string()))?;
        }
        let chain = read(&files.certificate).map_err(wrong(&files.certificate))?;
        let chain = certificates(&chain).map_err(wrong(&files.certificate))?;
        let key = read(&files.key).map_err(wrong(&files.key))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(&files.key)(error.to_string()))?;
        Self::new(Arc::new(roots), chain, key).map_err(|problem| wrong(&files.certificate)(problem))
    }

    fn new(
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, String> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let server = server.map_err(|error| error.to_string())?.with_client_cert_verifier(verifier);
        let server = server.with_single_cert(chain.clone(), key.clone_key());
        let mut server = server.map_err(|error| error.to_string())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let client = client.map_err(|error| error.to_string())?.with_webpki_verifier(verifier);
        let client = client.with_client_auth_cert(chain, key);
        let mut client = client.map_err(|error| error.to_string())?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }

    /// Returns the configuration of the side that was dialled.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Returns the configuration of the side that dials. The name of the connection is [`server_name`] of the host.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

/// Returns the name that the certificate of this host must have.
///
/// # Errors
///
/// The reason as a lower-case fragment. No name that [`Host::parse`] accepts is known to fail.
pub fn server_name(host: &Host) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Returns the host of the peer, once the handshake is complete.
///
/// # Errors
///
/// The reason as a lower-case fragment: the peer does not speak `parlour-bridge/1`, or its certificate is not for
/// exactly one host.
pub fn peer(connection: &CommonState) -> Result<Host, String> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(format!("the peer has not asked for the protocol {}", String::from_utf8_lossy(ALPN)));
    }
    let own = connection.peer_certificates().and_then(<[_]>::first);
    host_of(own.ok_or_else(|| "the peer has no certificate".to_owned())?)
}

/// Returns the host that a certificate is for: its only DNS name.
///
/// # Errors
///
/// The reason as a lower-case fragment.
pub fn host_of(certificate: &CertificateDer<'_>) -> Result<Host, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| format!("it is malformed: {error}"))?;
    let names: Vec<&str> = parsed.valid_dns_names().collect();
    match names[..] {
        // Otherwise the exports to one host would be open to another one.
        [name] => Host::parse(name),
        [] => Err("the certificate has no DNS name".to_owned()),
        _ => Err(format!("the certificate has {} DNS names, and a host has one", names.len())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match list {
        Ok(list) if list.is_empty() => Err("contains no certificate".to_owned()),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

#[cfg(test)]
mod tests;
