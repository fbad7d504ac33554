//! The daemon's end. Answers one request a connection.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Semaphore, watch};

use super::connection::{CONNECTIONS, Limited};
use super::lines::{self, Source};
use super::{RECENT_EVENTS, Shared, policy, scans};

/// Of the connections, those that may follow what happens: the rest stays free for short questions.
pub(super) const FOLLOWERS: usize = CONNECTIONS / 2;
/// Of the connections, those that may get long lists: such a list is in memory until it is sent.
pub(super) const LISTS: usize = 4;
/// Time for open connections to end after shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// What every answer is made from.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) lists: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
}

impl Service {
    /// One document a line: those there are, then those that come, if any are wanted.
    pub(super) fn lines<T: Serialize + Send + Sync + 'static>(
        &self,
        recent: VecDeque<Arc<T>>,
        receiver: Option<Receiver<Arc<T>>>,
    ) -> Response {
        match Arc::clone(&self.followers).try_acquire_owned() {
            Ok(permit) => {
                let stopped = self.stopped.clone();
                let source = Source {
                    recent,
                    receiver,
                    stopped,
                };
                lines::answer(source, permit)
            }
            Err(_) => refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many readers of events",
            ),
        }
    }
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
        lists: Arc::new(Semaphore::new(LISTS)),
    };
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .merge(scans::routes())
        .merge(policy::routes())
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
pub(super) async fn stop(stopped: &mut watch::Receiver<bool>) {
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

pub(super) fn refusal(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}

async fn status(State(context): State<Service>) -> Response {
    match context.shared.status() {
        Some(status) => Json(status).into_response(),
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
    let (recent, receiver) = context.shared.events.subscribe(query.last);
    context.lines(recent, query.follow.then_some(receiver))
}
