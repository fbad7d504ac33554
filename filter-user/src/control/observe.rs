//! `/v1/status` and `/v1/events`: what is in force, and a sample of what is dropped.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::RECENT_EVENTS;
use super::operations::Operation;
use super::server::{Service, refusal};
use crate::access::Role;
use crate::report::event::EventRecord;
use crate::report::status::Status;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/status", "status.show", Role::Viewer, status)
            .summary("The daemon, its policy and its interfaces; 503 until the daemon has them")
            .answers::<Status>(),
        Operation::get("/v1/events", "events.show", Role::Viewer, events)
            .summary(
                "Sampled drops, oldest first; a reader that is too slow is told what it missed",
            )
            .query::<EventsQuery>()
            .answers_lines::<EventRecord>(),
    ]
}

async fn status(State(context): State<Service>) -> Response {
    match context.shared.status() {
        Some(status) => Json(status).into_response(),
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting"),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct EventsQuery {
    /// Go on with new ones as they come.
    follow: bool,
    /// How many of those kept to begin with.
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
