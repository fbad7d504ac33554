//! The daemon's end. Answers one request a connection.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router, middleware};
use serde::Serialize;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::guard::{self, Watched};
use super::lines::{self, Source};
use super::listener::Limited;
use super::operations::Operation;
use super::peer::Peer;
use super::recorder::{Repeats, Why};
use super::secured::Secured;
use super::{Shared, operations, seats};
use crate::access::Actor;

/// Of the connections, those that may follow what happens: the rest stays free for short questions.
pub(super) const FOLLOWERS: usize = seats::OWN / 2;
/// Of the connections, those that may get long lists: such a list is in memory until it is sent.
pub(super) const LISTS: usize = 4;
/// Large bodies that may be read at one time.
const UPLOADS: usize = 2;
/// Time for open connections to end after shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// What every answer is made from.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) lists: Arc<Semaphore>,
    pub(super) uploads: Arc<Semaphore>,
    pub(super) repeats: Arc<Repeats>,
    stopped: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
}

impl Service {
    /// Who is at the other end, with the role they have now.
    pub(super) async fn actor(&self, peer: &Peer) -> Actor {
        peer.actor(&self.shared.directory(), self.shared.names())
            .await
    }

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
    let listener = Limited::new(listener, Arc::clone(&shared));
    serve_table(operations::table(), listener, shared, shutdown).await
}

/// The same for control over the network.
pub async fn serve_remote(
    listener: Secured,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    serve_table(operations::table(), listener, shared, shutdown).await
}

/// The same with operations of the caller's.
pub(super) async fn serve_table<L>(
    table: Vec<Operation>,
    listener: L,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let (stop, stopped) = watch::channel(false);
    let service = Service {
        shared,
        uploads: Arc::new(Semaphore::new(UPLOADS)),
        repeats: Arc::default(),
        stopped: stopped.clone(),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        lists: Arc::new(Semaphore::new(LISTS)),
    };
    let router = router(table, &service);
    let signal = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    let server = axum::serve(
        listener,
        router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(signal)
    .into_future();
    tokio::select! {
        () = tell_repeats(&service) => Ok(()),
        result = server => result.context("the control listener failed"),
        () = late(stopped) => Ok(()),
    }
}

/// Every operation behind its guard.
fn router(table: Vec<Operation>, service: &Service) -> Router {
    let mut router = Router::new();
    for operation in table {
        let watched = Arc::new(Watched::new(service.clone(), &operation));
        let guarded = middleware::from_fn_with_state(watched, guard::watch);
        router = router.route(operation.path, operation.handler.layer(guarded));
    }
    router
        .method_not_allowed_fallback(guard::wrong_method)
        .fallback(guard::unknown)
        .layer(middleware::map_response(close))
        // the guard has bounds of its own for every operation
        .layer(DefaultBodyLimit::disable())
        .with_state(service.clone())
}

/// Records refusals that came again and again, once their time is over. Never ends.
async fn tell_repeats(service: &Service) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (event, repeated) in service.repeats.over(Instant::now()) {
            service.shared.recorder().write(event, repeated).await;
        }
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

/// An answer that says why it is not done.
pub(super) fn refusal(code: StatusCode, message: &str) -> Response {
    let mut answer = (code, Json(json!({ "error": message }))).into_response();
    answer.extensions_mut().insert(Why(message.to_owned()));
    answer
}
