//! The commands' end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::header;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::socket;
use crate::report::status::Status;

/// Longest the daemon may take to begin an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest answer that is not a stream, and longest line of a stream.
const ANSWER_BYTES: usize = 4 << 20;

/// Why the daemon's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or somebody who does not answer.
    #[error("the daemon cannot be reached on {socket}; is it running?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("the control socket {socket} may not be opened by this user; run as root")]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
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
pub async fn status(run_dir: &Path) -> Result<Status, ClientError> {
    let body = whole(request(run_dir, "/v1/status").await?).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()))
}

/// Asks for sampled drops: the `last` of those kept, then new ones if `follow`.
pub async fn events(run_dir: &Path, follow: bool, last: usize) -> Result<Events, ClientError> {
    let response = request(run_dir, &format!("/v1/events?follow={follow}&last={last}")).await?;
    Ok(Events {
        socket: socket::path(run_dir),
        body: response.into_body(),
        rest: Vec::new(),
        ended: false,
    })
}

/// Lines of JSON as the daemon sends them.
#[derive(Debug)]
pub struct Events {
    socket: PathBuf,
    body: Incoming,
    rest: Vec<u8>,
    ended: bool,
}

impl Events {
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
            socket: self.socket.clone(),
            source,
        }
    }
}

async fn request(run_dir: &Path, path: &str) -> Result<Response<Incoming>, ClientError> {
    let socket = socket::path(run_dir);
    let response = match timeout(ANSWER_TIME, exchange(&socket, path)).await {
        Ok(response) => response?,
        Err(_) => {
            return Err(ClientError::Unreachable {
                socket,
                source: io::ErrorKind::TimedOut.into(),
            });
        }
    };
    let code = response.status();
    if code == StatusCode::OK {
        return Ok(response);
    }
    let body = whole(response).await?;
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| code.to_string());
    Err(if code == StatusCode::SERVICE_UNAVAILABLE {
        ClientError::Busy(message)
    } else {
        ClientError::Refused(message)
    })
}

async fn exchange(socket: &Path, path: &str) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                socket: socket.to_owned(),
            },
            _ => ClientError::Unreachable {
                socket: socket.to_owned(),
                source,
            },
        })?;
    // the daemon was there and went away while it was asked
    let gone = |error: hyper::Error| ClientError::Unreachable {
        socket: socket.to_owned(),
        source: io::Error::other(error),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(gone)?;
    // carries the answer's body; its errors show up there
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "edgefilter")
        .body(Empty::new())
        .map_err(|error| ClientError::Answer(error.to_string()))?;
    sender.send_request(request).await.map_err(gone)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
    match timeout(ANSWER_TIME, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Answer(error.to_string())),
        Err(_) => Err(ClientError::Answer("it broke off".to_owned())),
    }
}
