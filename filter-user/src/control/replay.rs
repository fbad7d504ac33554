//! `/v1/replay`: what a policy would make of a capture's packets. The daemon's main task answers, which has the tables.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::client::ClientError;
use super::operations::Operation;
use super::policy::{Order, SWAP_TIME, post_json, read_body, reply};
use super::request::Refusal;
use super::server::Service;
use super::target::Target;
use crate::access::Role;
use crate::policy::{self, Loaded};
use crate::replay::{LONGEST, ReplayRequest, Replayed};

/// Longest body: the longest capture in base64, and a policy.
const BODY: usize = 128 << 20;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/replay", "policy.replay", Role::Operator, replay)
            .summary("Which packets of a capture a policy would judge otherwise; changes nothing")
            .takes::<ReplayRequest>()
            .answers::<Replayed>()
            .body(BODY)
            .time(SWAP_TIME)
            .only_asked(),
    ]
}

/// What was asked, read off the tasks that answer.
struct Read {
    capture: Vec<u8>,
    interface: Option<String>,
    loaded: Box<Loaded>,
}

async fn replay(State(context): State<Service>, body: Bytes) -> Response {
    let done = async {
        let Read {
            capture,
            interface,
            loaded,
        } = tokio::task::spawn_blocking(move || read(body))
            .await
            .unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))?;
        let order = |answer| Order::Replay {
            capture,
            interface,
            loaded,
            answer,
        };
        context.shared.order(order).await
    };
    reply(done.await)
}

fn read(body: Bytes) -> Result<Read, Refusal> {
    let request: ReplayRequest = read_body(&body)?;
    drop(body);
    let capture = STANDARD
        .decode(&request.capture)
        .map_err(|error| Refusal::Wrong(format!("the capture is no base64: {error}")))?;
    drop(request.capture);
    if capture.len() > LONGEST {
        return Err(Refusal::Wrong(too_long()));
    }
    let loaded = policy::load_bundle(&request.bundle)
        .map_err(|diagnostics| Refusal::Unsound(diagnostics.to_string()))?;
    Ok(Read {
        capture,
        interface: request.interface,
        loaded: Box::new(loaded),
    })
}

fn too_long() -> String {
    format!("a capture has at most {} MiB", LONGEST >> 20)
}

impl ReplayRequest {
    /// Puts a capture in.
    ///
    /// # Errors
    /// When it is too long.
    pub fn with_capture(self, capture: &[u8]) -> Result<Self, ClientError> {
        if capture.len() > LONGEST {
            return Err(ClientError::Answer(too_long()));
        }
        Ok(Self {
            capture: STANDARD.encode(capture),
            ..self
        })
    }

    /// Asks the daemon.
    pub async fn ask(&self, daemon: impl Into<Target>) -> Result<Replayed, ClientError> {
        post_json(&daemon.into(), "/v1/replay", self).await
    }
}
