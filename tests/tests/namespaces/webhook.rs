//! Reports over TLS: nginx with a certificate of our own takes them, and a receiver with another one gets none.
//!
//! Which certificates are believed is the process's environment, so the outlets run in a process of their own: this very
//! test program, asked for `sender`.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Namespace, Scratch, finish, wait_until};
use edgefilter_tests::programs::missing;
use filter_user::policy::{Reporting, Webhook};
use filter_user::scans::outlets::Outlets;
use filter_user::scans::record::{Alert, Report};

use crate::support::{beside, skip};

const PATIENCE: Duration = Duration::from_secs(20);
/// Where the other process is told to send to.
const URL: &str = "EDGEFILTER_TEST_WEBHOOK";
const REPORTS: u64 = 250;

/// A name and 127.0.0.1, and no authority: what a self-signed certificate of a receiver is.
const REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
    [name]\nCN = localhost\n\
    [extensions]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n";

fn nginx(directory: &str) -> String {
    format!(
        "daemon off; worker_processes 1; pid {directory}/pid; error_log stderr;\nevents {{}}\nhttp {{\n\
         log_format requests '$request_method $uri $status $content_type $http_x_edgefilter_signature';\n\
         access_log {directory}/requests requests;\nclient_body_temp_path {directory}/body;\n\
         proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;\n\
         uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         server {{ listen 8443 ssl; ssl_certificate {directory}/one.pem; ssl_certificate_key {directory}/one.key;\n\
         location = /hook {{ return 204; }} }} }}\n"
    )
}

#[test]
fn reports_go_over_tls_to_whom_the_system_believes() -> Result<()> {
    if let Some(reason) = missing(&["ip", "nsenter", "nginx", "openssl"]) {
        skip(&reason);
        return Ok(());
    }
    let _turn = beside();
    let (host, scratch) = (Namespace::create("tls")?, Scratch::create("tls")?);
    let request = scratch.file("request", REQUEST)?;
    let path = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    for name in ["one", "other"] {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req", "-x509", "-nodes", "-days", "1", "-newkey", "rsa:2048",
        ]);
        openssl.arg("-config").arg(&request);
        openssl.args(["-keyout", &path(&format!("{name}.key"))]);
        openssl.args(["-out", &path(&format!("{name}.pem"))]);
        finish(openssl, PATIENCE)?.require()?;
    }
    scratch.file("key", "s3cret")?;
    let key = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path("key"), key)?;
    let config = scratch.file("nginx.conf", nginx(&scratch.path().to_string_lossy()))?;
    let config = config.to_string_lossy();
    let receiver = host.start(&["nginx", "-e", "stderr", "-p", &path(""), "-c", &config])?;
    let ready = || {
        host.inside(|| std::net::TcpStream::connect("127.0.0.1:8443").is_ok())
            .unwrap_or(false)
    };
    wait_until(PATIENCE, ready).with_context(|| format!("nginx: {}", receiver.stderr()))?;

    let send = |believed: &str, target: &str| -> Result<String> {
        let mut sender = host.command(std::env::current_exe()?);
        sender.args(["--exact", "webhook::sender", "--nocapture"]);
        sender.env(URL, format!("https://{target}:8443/hook"));
        sender.env("EDGEFILTER_TEST_KEY", path("key"));
        sender
            .env("SSL_CERT_FILE", path(believed))
            .env_remove("SSL_CERT_DIR");
        Ok(finish(sender, PATIENCE)?.require()?.stdout)
    };
    let said = send("one.pem", "127.0.0.1")?;
    ensure!(said.contains(&format!("sent {REPORTS}, ok")), "{said}");
    let requests = std::fs::read_to_string(path("requests"))?;
    ensure!(requests.lines().count() == 3, "100, 100 and 50: {requests}");
    let right = |line: &str| line.starts_with("POST /hook 204 application/json sha256=");
    ensure!(requests.lines().all(right), "{requests}");

    let said = send("other.pem", "127.0.0.1")?;
    ensure!(
        said.contains("sent 0, ") && said.contains("invalid peer certificate"),
        "{said}"
    );
    // the same receiver by an address that its certificate does not name
    let said = send("one.pem", "127.0.0.2")?;
    ensure!(
        said.contains("sent 0, ") && said.contains("not valid for name"),
        "{said}"
    );
    let after = std::fs::read_to_string(path("requests"))?;
    ensure!(
        after == requests,
        "no request goes to whom is not believed: {after}"
    );
    Ok(())
}

/// No test by itself: what the test above runs in a process of its own.
#[test]
fn sender() -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let reporting = Reporting {
        webhook: Some(Webhook {
            url,
            secret_file: Some(std::env::var("EDGEFILTER_TEST_KEY")?.into()),
            queue: 1000,
        }),
        ..Reporting::default()
    };
    let report = Arc::new(Report::Alert(Alert {
        about: "drops".to_owned(),
        source: None,
        value: 1.0,
        baseline: 0.0,
        unit: "packets/s".to_owned(),
        time: "2026-08-05T10:00:00.000Z".to_owned(),
    }));
    runtime.block_on(async {
        let outlets = Outlets::start(&reporting);
        for _ in 0..REPORTS {
            outlets.send(&report);
        }
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let state = outlets.state().remove(0);
            if state.sent == REPORTS || !state.ok || Instant::now() > end {
                let said = state.error.unwrap_or_else(|| "ok".to_owned());
                println!("sent {}, {said}", state.sent);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    Ok(())
}
