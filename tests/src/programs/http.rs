//! HTTP servers (nginx, python3) and the curl client.
//!
//! Owns nginx's whole configuration: nothing of the system's is read or written.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::checks::Seen;
use crate::netns::{Finished, Namespace, Running, Scratch, wait_until};

/// What every server here answers on `/`.
pub const BODY: &str = "edgefilter test page\n";
const START_LIMIT: Duration = Duration::from_secs(10);

/// nginx in the foreground, one process, on the given TCP ports, IPv4 and IPv6.
#[derive(Debug)]
pub struct Nginx {
    running: Running,
}

impl Nginx {
    /// Starts it, and waits until it listens on all of `ports`.
    pub fn start(namespace: &Namespace, scratch: &Scratch, ports: &[u16]) -> Result<Self> {
        let label = format!(
            "nginx-{}-{}",
            namespace.name(),
            ports.first().copied().unwrap_or_default()
        );
        let root = scratch.directory(&label)?;
        std::fs::write(root.join("index.html"), BODY)?;
        let large = std::fs::File::create(root.join("large"))?;
        large.set_len(8 << 20)?;
        let mut listen = String::new();
        for port in ports {
            write!(listen, "listen {port}; listen [::]:{port} ipv6only=on; ")?;
        }
        let root_path = root.display();
        let configuration = format!(
            "daemon off;\nmaster_process off;\nerror_log stderr;\npid {root_path}/pid;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  access_log off; keepalive_requests 10000000;\n  client_body_temp_path {root_path}/body;\n\
             proxy_temp_path {root_path}/proxy;\n  fastcgi_temp_path {root_path}/fastcgi;\n\
             uwsgi_temp_path {root_path}/uwsgi;\n  scgi_temp_path {root_path}/scgi;\n\
             server {{ {listen} root {root_path}; }}\n}}\n"
        );
        let file = scratch.file(&format!("{label}.conf"), configuration)?;
        let (file, prefix) = (
            file.to_string_lossy().into_owned(),
            root.to_string_lossy().into_owned(),
        );
        let mut running =
            namespace.start(&["nginx", "-e", "stderr", "-p", &prefix, "-c", &file])?;
        wait_listening(namespace, &mut running, ports)?;
        Ok(Self { running })
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// `python3 -m http.server`, on all addresses.
#[derive(Debug)]
pub struct PythonHttp {
    _running: Running,
}

impl PythonHttp {
    /// Starts it, and waits until it listens on `port`.
    pub fn start(namespace: &Namespace, scratch: &Scratch, port: u16) -> Result<Self> {
        let root = scratch.directory(&format!("python-{}-{port}", namespace.name()))?;
        std::fs::write(root.join("index.html"), BODY)?;
        let (port_text, root) = (port.to_string(), root.to_string_lossy().into_owned());
        let mut running = namespace.start(&[
            "python3",
            "-m",
            "http.server",
            &port_text,
            "--bind",
            "::",
            "--directory",
            &root,
        ])?;
        wait_listening(namespace, &mut running, &[port])?;
        Ok(Self { _running: running })
    }
}

/// Waits until something listens on all of `ports`, with the program's own words in the error.
pub fn wait_listening(namespace: &Namespace, running: &mut Running, ports: &[u16]) -> Result<()> {
    let ready = wait_until(START_LIMIT, || {
        !running.is_running()
            || namespace
                .inside(|| {
                    ports
                        .iter()
                        .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
                })
                .unwrap_or(false)
    });
    if ready.is_none() || !running.is_running() {
        bail!(
            "nobody listens on {ports:?} in {}: {}{}",
            namespace.name(),
            running.stderr(),
            running.stdout()
        );
    }
    Ok(())
}

/// Fetches `url` once, at most `limit`. Works only when the body is the one served here.
pub fn curl(namespace: &Namespace, url: &str, limit: Duration) -> Result<(Seen, String)> {
    run_curl(namespace, &[], url, limit)
}

/// `curl` from a given source address.
pub fn curl_from(
    namespace: &Namespace,
    source: &str,
    url: &str,
    limit: Duration,
) -> Result<(Seen, String)> {
    run_curl(namespace, &["--interface", source], url, limit)
}

/// The URL of `/` on a host given as an address, IPv4 or IPv6.
pub fn url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}/")
    } else {
        format!("http://{address}:{port}/")
    }
}

fn run_curl(
    namespace: &Namespace,
    extra: &[&str],
    url: &str,
    limit: Duration,
) -> Result<(Seen, String)> {
    let seconds = format!("{:.3}", limit.as_secs_f64());
    let mut words = vec![
        "curl",
        "-q",
        "-sS",
        "-g",
        "--noproxy",
        "*",
        "--max-time",
        &seconds,
    ];
    words.extend(extra);
    words.push(url);
    let done = namespace
        .try_run(&words, limit + Duration::from_secs(5))
        .with_context(|| format!("curl {url}"))?;
    Ok((
        seen(&done),
        format!("curl exit {} {}", done.code(), done.stderr.trim()),
    ))
}

fn seen(done: &Finished) -> Seen {
    match done.code() {
        0 if done.stdout == BODY => Seen::Works,
        // 28 is "timed out": nobody answered. The rest (7 is "refused") needs an answer.
        28 => Seen::Nothing,
        _ => Seen::Reached,
    }
}
