//! `/v1/metrics`: what Prometheus reads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::client::{self, ClientError};
use super::operations::Operation;
use super::server::{Service, refusal};
use super::target::Target;
use crate::access::Role;
use crate::dataplane::counters;
use crate::report::metrics::{MEDIA_TYPE, Metrics};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/metrics", "metrics.show", Role::Viewer, metrics)
            .summary(
                "What the filter counts and how the daemon does, in the OpenMetrics text format",
            )
            .answers_text(MEDIA_TYPE),
    ]
}

async fn metrics(State(context): State<Service>) -> Response {
    let not_now = |why: &str| refusal(StatusCode::SERVICE_UNAVAILABLE, why);
    // reading takes thousands of system calls: not for many at a time, and not on the runtime's few threads
    let Ok(_permit) = Arc::clone(&context.lists).try_acquire_owned() else {
        return not_now("too many readers of long lists");
    };
    let (Some(status), Some(pins)) = (context.shared.status(), context.shared.pins()) else {
        return not_now("the daemon is starting");
    };
    let unrecorded = context.shared.unrecorded();
    let made = tokio::task::spawn_blocking(move || {
        let counters = counters::read(&pins).map_err(|error| error.to_string())?;
        let metrics = Metrics {
            counters,
            status,
            unrecorded,
        };
        metrics
            .render()
            .ok_or_else(|| "the text is not made".to_owned())
    });
    match made.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Ok(Err(why)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Asks for the text.
pub async fn read(daemon: impl Into<Target>) -> Result<String, ClientError> {
    client::text(client::get(&daemon.into(), "/v1/metrics").await?).await
}
