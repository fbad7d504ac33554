//! The daemon's end. Answers one request a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::connection::{CONNECTIONS, Limited};
use super::{RECENT_EVENTS, Shared};
use crate::report::event::EventRecord;

/// Of the connections, those that may follow events: the rest stays free for short questions.
pub(super) const FOLLOWERS: usize = CONNECTIONS / 2;
/// Time for open connections to end after shutdown.
const GRACE: Duration = Duration::from_secs(1);
/// Events sent as one piece.
const BATCH: usize = 64;

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
}

/// Answers until `shutdown`, then for a moment more while streams end.
pub async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let context = Service {
        shared,
        stopped: stopped.clone(),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
    };
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .fallback(async || {
            refusal(
                StatusCode::NOT_FOUND,
                "no such path; this daemon speaks /v1",
            )
        })
        .layer(middleware::map_response(close))
        .with_state(context);
    let signal = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    let server = axum::serve(Limited::new(listener), router)
        .with_graceful_shutdown(signal)
        .into_future();
    tokio::select! {
        result = server => result.context("the control socket failed"),
        () = late(stopped) => Ok(()),
    }
}

/// Returns when stopping has taken long enough.
async fn late(mut stopped: watch::Receiver<bool>) {
    stop(&mut stopped).await;
    tokio::time::sleep(GRACE).await;
}

/// Returns when told to stop.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    // an error means that the sender is gone, which is a stop as well
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// One request a connection, so that no idle client holds one.
async fn close(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refusal(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}

async fn status(State(context): State<Service>) -> Response {
    match context.shared.status() {
        Some(status) => Json(&*status).into_response(),
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting"),
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EventsQuery {
    follow: bool,
    last: usize,
}

impl Default for EventsQuery {
    fn default() -> Self {
        Self {
            follow: false,
            last: RECENT_EVENTS,
        }
    }
}

async fn events(State(context): State<Service>, Query(query): Query<EventsQuery>) -> Response {
    let Ok(permit) = context.followers.try_acquire_owned() else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many readers of events",
        );
    };
    let (recent, receiver) = context.shared.subscribe(query.last);
    let source = Source {
        recent,
        receiver: query.follow.then_some(receiver),
        stopped: context.stopped,
        _permit: permit,
    };
    let lines = stream::unfold(source, |mut source| async move {
        let text = source.next().await?;
        Some((Ok::<_, Infallible>(text), source))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// What one reader of events still gets.
struct Source {
    recent: VecDeque<Arc<EventRecord>>,
    /// `None`: it does not follow.
    receiver: Option<Receiver<Arc<EventRecord>>>,
    stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Source {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        for event in self.recent.drain(..self.recent.len().min(BATCH)) {
            push(&mut text, &event);
        }
        if !text.is_empty() {
            return Some(text);
        }
        let receiver = self.receiver.as_mut()?;
        let received = tokio::select! {
            received = receiver.recv() => received,
            () = stop(&mut self.stopped) => return None,
        };
        match received {
            Ok(event) => push(&mut text, &event),
            Err(RecvError::Lagged(count)) => lost(&mut text, count),
            Err(RecvError::Closed) => return None,
        }
        for _ in 1..BATCH {
            match receiver.try_recv() {
                Ok(event) => push(&mut text, &event),
                Err(TryRecvError::Lagged(count)) => lost(&mut text, count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(text)
    }
}

fn push(text: &mut String, event: &EventRecord) {
    match serde_json::to_string(event) {
        Ok(line) => {
            text.push_str(&line);
            text.push('\n');
        }
        Err(error) => tracing::warn!(%error, "an event has no JSON form"),
    }
}

fn lost(text: &mut String, count: u64) {
    text.push_str(&json!({ "lost": count }).to_string());
    text.push('\n');
}
