//! `/v1/exposure`: what listens on this host, beside what the policy in force opens.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::client::{self, ClientError};
use super::operations::Operation;
use super::request::Refusal;
use super::server::Service;
use super::target::Target;
use crate::access::Role;
use crate::daemon::sandbox;
use crate::exposure::{self, Exposure, Openings};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/exposure", "exposure.show", Role::Viewer, show)
            .summary(
                "Listening sockets and published ports, and to whom the policy in force opens them",
            )
            .answers::<Exposure>(),
    ]
}

async fn show(State(context): State<Service>) -> Response {
    let Some(facts) = context.shared.exposed() else {
        return Refusal::NotNow("the daemon is starting".to_owned()).into_response();
    };
    let Ok(_permit) = Arc::clone(&context.lists).try_acquire_owned() else {
        return super::scans::too_many();
    };
    match tokio::task::spawn_blocking(move || look(&facts)).await {
        Ok(Ok(exposure)) => Json(exposure).into_response(),
        Ok(Err(error)) => Refusal::Failed(format!("{error:#}")).into_response(),
        Err(error) => Refusal::Failed(error.to_string()).into_response(),
    }
}

/// What the answer is made from, beside the kernel.
#[derive(Debug)]
pub struct Exposed {
    /// Stands for the policy that `openings` are of.
    pub fingerprint: String,
    /// What it opens.
    pub openings: Openings,
    /// Published ports as libcni has them.
    pub cni_cache: PathBuf,
}

fn look(facts: &Exposed) -> Result<Exposure> {
    let (listeners, clients) = exposure::listeners()?;
    // only one thread may look at other processes
    let mut listeners = sandbox::look(move || {
        let mut listeners = listeners;
        exposure::name_processes(&mut listeners.iter_mut().collect::<Vec<_>>());
        listeners
    })?;
    listeners.extend(exposure::published(&facts.cni_cache));
    Ok(exposure::compare(listeners, &facts.openings, clients))
}

/// Asks what is open to whom.
pub async fn exposure(daemon: impl Into<Target>) -> Result<Exposure, ClientError> {
    let response = client::get(&daemon.into(), "/v1/exposure").await?;
    client::document(response, client::LIST_BYTES).await
}
