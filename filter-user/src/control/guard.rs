//! What stands before every operation: who asks, whether they may, how much they may send and how long it may take;
//! and behind it: the record of what was done or refused.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::operations::Operation;
use super::peer::Peer;
use super::recorder::{Audited, Why, event};
use super::server::{Service, refusal};
use crate::access::{Actor, Role};
use crate::audit::{Event, Outcome};

/// Slowest rate at which a body may be sent, in bytes a second.
const BODY_RATE: usize = 256 << 10;
/// Time for the first bytes of a body, and the least for a whole one.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Bodies above this are read a few at a time only.
const LARGE: usize = 1 << 20;
/// Longest text of a refusal that was not made here.
const TEXT_BYTES: usize = 4 << 10;

/// One row of the table as the guard needs it.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    service: Service,
    name: &'static str,
    role: Role,
    takes_body: bool,
    body: usize,
    time: Duration,
    audited: bool,
}

impl Watched {
    pub(super) fn new(service: Service, operation: &Operation) -> Self {
        Self {
            service,
            name: operation.name,
            role: operation.role,
            takes_body: operation.request.is_some(),
            body: operation.body,
            time: operation.time,
            audited: operation.audited,
        }
    }
}

/// Passes an operation on to its handler, if it may be.
pub(super) async fn watch(
    State(watched): State<Arc<Watched>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let service = &watched.service;
    let actor = service.actor(&peer).await;
    let subject = request.uri().path().to_owned();
    if actor.role.is_none_or(|role| role < watched.role) {
        let answer = refusal(StatusCode::FORBIDDEN, &forbidden(&actor, watched.role));
        record(service, event_of(actor, watched.name, subject, &answer)).await;
        return answer;
    }
    let mut answer = match admit(&watched, &peer, request).await {
        Ok((mut request, _large)) => {
            request.extensions_mut().insert(actor.clone());
            run(&watched, request, next).await
        }
        Err(refused) => refused,
    };
    if watched.audited {
        record(service, event_of(actor, watched.name, subject, &answer)).await;
    }
    answer.extensions_mut().remove::<Audited>();
    answer
}

/// The answer where there is no operation. Who has no role does not get to know that.
pub(super) async fn unknown(
    State(service): State<Service>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    uri: Uri,
) -> Response {
    let actor = service.actor(&peer).await;
    if actor.role.is_none() {
        let answer = refusal(StatusCode::FORBIDDEN, &forbidden(&actor, Role::Viewer));
        let subject = format!("{method} {}", uri.path());
        record(&service, event_of(actor, "unknown", subject, &answer)).await;
        return answer;
    }
    refusal(
        StatusCode::NOT_FOUND,
        "no such path; this daemon speaks /v1, and GET /v1/openapi.json says what",
    )
}

/// The answer where a path is known, but not for this method.
pub(super) async fn wrong_method(
    State(service): State<Service>,
    connection: ConnectInfo<Peer>,
    method: Method,
    uri: Uri,
) -> Response {
    let answer = unknown(State(service), connection, method.clone(), uri).await;
    if answer.status() == StatusCode::FORBIDDEN {
        return answer;
    }
    refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} means nothing here"),
    )
}

fn forbidden(actor: &Actor, needed: Role) -> String {
    let needed = needed.name();
    let name = &actor.name;
    match actor.role {
        None => format!(
            "{name} has no role here: the daemon's settings have to name this user or one of its groups as {needed}"
        ),
        Some(role) => format!(
            "this takes the role {needed}, and {name} is {}",
            role.name()
        ),
    }
}

/// Takes the body in, within its bounds; with the permit for a large one, to be kept until it is answered.
async fn admit(
    watched: &Watched,
    peer: &Peer,
    request: Request,
) -> Result<(Request, Option<OwnedSemaphorePermit>), Response> {
    let too_long = || {
        refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is longer than {} bytes", watched.body),
        )
    };
    if !watched.takes_body {
        return Ok((request.map(|_| Body::empty()), None));
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > watched.body) {
        return Err(too_long());
    }
    let length = announced.unwrap_or(watched.body);
    // it is in memory until the answer is made
    let large = if length > LARGE {
        let permit = Arc::clone(&watched.service.uploads).try_acquire_owned();
        let busy = |_| {
            refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "other large requests are being read; ask again in a moment",
            )
        };
        Some(permit.map_err(busy)?)
    } else {
        None
    };
    let time = BODY_TIME + Duration::from_secs((length / BODY_RATE) as u64);
    // chunks have heads of their own
    peer.gate.admit(length.saturating_mul(2), time);
    let (parts, body) = request.into_parts();
    match timeout(time, to_bytes(body, watched.body)).await {
        Ok(Ok(bytes)) => Ok((Request::from_parts(parts, Body::from(bytes)), large)),
        Ok(Err(_)) if announced.is_none() => Err(too_long()),
        Ok(Err(error)) => Err(refusal(
            StatusCode::BAD_REQUEST,
            &format!("the body broke off: {error}"),
        )),
        Err(_) => Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            &format!("the body did not arrive within {} seconds", time.as_secs()),
        )),
    }
}

async fn run(watched: &Watched, request: Request, next: Next) -> Response {
    if watched.audited
        && let Err(error) = watched.service.shared.recorder().ready().await
    {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("nothing is changed that cannot be recorded: the audit record: {error}"),
        );
    }
    let running = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(watched.time, running).await {
        Ok(Ok(answer)) => in_json(answer).await,
        Ok(Err(_)) => {
            tracing::error!(operation = watched.name, "an operation ended in a panic");
            refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this failed in a way it must not; the daemon's log says where",
            )
        }
        Err(_) => refusal(
            StatusCode::GATEWAY_TIMEOUT,
            &format!(
                "no answer within {} seconds; whether it was done, `edgefilter status` will show",
                watched.time.as_secs()
            ),
        ),
    }
}

/// Whatever axum refuses by itself is text; here every refusal is a document.
async fn in_json(answer: Response) -> Response {
    let code = answer.status();
    if code.is_success() || answer.extensions().get::<Why>().is_some() {
        return answer;
    }
    let text = to_bytes(answer.into_body(), TEXT_BYTES)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = if text.is_empty() {
        code.canonical_reason().unwrap_or("refused")
    } else {
        &text
    };
    refusal(code, text)
}

/// What is recorded of a request that was answered like this.
fn event_of(actor: Actor, name: &str, subject: String, answer: &Response) -> Event {
    let extensions = answer.extensions();
    event(
        actor,
        name,
        subject,
        answer.status(),
        extensions.get::<Why>().cloned(),
        extensions.get::<Audited>().cloned(),
    )
}

async fn record(service: &Service, event: Event) {
    if event.outcome != Outcome::Done && !service.repeats.is_first(&event, Instant::now()) {
        return;
    }
    service.shared.recorder().write(event, 0).await;
}
