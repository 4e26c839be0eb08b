//! TLS for the relay, with the certificates and the settings of the bridge: version 1.3, certificates on both sides, no
//! session is resumed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both sides.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) acceptor: TlsAcceptor,
    /// The name of the side that is dialled.
    pub(crate) exporter: ServerName<'static>,
}

/// Reads the certificates of `a.example`, which is dialled, and of `b.example` from the directory of a realm.
pub(crate) fn read(realm: &Path) -> Result<Tls> {
    let own = |host: &str| {
        let certificate = CertificateDer::from_pem_file(realm.join(format!("{host}.pem")))?;
        anyhow::Ok((vec![certificate], PrivateKeyDer::from_pem_file(realm.join(format!("{host}.key")))?))
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(realm.join("ca.pem"))?)?;
    let (provider, roots) = (Arc::new(ring::default_provider()), Arc::new(roots));

    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
    let (chain, key) = own("a.example")?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
    let mut server = server.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    server.send_tls13_tickets = 0;

    let (chain, key) = own("b.example")?;
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut client = client.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    client.resumption = Resumption::disabled();
    Ok(Tls {
        connector: Arc::new(client).into(),
        acceptor: Arc::new(server).into(),
        exporter: ServerName::try_from("a.example")?,
    })
}
