//! Control over the network: who gets in with which certificate.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use rustls::pki_types::pem::PemObject;

use super::*;
use crate::access::Directory;
use crate::control::{Certificates, Remote, Secured, Target, serve_remote};
use crate::settings::{self, Members, Roles};

/// A certificate authority with the files it signs.
struct Authority {
    folder: PathBuf,
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Authority {
    fn new(folder: &Path, name: &'static str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        write(&folder.join(format!("{name}.pem")), &certificate.pem());
        Self {
            folder: folder.to_owned(),
            name,
            issuer: Issuer::new(params, key),
        }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Signs; the certificate and its key.
    fn sign(&self, common: &str, names: &[&str], until: i32) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str| self.folder.join(format!("{}-{common}.{what}", self.name));
        write(&file("pem"), &certificate.pem());
        write(&file("key"), &key.serialize_pem());
        (file("pem"), file("key"))
    }
}

const VALID: i32 = 2100;

struct Served {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
    files: settings::Remote,
    certificates: Certificates,
    shared: Arc<Shared>,
    address: String,
    _stop: oneshot::Sender<()>,
}

async fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let servers = Authority::new(folder.path(), "servers");
    let clients = Authority::new(folder.path(), "clients");
    let (certificate, key) = servers.sign("filter", &["localhost"], VALID);
    let files = settings::Remote {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate,
        key,
        client_ca: clients.ca(),
    };
    let shared = Arc::new(Shared::new());
    shared.set_status(Status::default());
    let member = |names: &[&str]| Members {
        certificates: names.iter().map(|&name| name.to_owned()).collect(),
        ..Members::default()
    };
    shared.set_directory(Directory::new(&Roles {
        viewer: member(&["monitor", "watch.example"]),
        operator: member(&["noc"]),
        admin: Members::default(),
    }));
    let certificates = Certificates::read(&files).unwrap();
    let listener = Secured::bind(files.listen, certificates.clone(), Arc::clone(&shared))
        .await
        .unwrap();
    let address = format!("localhost:{}", listener.address().port());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve_remote(listener, Arc::clone(&shared), async {
        drop(stopped.await);
    }));
    Served {
        folder,
        servers,
        clients,
        files,
        certificates,
        shared,
        address,
        _stop: stop,
    }
}

impl Served {
    fn target(&self, (certificate, key): &(PathBuf, PathBuf)) -> Target {
        let remote = Remote::new(&self.address, &self.servers.ca(), certificate, key);
        Target::Remote(remote.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_decides() {
    let served = served().await;
    tokio::spawn(scans::keep(
        served.shared.requests(),
        Vec::new(),
        Vec::new(),
    ));
    let signed = |common, names: &[&str]| served.target(&served.clients.sign(common, names, VALID));
    let source = || "198.51.100.7/32".parse().unwrap();

    let viewer = signed("monitor", &[]);
    status(&viewer).await.unwrap();
    let refused = block(&viewer, source(), None, String::new())
        .await
        .unwrap_err();
    assert!(matches!(refused, ClientError::Forbidden(_)), "{refused}");
    assert!(
        refused.to_string().contains("monitor is viewer"),
        "{refused}"
    );

    let operator = signed("noc", &[]);
    block(&operator, source(), None, String::new())
        .await
        .unwrap();
    assert_eq!(blocks(&operator).await.unwrap().blocks.len(), 1);
    let by_alternative = signed("someone", &["watch.example"]);
    status(&by_alternative).await.unwrap();

    let nobody = signed("stranger", &["root"]);
    let refused = status(&nobody).await.unwrap_err();
    assert!(matches!(refused, ClientError::Forbidden(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_sound_certificate_gets_nothing() {
    let served = served().await;
    let expired = served.clients.sign("monitor", &[], 2021);
    let gone = status(&served.target(&expired)).await.unwrap_err();
    assert!(gone.is_unreachable(), "expired: {gone}");

    let others = Authority::new(served.folder.path(), "others");
    let forged = others.sign("monitor", &[], VALID);
    let gone = status(&served.target(&forged)).await.unwrap_err();
    assert!(gone.is_unreachable(), "signed by somebody else: {gone}");

    // the servers' own authority signs no clients
    let server = served.servers.sign("monitor", &[], VALID);
    let gone = status(&served.target(&server)).await.unwrap_err();
    assert!(gone.is_unreachable(), "a server's: {gone}");

    // none at all, and no TLS at all
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_file(served.servers.ca()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(&served.address)
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connected = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    // TLS 1.3: the client is done before the server has looked at its certificate
    let mut answer = Vec::new();
    if let Ok(mut stream) = connected {
        let _ = stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let _ = stream.read_to_end(&mut answer).await;
    }
    assert!(answer.is_empty(), "{answer:?}");
    let mut plain = tokio::net::TcpStream::connect(&served.address)
        .await
        .unwrap();
    plain
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(10), plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let sound = served.clients.sign("monitor", &[], VALID);
    status(&served.target(&sound)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_trusts_only_the_right_daemon() {
    let served = served().await;
    let (certificate, key) = served.clients.sign("monitor", &[], VALID);
    let wrong_ca = Remote::new(&served.address, &served.clients.ca(), &certificate, &key).unwrap();
    let error = status(&Target::Remote(wrong_ca)).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    let elsewhere = served.address.replace("localhost", "127.0.0.1");
    let wrong_name = Remote::new(&elsewhere, &served.servers.ca(), &certificate, &key).unwrap();
    let error = status(&Target::Remote(wrong_name)).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    for wrong in ["localhost", "localhost:http", ":1", ""] {
        assert!(
            Remote::new(wrong, &served.servers.ca(), &certificate, &key).is_err(),
            "{wrong:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() {
    let served = served().await;
    let sound = served.clients.sign("monitor", &[], VALID);
    status(&served.target(&sound)).await.unwrap();
    // broken files change nothing
    write(&served.files.client_ca, "nothing");
    served.certificates.reread(&served.files).unwrap_err();
    status(&served.target(&sound)).await.unwrap();
    // another authority for clients
    let next = Authority::new(served.folder.path(), "next");
    write(
        &served.files.client_ca,
        &std::fs::read_to_string(next.ca()).unwrap(),
    );
    served.certificates.reread(&served.files).unwrap();
    status(&served.target(&sound)).await.unwrap_err();
    status(&served.target(&next.sign("monitor", &[], VALID)))
        .await
        .unwrap();
    // a key that everybody can read
    std::fs::set_permissions(&served.files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = served.certificates.reread(&served.files).unwrap_err();
    assert!(error.to_string().contains("chmod o-rwx"), "{error}");
}
