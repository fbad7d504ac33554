//! The commands' end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::header;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::read_to_end::ReadToEnd;
use super::scans::{BlockList, BlockOrder, ScanList};
use super::target::Target;
use crate::report::status::Status;
use crate::scans::record::{BlockRecord, ScanRecord};

/// Longest the daemon may take to begin an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest answer that is not a stream, and longest line of a stream.
pub(super) const ANSWER_BYTES: usize = 4 << 20;
/// Longest list: there may be tens of thousands of blocks.
pub(super) const LIST_BYTES: usize = 32 << 20;

/// Why the daemon's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or somebody who does not answer.
    #[error("the daemon cannot be reached on {daemon}; is it running?")]
    Unreachable {
        /// Its socket or its address.
        daemon: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "the control socket {socket} may not be opened by this user; run as root, or have the daemon's settings name this user in a role"
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// It says that this user may not ask that.
    #[error("the daemon refused: {0}")]
    Forbidden(String),
    /// It listens, but has nothing to say yet.
    #[error("the daemon cannot answer now: {0}")]
    Busy(String),
    /// It answered something else than asked for.
    #[error("the daemon refused: {0}")]
    Refused(String),
    /// The answer broke off or makes no sense.
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(String),
}

impl ClientError {
    /// Whether there is no daemon to be asked.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy(_))
    }
}

/// Asks for the daemon's status.
pub async fn status(daemon: impl Into<Target>) -> Result<Status, ClientError> {
    document(get(&daemon.into(), "/v1/status").await?, ANSWER_BYTES).await
}

/// Asks for sampled drops: the `last` of those kept, then new ones if `follow`.
pub async fn events(
    daemon: impl Into<Target>,
    follow: bool,
    last: usize,
) -> Result<Lines, ClientError> {
    let daemon = daemon.into();
    let response = get(&daemon, &format!("/v1/events?follow={follow}&last={last}")).await?;
    Ok(Lines::new(&daemon, response))
}

/// Asks for reports of scans, blocks and alerts: the `last` of those kept, then new ones.
pub async fn reports(daemon: impl Into<Target>, last: usize) -> Result<Lines, ClientError> {
    let daemon = daemon.into();
    let response = get(&daemon, &format!("/v1/scans?follow=true&last={last}")).await?;
    Ok(Lines::new(&daemon, response))
}

/// Asks for open scans and the last `closed` of those that are not open any more.
pub async fn scans(daemon: impl Into<Target>, closed: usize) -> Result<ScanList, ClientError> {
    let response = get(&daemon.into(), &format!("/v1/scans?closed={closed}")).await?;
    document(response, LIST_BYTES).await
}

/// Asks for one scan. An id holds letters, digits, `-`, `.` and `_` only.
pub async fn scan(daemon: impl Into<Target>, id: &str) -> Result<ScanRecord, ClientError> {
    document(
        get(&daemon.into(), &format!("/v1/scans/{id}")).await?,
        ANSWER_BYTES,
    )
    .await
}

/// Asks what is blocked.
pub async fn blocks(daemon: impl Into<Target>) -> Result<BlockList, ClientError> {
    document(get(&daemon.into(), "/v1/blocks").await?, LIST_BYTES).await
}

/// Has a source blocked for a time, or for as long as the policy says.
pub async fn block(
    daemon: impl Into<Target>,
    source: IpNet,
    ttl: Option<Duration>,
    comment: String,
) -> Result<BlockRecord, ClientError> {
    let order = BlockOrder {
        source: source.to_string(),
        ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
        comment,
    };
    let body =
        serde_json::to_vec(&order).map_err(|error| ClientError::Answer(error.to_string()))?;
    let response = request(&daemon.into(), Method::POST, "/v1/blocks", body.into()).await?;
    document(response, ANSWER_BYTES).await
}

/// Has a block taken off.
pub async fn unblock(daemon: impl Into<Target>, source: IpNet) -> Result<BlockRecord, ClientError> {
    let path = format!("/v1/blocks/{source}");
    let response = request(&daemon.into(), Method::DELETE, &path, Bytes::new()).await?;
    document(response, ANSWER_BYTES).await
}

/// Lines of JSON as the daemon sends them.
#[derive(Debug)]
pub struct Lines {
    daemon: String,
    body: Incoming,
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    pub(super) fn new(daemon: &Target, response: Response<Incoming>) -> Self {
        Self {
            daemon: daemon.to_string(),
            body: response.into_body(),
            rest: Vec::new(),
            ended: false,
        }
    }

    /// The next line, without its end; `None` when there are no more.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.ended {
                return if self.rest.is_empty() {
                    Ok(None)
                } else {
                    Err(self.gone(io::ErrorKind::UnexpectedEof.into()))
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.gone(io::Error::other(error))),
                None => self.ended = true,
            }
            if self.rest.len() > ANSWER_BYTES {
                return Err(ClientError::Answer(format!(
                    "a line is longer than {ANSWER_BYTES} bytes"
                )));
            }
        }
    }

    /// The daemon died while it sent.
    fn gone(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            daemon: self.daemon.clone(),
            source,
        }
    }
}

/// Asks for something to look at.
pub(super) async fn get(daemon: &Target, path: &str) -> Result<Response<Incoming>, ClientError> {
    request(daemon, Method::GET, path, Bytes::new()).await
}

/// Asks, and waits as long as most operations take.
pub(super) async fn request(
    daemon: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, ClientError> {
    request_within(ANSWER_TIME, daemon, method, path, body).await
}

/// Asks, and waits so long for the answer to begin.
pub(super) async fn request_within(
    time: Duration,
    daemon: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, ClientError> {
    let response = match timeout(time, exchange(daemon, method, path, body)).await {
        Ok(response) => response?,
        Err(_) => {
            return Err(ClientError::Unreachable {
                daemon: daemon.to_string(),
                source: io::ErrorKind::TimedOut.into(),
            });
        }
    };
    let code = response.status();
    if code == StatusCode::OK {
        return Ok(response);
    }
    let body = whole(response, ANSWER_BYTES).await?;
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| code.to_string());
    Err(match code {
        StatusCode::SERVICE_UNAVAILABLE => ClientError::Busy(message),
        StatusCode::FORBIDDEN => ClientError::Forbidden(message),
        _ => ClientError::Refused(message),
    })
}

/// Either kind of connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(daemon: &Target) -> Result<Box<dyn Stream>, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        daemon: daemon.to_string(),
        source,
    };
    match daemon {
        Target::Socket(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Denied {
                    socket: path.clone(),
                })
            }
            Err(error) => Err(unreachable(error)),
        },
        Target::Remote(remote) => match remote.connect().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(unreachable(error)),
        },
    }
}

async fn exchange(
    daemon: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, ClientError> {
    let stream = connect(daemon).await?;
    // the daemon was there and went away while it was asked
    let gone = |error: hyper::Error| ClientError::Unreachable {
        daemon: daemon.to_string(),
        source: io::Error::other(error),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(
        TokioIo::new(ReadToEnd::new(stream)),
    )
    .await
    .map_err(gone)?;
    // carries the answer's body; its errors show up there
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "edgefilter")
        .body(Full::new(body))
        .map_err(|error| ClientError::Answer(error.to_string()))?;
    sender.send_request(request).await.map_err(gone)
}

/// The answer as one document.
pub(super) async fn document<T: DeserializeOwned>(
    response: Response<Incoming>,
    limit: usize,
) -> Result<T, ClientError> {
    let body = whole(response, limit).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()))
}

/// The answer as text.
pub(super) async fn text(response: Response<Incoming>) -> Result<String, ClientError> {
    let body = whole(response, ANSWER_BYTES).await?;
    String::from_utf8(body.into()).map_err(|error| ClientError::Answer(error.to_string()))
}

async fn whole(response: Response<Incoming>, limit: usize) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), limit).collect();
    match timeout(ANSWER_TIME, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Answer(error.to_string())),
        Err(_) => Err(ClientError::Answer("it broke off".to_owned())),
    }
}
