//! `/v1/entries`: run-time entries. What is asked is checked here, and answered by the task that keeps them.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::Method;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::{ANSWER_BYTES, ClientError, document, get as fetch, request};
use super::operations::Operation;
use super::recorder::Audited;
use super::request::{Answer, Ask, Refusal};
use super::server::Service;
use super::target::Target;
use crate::access::{Actor, Role};
use crate::entries::record::{EntryList, EntryOrder, EntryRecord};
use crate::entries::{Kind, Ports};
use crate::policy;

/// What the control socket asks of the task that keeps run-time entries.
#[derive(Debug)]
pub enum EntryRequest {
    /// What there is, of one kind or of both.
    List(Option<Kind>, Answer<Vec<EntryRecord>>),
    /// Make one.
    Add {
        /// As it was asked for.
        order: EntryOrder,
        /// Its source.
        source: IpNet,
        /// Who asked.
        actor: Actor,
        /// The entry as it is in force.
        answer: Answer<Result<EntryRecord, Refusal>>,
    },
    /// Take away what there is about a source.
    Remove {
        /// Of this kind.
        kind: Kind,
        /// The source as it was given.
        source: IpNet,
        /// Only what names just these; none: whatever it names.
        ports: Vec<Ports>,
        /// What was taken away.
        answer: Answer<Result<Vec<EntryRecord>, Refusal>>,
    },
}

impl Ask for EntryRequest {
    const ABOUT: &'static str = "entries";
}

/// The answer to `DELETE /v1/entries/...`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryRemoval {
    /// What is in force no more, as it was.
    pub removed: Vec<EntryRecord>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/entries", "entry.list", Role::Viewer, list)
            .summary("Run-time entries: sources that are let in or kept out for a time.")
            .query::<ListQuery>()
            .answers::<EntryList>(),
        Operation::post("/v1/entries", "entry.add", Role::Operator, add)
            .summary("Let a source in, or keep it out, for a time.")
            .takes::<EntryOrder>()
            .answers::<EntryRecord>(),
        // a prefix holds a slash
        Operation::delete(
            "/v1/entries/{kind}/{*source}",
            "entry.remove",
            Role::Operator,
            remove,
        )
        .summary("Take away what there is about a source.")
        .part("kind", "`allow` or `deny`.")
        .part("source", "The address or prefix, as the list shows it.")
        .query::<RemoveQuery>()
        .answers::<EntryRemoval>(),
    ]
}

/// Asks what there is.
pub async fn list_entries(daemon: impl Into<Target>, kind: Kind) -> Result<EntryList, ClientError> {
    let response = fetch(&daemon.into(), &format!("/v1/entries?kind={kind}")).await?;
    document(response, ANSWER_BYTES).await
}

/// Has an entry made.
pub async fn add_entry(
    daemon: impl Into<Target>,
    order: &EntryOrder,
) -> Result<EntryRecord, ClientError> {
    let body = serde_json::to_vec(order).map_err(|error| ClientError::Answer(error.to_string()))?;
    let response = request(&daemon.into(), Method::POST, "/v1/entries", body.into()).await?;
    document(response, ANSWER_BYTES).await
}

/// Has entries taken away.
pub async fn remove_entry(
    daemon: impl Into<Target>,
    kind: Kind,
    source: IpNet,
    ports: &[Ports],
) -> Result<EntryRemoval, ClientError> {
    let ports: Vec<String> = ports.iter().map(Ports::to_string).collect();
    let mut path = format!("/v1/entries/{kind}/{source}");
    if !ports.is_empty() {
        path = format!("{path}?ports={}", ports.join(","));
    }
    let response = request(&daemon.into(), Method::DELETE, &path, Bytes::new()).await?;
    document(response, ANSWER_BYTES).await
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ListQuery {
    /// Of this kind only.
    kind: Option<Kind>,
}

async fn list(State(context): State<Service>, Query(query): Query<ListQuery>) -> Response {
    let asked = context
        .shared
        .entries
        .ask(|answer| EntryRequest::List(query.kind, answer));
    match asked.await {
        Ok(entries) => Json(EntryList { entries }).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn add(
    State(context): State<Service>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Response {
    let (order, source) = match order(&body) {
        Ok(order) => order,
        Err(why) => return Refusal::Wrong(why).into_response(),
    };
    let asked = context.shared.entries.ask(|answer| EntryRequest::Add {
        order,
        source,
        actor,
        answer,
    });
    match asked.await.and_then(|answer| answer) {
        Ok(entry) => {
            let audited = Audited {
                subject: format!("{} {}", entry.kind, entry.source),
                message: Some(entry.comment.clone()).filter(|comment| !comment.is_empty()),
                ..Audited::default()
            };
            (Extension(audited), Json(entry)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

fn order(body: &[u8]) -> Result<(EntryOrder, IpNet), String> {
    let order: EntryOrder = serde_json::from_slice(body)
        .map_err(|error| format!("this is no order for an entry: {error}"))?;
    let source = policy::prefix(&order.source)?;
    Ok((order, source))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RemoveQuery {
    /// Only what names just these, as `tcp/443,udp/53`; empty: whatever it names.
    ports: String,
}

async fn remove(
    State(context): State<Service>,
    Path((kind, source)): Path<(Kind, String)>,
    Query(query): Query<RemoveQuery>,
) -> Response {
    let ports: Result<Vec<Ports>, String> = query
        .ports
        .split(',')
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect();
    let (source, ports) = match policy::prefix(&source).and_then(|source| Ok((source, ports?))) {
        Ok(wanted) => wanted,
        Err(why) => return Refusal::Wrong(why).into_response(),
    };
    let asked = context.shared.entries.ask(|answer| EntryRequest::Remove {
        kind,
        source,
        ports,
        answer,
    });
    match asked.await.and_then(|answer| answer) {
        Ok(removed) => Json(EntryRemoval { removed }).into_response(),
        Err(refused) => refused.into_response(),
    }
}
