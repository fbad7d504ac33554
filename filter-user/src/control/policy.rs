//! `/v1/plan`, `/v1/policy` and `/v1/generations`: a policy that comes in is read here, off the daemon's main task, which
//! puts it in force.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::Method;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

use super::Shared;
use super::client::{ClientError, document, get as fetch, request_within};
use super::operations::Operation;
use super::recorder::Audited;
use super::request::{Answer, Ask, Refusal};
use super::server::Service;
use super::target::Target;
use crate::access::{Actor, Role};
use crate::approval::Approval;
use crate::generations::Generation;
use crate::plan::{CutFlows, Difference, PlanReport, Quiet};
use crate::policy::{self, Bundle, Loaded};
use crate::replay::Replayed;

/// Longest a policy may take from its arrival to its being in force.
pub(super) const SWAP_TIME: Duration = Duration::from_mins(2);

/// Longest time to confirm.
pub const LONGEST_CONFIRM: Duration = Duration::from_hours(24);

/// Longest message, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// Longest answer: a generation comes with all its files.
const ANSWER_BYTES: usize = 128 << 20;

/// What `POST /v1/policy` and `POST /v1/plan` are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The policy and all files it names.
    pub bundle: Bundle,
    /// Who signed it.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// How it is put in force.
    #[serde(default)]
    pub terms: Terms,
}

/// What `POST /v1/policy/rollback` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The generation to go back to; without it, the one before.
    #[serde(default)]
    pub to: Option<u64>,
    /// How it is put in force.
    #[serde(default)]
    pub terms: Terms,
}

/// How a policy is put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// What it is for.
    pub message: Option<String>,
    /// Undo it after this time unless it is confirmed.
    pub confirm_seconds: Option<u64>,
    /// Only if this is the generation in force.
    pub if_generation: Option<u64>,
    /// Even if it closes the way that it came in by, or every way in.
    pub force: bool,
    /// The client's `SSH_CONNECTION`: a connection that must live on, beside those that the daemon finds itself.
    pub ssh_connection: Option<String>,
}

/// What putting a policy in force came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The policy in force now.
    pub generation: Generation,
    /// Digest of the policy that was in force before; `null` if that is not known.
    pub before: Option<String>,
    /// It is undone in this time unless it is confirmed.
    pub confirm_seconds: Option<u64>,
    /// Warnings about the policy.
    pub warnings: Vec<String>,
    /// What spoke against it and was overruled by `force`.
    pub overruled: Vec<String>,
    /// What it changed.
    pub difference: Difference,
    /// Flows that were live and are dropped since.
    #[serde(default)]
    pub cut_flows: CutFlows,
    /// Rules that were taken out, and rules that nothing hits.
    #[serde(default)]
    pub quiet: Quiet,
}

/// The answer to `GET /v1/generations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Generations {
    /// The one in force; 0: none that is kept.
    pub current: u64,
    /// It is undone unless it is confirmed.
    pub pending: Option<PendingConfirm>,
    /// Those that are kept, oldest first.
    pub generations: Vec<Generation>,
}

/// A generation that waits to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingConfirm {
    /// The generation that it is undone to.
    pub undo_to: u64,
    /// In how many seconds.
    pub seconds_left: u64,
}

/// A generation with its files: the answer to `GET /v1/generations/NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationFiles {
    /// What is known of it.
    pub generation: Generation,
    /// Its files.
    pub bundle: Bundle,
}

/// An order to the task that puts policies in force.
#[derive(Debug)]
pub enum Order {
    /// Put a policy in force.
    Apply {
        /// What was sent.
        push: Box<Push>,
        /// The policy that it holds.
        loaded: Box<Loaded>,
        /// Who asks.
        actor: Actor,
        /// What became of it.
        answer: Answer<Result<Applied, Refusal>>,
    },
    /// Say what a policy would change.
    Plan {
        /// What was sent.
        push: Box<Push>,
        /// The policy that it holds.
        loaded: Box<Loaded>,
        /// Who asks.
        actor: Actor,
        /// What would change.
        answer: Answer<Result<PlanReport, Refusal>>,
    },
    /// Say what a policy would make of a capture's packets.
    Replay {
        /// The capture file.
        capture: Vec<u8>,
        /// Where it was made.
        interface: Option<String>,
        /// The policy.
        loaded: Box<Loaded>,
        /// What would be judged otherwise.
        answer: Answer<Result<Replayed, Refusal>>,
    },
    /// Go back to a generation.
    Rollback {
        /// To which, and how.
        rollback: Rollback,
        /// Who asks.
        actor: Actor,
        /// What became of it.
        answer: Answer<Result<Applied, Refusal>>,
    },
    /// What is in force stays in force.
    Confirm(Answer<Result<Generation, Refusal>>),
    /// The generations that are kept.
    List(Answer<Result<Generations, Refusal>>),
    /// One of them, with its files.
    Show(u64, Answer<Result<GenerationFiles, Refusal>>),
}

impl Ask for Order {
    const ABOUT: &'static str = "policies";
    // each may hold a large policy
    const QUEUE: usize = 2;
    const TIME: Duration = SWAP_TIME;
}

impl Shared {
    /// From now on the caller gets the orders about policies.
    #[must_use]
    pub fn orders(&self) -> Receiver<Order> {
        self.orders.open()
    }

    pub(super) async fn order<T>(
        &self,
        order: impl FnOnce(Answer<Result<T, Refusal>>) -> Order,
    ) -> Result<T, Refusal> {
        self.orders.ask(order).await?
    }
}

/// Reads what was sent, off the tasks that answer.
async fn read_push(body: Bytes) -> Result<(Box<Push>, Box<Loaded>), Refusal> {
    let read = tokio::task::spawn_blocking(move || {
        let push: Push = read_body(&body)?;
        drop(body);
        check_terms(&push.terms)?;
        let loaded = policy::load_bundle(&push.bundle)
            .map_err(|diagnostics| Refusal::Unsound(diagnostics.to_string()))?;
        Ok((Box::new(push), Box::new(loaded)))
    });
    read.await
        .unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))
}

pub(super) fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::Wrong(format!("this cannot be understood: {error}")))
}

fn check_terms(terms: &Terms) -> Result<(), Refusal> {
    let longest = LONGEST_CONFIRM.as_secs();
    if terms
        .confirm_seconds
        .is_some_and(|seconds| !(1..=longest).contains(&seconds))
    {
        return Err(Refusal::Wrong(format!(
            "a policy waits from 1 to {longest} seconds to be confirmed"
        )));
    }
    if terms
        .message
        .as_ref()
        .is_some_and(|message| message.len() > MESSAGE_BYTES)
    {
        return Err(Refusal::Wrong(format!(
            "a message has at most {MESSAGE_BYTES} bytes"
        )));
    }
    Ok(())
}

/// Longest policy with all its files, as JSON.
const PUSH_BYTES: usize = 96 << 20;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/plan", "policy.plan", Role::Operator, plan)
            .summary("What a policy would change; changes nothing.")
            .takes::<Push>()
            .answers::<PlanReport>()
            .body(PUSH_BYTES)
            .time(SWAP_TIME)
            .only_asked(),
        Operation::post("/v1/policy", "policy.apply", Role::Admin, apply)
            .summary("Put a policy in force.")
            .takes::<Push>()
            .answers::<Applied>()
            .body(PUSH_BYTES)
            .time(SWAP_TIME),
        Operation::post("/v1/policy/confirm", "policy.confirm", Role::Admin, confirm)
            .summary("Keep the policy that waits to be confirmed.")
            .answers::<Generation>(),
        Operation::post(
            "/v1/policy/rollback",
            "policy.rollback",
            Role::Admin,
            rollback,
        )
        .summary("Put an earlier policy in force again.")
        .takes::<Rollback>()
        .answers::<Applied>()
        .time(SWAP_TIME),
        Operation::get("/v1/generations", "generation.list", Role::Viewer, list)
            .summary("Policies that were put in force.")
            .answers::<Generations>(),
        Operation::get(
            "/v1/generations/{number}",
            "generation.show",
            Role::Viewer,
            show,
        )
        .summary("One of them, with all its files.")
        .part("number", "The generation.")
        .answers::<GenerationFiles>(),
    ]
}

async fn apply(
    State(context): State<Service>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Response {
    let order = |push, loaded, answer| Order::Apply {
        push,
        loaded,
        actor,
        answer,
    };
    changed(pushed(&context, body, order).await)
}

async fn plan(
    State(context): State<Service>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Response {
    let order = |push, loaded, answer| Order::Plan {
        push,
        loaded,
        actor,
        answer,
    };
    reply(pushed(&context, body, order).await)
}

/// What becomes of a policy that was sent.
async fn pushed<T>(
    context: &Service,
    body: Bytes,
    order: impl FnOnce(Box<Push>, Box<Loaded>, Answer<Result<T, Refusal>>) -> Order,
) -> Result<T, Refusal> {
    let (push, loaded) = read_push(body).await?;
    let order = |answer| order(push, loaded, answer);
    context.shared.order(order).await
}

async fn rollback(
    State(context): State<Service>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Response {
    let done = async {
        let rollback: Rollback = read_body(&body)?;
        check_terms(&rollback.terms)?;
        let order = |answer| Order::Rollback {
            rollback,
            actor,
            answer,
        };
        context.shared.order(order).await
    };
    changed(done.await)
}

async fn confirm(State(context): State<Service>) -> Response {
    match context.shared.order(Order::Confirm).await {
        Ok(kept) => {
            let audited = Audited {
                subject: format!("generation {}", kept.number),
                before: Some(kept.digest.clone()),
                after: Some(kept.digest.clone()),
                generation: Some(kept.number),
                ..Audited::default()
            };
            (Extension(audited), Json(kept)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// An answer that says in the audit record what was changed.
fn changed(done: Result<Applied, Refusal>) -> Response {
    match done {
        Ok(applied) => {
            let record = &applied.generation;
            let audited = Audited {
                subject: record.file.clone(),
                message: record.message.clone(),
                before: applied.before.clone(),
                after: Some(record.digest.clone()),
                generation: Some(record.number),
                approvals: record.approvals.clone(),
            };
            (Extension(audited), Json(applied)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn list(State(context): State<Service>) -> Response {
    reply(context.shared.order(Order::List).await)
}

async fn show(State(context): State<Service>, UrlPath(number): UrlPath<u64>) -> Response {
    reply(
        context
            .shared
            .order(|answer| Order::Show(number, answer))
            .await,
    )
}

pub(super) fn reply<T: Serialize>(done: Result<T, Refusal>) -> Response {
    match done {
        Ok(document) => Json(document).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// The commands' end.
impl Push {
    /// Has the policy put in force.
    pub async fn apply(&self, daemon: impl Into<Target>) -> Result<Applied, ClientError> {
        post_json(&daemon.into(), "/v1/policy", self).await
    }

    /// Asks what it would change.
    pub async fn plan(&self, daemon: impl Into<Target>) -> Result<PlanReport, ClientError> {
        post_json(&daemon.into(), "/v1/plan", self).await
    }
}

impl Rollback {
    /// Has an earlier policy put in force again.
    pub async fn apply(&self, daemon: impl Into<Target>) -> Result<Applied, ClientError> {
        post_json(&daemon.into(), "/v1/policy/rollback", self).await
    }
}

/// Confirms what is in force.
pub async fn confirm_policy(daemon: impl Into<Target>) -> Result<Generation, ClientError> {
    post_json(&daemon.into(), "/v1/policy/confirm", &()).await
}

/// Asks which generations are kept.
pub async fn generations(daemon: impl Into<Target>) -> Result<Generations, ClientError> {
    document(
        fetch(&daemon.into(), "/v1/generations").await?,
        ANSWER_BYTES,
    )
    .await
}

/// Asks for a generation with its files.
pub async fn generation(
    daemon: impl Into<Target>,
    number: u64,
) -> Result<GenerationFiles, ClientError> {
    let path = format!("/v1/generations/{number}");
    document(fetch(&daemon.into(), &path).await?, ANSWER_BYTES).await
}

pub(super) async fn post_json<T: DeserializeOwned>(
    daemon: &Target,
    path: &str,
    what: &impl Serialize,
) -> Result<T, ClientError> {
    let body = serde_json::to_vec(what).map_err(|error| ClientError::Answer(error.to_string()))?;
    let patience = SWAP_TIME + Duration::from_secs(10);
    let response = request_within(patience, daemon, Method::POST, path, body.into()).await?;
    document(response, ANSWER_BYTES).await
}
