//! Reports to an HTTP receiver: batches by POST, signed, tried again until they are accepted.
//!
//! Owns the request and the back-off. Must never follow a redirect (a signed body is meant for one receiver) and never
//! log the key. A batch whose answer got lost is sent again: receivers tell reports apart by their ids.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use sha2::Sha256;

use super::queue::{Queue, Turn};
use crate::policy::Webhook;
use crate::scans::record::Report;

/// Holds `sha256=` and the signature in hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "x-edgefilter-signature";
/// Holds the seconds since 1970 at which the request was made; part of what is signed, so that it cannot be replayed later.
pub const TIMESTAMP_HEADER: &str = "x-edgefilter-timestamp";

/// Reports in one request.
const BATCH: usize = 100;
/// A key longer than this is some other file.
const LONGEST_KEY: u64 = 4096;
/// Of an answer's body, which is read only to use the connection again.
const LONGEST_ANSWER: usize = 64 << 10;

/// How soon a receiver that does not accept is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After the first failure; doubled with each further one.
    pub first: Duration,
    /// At most.
    pub at_most: Duration,
    /// For one request, from name resolution to the end of the answer.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            at_most: Duration::from_mins(1),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Pace {
    /// The pause after `failures` in a row: "equal jitter", half fixed and half by chance, so that many hosts do not come
    /// back to a receiver at once (M. Brooker, "Exponential Backoff And Jitter").
    fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << failures.clamp(1, 16).saturating_sub(1));
        let most = doubled.min(self.at_most);
        most / 2 + (most / 2).mul_f64(chance)
    }
}

/// What a receiver compares with [`SIGNATURE_HEADER`]: HMAC-SHA256 with the key over timestamp, `.` and body.
#[must_use]
pub fn signature(key: &[u8], timestamp: &str, body: &[u8]) -> String {
    // a key of any length is accepted: RFC 2104
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut text = String::from("sha256=");
    for byte in mac.finalize().into_bytes() {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[derive(Serialize)]
struct Body<'a> {
    /// Which host reports.
    host: &'a str,
    reports: Vec<&'a Report>,
}

pub(super) fn start(settings: Webhook, pace: Pace, queue: Arc<Queue<Report>>, turn: Turn) {
    tokio::spawn(async move {
        let mut failures = 0;
        let receiver = loop {
            match Receiver::new(&settings, pace.timeout) {
                Ok(receiver) => break receiver,
                Err(error) => {
                    failures += 1;
                    queue.failed(turn, 0, error);
                    let pause = pace.pause(failures, fastrand::f64());
                    if !queue.pause_async(turn, pause).await {
                        return;
                    }
                }
            }
        };
        receiver.run(&pace, &queue, turn).await;
    });
}

/// What became of a batch.
enum Outcome {
    Accepted,
    /// It will never be accepted.
    Refused(String),
    /// Another try may be; the receiver may have said when.
    Failed(String, Option<Duration>),
}

struct Receiver {
    uri: Uri,
    host: String,
    key: Option<Vec<u8>>,
    client: Https,
    timeout: Duration,
}

enum Https {
    /// Without reading the system's certificates, which a host may lack.
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Https {
    fn new(uri: &Uri, timeout: Duration) -> Result<Self, String> {
        let builder = Client::builder(TokioExecutor::new());
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(timeout));
        if uri.scheme_str() != Some("https") {
            return Ok(Self::Plain(builder.build(tcp)));
        }
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| {
                format!("cannot read the system's certificates ({error}): install ca-certificates")
            })?
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self::Tls(builder.build(tls)))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let answer = match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        };
        answer.map_err(|error| chain(&error))
    }
}

impl Receiver {
    fn new(settings: &Webhook, timeout: Duration) -> Result<Self, String> {
        let uri: Uri = settings
            .url
            .parse()
            .map_err(|error| format!("{} is no URL: {error}", settings.url))?;
        let key = settings.secret_file.as_deref().map(read_key).transpose()?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        Ok(Self {
            client: Https::new(&uri, timeout)?,
            uri,
            host: host.to_string_lossy().into_owned(),
            key,
            timeout,
        })
    }

    async fn run(&self, pace: &Pace, queue: &Queue<Report>, turn: Turn) {
        let mut failures = 0;
        while let Some(reports) = queue.take_async(turn, BATCH).await {
            match self.deliver(&reports).await {
                Outcome::Accepted => {
                    failures = 0;
                    queue.done(turn);
                }
                Outcome::Refused(error) => {
                    failures = 0;
                    queue.refused(turn, error);
                }
                Outcome::Failed(error, asked) => {
                    failures += 1;
                    queue.failed(turn, 0, error);
                    let pause = pace.pause(failures, fastrand::f64());
                    let pause = pause.max(asked.unwrap_or_default().min(pace.at_most));
                    if !queue.pause_async(turn, pause).await {
                        return;
                    }
                }
            }
        }
    }

    async fn deliver(&self, reports: &[Arc<Report>]) -> Outcome {
        let body = Body {
            host: &self.host,
            reports: reports.iter().map(AsRef::as_ref).collect(),
        };
        let request = serde_json::to_vec(&body)
            .map_err(|error| error.to_string())
            .and_then(|body| self.request(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Refused(error),
        };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no answer within {:?}", self.timeout), None),
        }
    }

    fn request(&self, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs().to_string();
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("edgefilter/", env!("CARGO_PKG_VERSION")),
            )
            .header(TIMESTAMP_HEADER, &timestamp);
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE_HEADER, signature(key, &timestamp, &body));
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Outcome {
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Failed(error, None),
        };
        let status = answer.status();
        let later = answer.headers().get(RETRY_AFTER);
        let later = later.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let later = later.map(Duration::from_secs);
        // what it says is of no interest, and a connection that is not read to the end is not used again, no more
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
        let _ = http_body_util::BodyExt::collect(body).await;
        judge(status, later)
    }
}

/// A body that the receiver cannot read stays so; all else may be cured there, by the key or the URL, or by time.
fn judge(status: StatusCode, later: Option<Duration>) -> Outcome {
    let answered = format!("the receiver answered {status}");
    match status {
        status if status.is_success() => Outcome::Accepted,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Outcome::Refused(answered),
        status if status.is_redirection() => Outcome::Failed(
            format!("{answered}: redirects are not followed, name the final URL"),
            None,
        ),
        _ => Outcome::Failed(answered, later),
    }
}

/// Without the line's end, which an editor adds.
fn read_key(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("cannot read the key {shown}: {error}");
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.mode() & 0o007 != 0 {
        return Err(format!(
            "others may use the key {shown}: run `chmod o= {shown}` and choose another key"
        ));
    }
    let mut key = Vec::new();
    let read = file.take(LONGEST_KEY + 1).read_to_end(&mut key);
    if read.map_err(cannot)? as u64 > LONGEST_KEY {
        return Err(format!(
            "the key {shown} is larger than {LONGEST_KEY} bytes"
        ));
    }
    key.truncate(key.trim_ascii_end().len());
    if key.is_empty() {
        return Err(format!("the key {shown} is empty"));
    }
    Ok(key)
}

/// An error with its causes: the outermost alone says little (`client error (Connect)`).
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
#[path = "webhook/tests.rs"]
mod tests;
