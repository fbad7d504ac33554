//! Control over the network, from another host: the daemon's own listener, real certificates, and curl.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Edge, Finished, Scratch};
use edgefilter_tests::programs::{Edgefilter, daemon};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{allow, beside, can_run};

const ADDRESS: &str = "10.77.1.1:8443";

/// Signs certificates; its own lies in a file.
struct Authority {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(scratch: &Scratch, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = scratch.file(&format!("{name}.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// A certificate and its key, in one file.
    fn sign(&self, scratch: &Scratch, common: &str, names: &[&str]) -> Result<PathBuf> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let both = certificate.pem() + &key.serialize_pem();
        let path = scratch.file(&format!("{common}.both.pem"), both)?;
        // keys that others may read are not taken
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode)?;
        Ok(path)
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

#[test]
fn commands_and_curl_ask_from_another_host_by_certificate() -> Result<()> {
    if !can_run(&["curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let scratch = &edge.scratch;
    let servers = Authority::new(scratch, "servers")?;
    let clients = Authority::new(scratch, "clients")?;
    let strangers = Authority::new(scratch, "strangers")?;
    let server = servers.sign(scratch, "filter1.example", &["10.77.1.1"])?;
    let viewer = clients.sign(scratch, "noc.example", &["noc.example"])?;
    let unnamed = clients.sign(scratch, "other.example", &["other.example"])?;
    let stranger = strangers.sign(scratch, "noc2.example", &["noc.example"])?;

    let mut daemon = Edgefilter::prepare(&edge.host, scratch, &allow("tcp", &[8443]))?;
    let settings = format!(
        "[remote]\nlisten = {ADDRESS:?}\ncertificate = {server:?}\nkey = {server:?}\nclient_ca = {:?}\n\
         [roles.viewer]\ncertificates = [\"noc.example\"]\n",
        clients.certificate
    );
    daemon.settings(scratch, &settings)?;
    daemon.start()?;
    if !daemon.filtering() {
        return Ok(());
    }
    let binary = daemon::locate()?;
    let ask = |own: &Path, words: &[&str]| -> Result<Finished> {
        let (ca, own) = (text(&servers.certificate)?, text(own)?);
        let mut line = vec![text(&binary)?, "--remote", ADDRESS, "--tls-ca", ca];
        line.extend(["--tls-cert", own, "--tls-key", own]);
        line.extend(words);
        edge.client.try_run(&line, crate::support::WORKS)
    };
    let status = ask(&viewer, &["status"])?.require()?;
    ensure!(status.stdout.contains("running"), "{}", status.stdout);
    for (own, words, says) in [
        (
            &viewer,
            &["block", "add", "198.51.100.7"][..],
            "this takes the role operator, and noc.example is viewer",
        ),
        (&unnamed, &["status"], "other.example has no role here"),
        (&stranger, &["status"], "cannot be reached"),
    ] {
        let done = ask(own, words)?;
        ensure!(
            done.code() != 0 && done.stderr.contains(says),
            "{own:?} {words:?}: {} {}",
            done.code(),
            done.stderr
        );
    }
    let url = format!("https://{ADDRESS}/v1/metrics");
    let ca = text(&servers.certificate)?;
    let curl = ["curl", "-sS", "--max-time", "5", "--cacert", ca, &url];
    let metrics = [&curl[..], &["--cert", text(&viewer)?]].concat();
    let metrics = edge.client.run(&metrics)?.stdout;
    ensure!(metrics.contains("edgefilter_policy_load_ok 1"), "{metrics}");
    let without = edge.client.try_run(&curl, crate::support::WORKS)?;
    ensure!(without.code() != 0, "without a certificate: {without:?}");
    Ok(())
}
