//! `/v1/scans` and `/v1/blocks`: what is asked is checked here, and answered by the task that keeps scans and blocks.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::RECENT_EVENTS;
use super::operations::Operation;
use super::recorder::Audited;
use super::request::{Refusal, Request};
use super::server::{Service, refusal};
use crate::access::Role;
use crate::entries;
use crate::policy;
use crate::scans::record::{BlockRecord, Report, ScanRecord, State as ScanState};

/// Most scans in one answer; beyond, the oldest are left out and counted.
const SCANS: usize = 4096;
/// Records written as one piece.
const BATCH: usize = 64;

/// The answer to `GET /v1/scans`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanList {
    /// Oldest first.
    pub scans: Vec<ScanRecord>,
    /// Older ones that are known and not shown.
    pub omitted: usize,
}

/// The answer to `GET /v1/blocks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockList {
    /// What is blocked.
    pub blocks: Vec<BlockRecord>,
}

/// What `POST /v1/blocks` is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockOrder {
    /// An IPv4 address, an IPv6 address or an IPv6 /64.
    pub source: String,
    /// For how long; without it, as long as the policy's `block_for`.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// Why, for the audit record: one line.
    #[serde(default)]
    pub comment: String,
}

/// A source that a block can name; otherwise why it cannot.
pub fn blockable(text: &str) -> Result<IpNet, String> {
    let source = policy::prefix(text)?;
    match source {
        IpNet::V4(net) if net.prefix_len() == 32 => Ok(source),
        IpNet::V6(net) if matches!(net.prefix_len(), 64 | 128) => Ok(source),
        _ => Err(
            "only an IPv4 address, an IPv6 address or an IPv6 /64 can be blocked: write a deny rule for a network"
                .to_owned(),
        ),
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/scans", "scans.list", Role::Viewer, scans)
            .summary("Open scans and those that are remembered, or with `follow` what happens to scans and blocks")
            .query::<ScansQuery>()
            .answers::<ScanList>()
            .answers_lines::<Report>(),
        Operation::get("/v1/scans/{id}", "scans.show", Role::Viewer, scan)
            .summary("One scan")
            .part("id", "As the list of scans shows it.")
            .answers::<ScanRecord>(),
        Operation::get("/v1/blocks", "block.list", Role::Viewer, blocks)
            .summary("What is blocked")
            .answers::<BlockList>(),
        Operation::post("/v1/blocks", "block.add", Role::Operator, block)
            .summary("Block a source for a time; 409 for one that must not be blocked, or without room")
            .takes::<BlockOrder>()
            .answers::<BlockRecord>(),
        // a prefix holds a slash
        Operation::delete("/v1/blocks/{*source}", "block.remove", Role::Operator, unblock)
            .summary("Take a block off; the answer is the block as it was")
            .part("source", "As the list of blocks shows it.")
            .answers::<BlockRecord>(),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ScansQuery {
    /// Of the scans that ended, how many to show.
    closed: usize,
    /// Send what happens to scans and blocks, as it comes.
    follow: bool,
    /// With `follow`: how many of those kept to begin with.
    last: usize,
}

impl Default for ScansQuery {
    fn default() -> Self {
        Self {
            closed: usize::MAX,
            follow: false,
            last: RECENT_EVENTS,
        }
    }
}

async fn scans(State(context): State<Service>, Query(query): Query<ScansQuery>) -> Response {
    if query.follow {
        let (recent, receiver) = context.shared.reports.subscribe(query.last);
        return context.lines(recent, Some(receiver));
    }
    let Ok(permit) = Arc::clone(&context.lists).try_acquire_owned() else {
        return too_many();
    };
    match context.shared.ask(Request::Scans).await {
        Ok(all) => {
            let ScanList { scans, omitted } = select(all, query.closed);
            list("scans", scans, format!(",\"omitted\":{omitted}"), permit)
        }
        Err(refused) => refused.into_response(),
    }
}

/// Open scans and the last `closed` that are not, [`SCANS`] of them at most.
fn select(mut all: Vec<ScanRecord>, closed: usize) -> ScanList {
    let known = all.len();
    let count = all
        .iter()
        .filter(|scan| scan.state == ScanState::Closed)
        .count();
    let mut skip = count.saturating_sub(closed);
    all.retain(|scan| {
        let out = scan.state == ScanState::Closed && skip > 0;
        skip -= usize::from(out);
        !out
    });
    all.drain(..all.len().saturating_sub(SCANS));
    ScanList {
        omitted: known - all.len(),
        scans: all,
    }
}

async fn scan(State(context): State<Service>, Path(id): Path<String>) -> Response {
    let asked = context
        .shared
        .ask(|answer| Request::Scan(id.clone(), answer));
    match asked.await {
        Ok(Some(scan)) => Json(scan).into_response(),
        Ok(None) => Refusal::Unknown(format!("no scan is known by the id {id}")).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn blocks(State(context): State<Service>) -> Response {
    let Ok(permit) = Arc::clone(&context.lists).try_acquire_owned() else {
        return too_many();
    };
    match context.shared.ask(Request::Blocks).await {
        Ok(blocks) => list("blocks", blocks, String::new(), permit),
        Err(refused) => refused.into_response(),
    }
}

async fn block(State(context): State<Service>, body: Bytes) -> Response {
    let (source, ttl, comment) = match order(&body) {
        Ok(order) => order,
        Err(why) => return Refusal::Wrong(why).into_response(),
    };
    let asked = context.shared.ask(|answer| Request::Block {
        source,
        ttl,
        answer,
    });
    let mut answer = changed(asked.await);
    answer.extensions_mut().insert(Audited {
        subject: match ttl {
            Some(ttl) => format!("{source} for {}", humantime::format_duration(ttl)),
            None => format!("{source} for as long as the policy says"),
        },
        message: Some(comment).filter(|comment| !comment.is_empty()),
        ..Audited::default()
    });
    answer
}

fn order(body: &[u8]) -> Result<(IpNet, Option<Duration>, String), String> {
    let order: BlockOrder = serde_json::from_slice(body)
        .map_err(|error| format!("this is no order to block: {error}"))?;
    let ttl = order.ttl_seconds.map(Duration::from_secs);
    if ttl.is_some_and(|ttl| !policy::Scans::BLOCK.contains(&ttl)) {
        let most = policy::Scans::BLOCK.end().as_secs();
        return Err(format!("a block lasts from 1 to {most} seconds"));
    }
    entries::comment(&order.comment).map_err(|error| error.to_string())?;
    Ok((blockable(&order.source)?, ttl, order.comment))
}

async fn unblock(State(context): State<Service>, Path(source): Path<String>) -> Response {
    let source = match blockable(&source) {
        Ok(source) => source,
        Err(why) => return Refusal::Wrong(why).into_response(),
    };
    let asked = context
        .shared
        .ask(|answer| Request::Unblock { source, answer });
    let mut answer = changed(asked.await);
    answer.extensions_mut().insert(Audited {
        subject: source.to_string(),
        ..Audited::default()
    });
    answer
}

fn changed(answer: Result<Result<BlockRecord, Refusal>, Refusal>) -> Response {
    match answer.and_then(|answer| answer) {
        Ok(block) => Json(block).into_response(),
        Err(refused) => refused.into_response(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = match self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Protected(_) | Self::Full(_) | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
            // 403 is for want of a role
            Self::Unsound(_) | Self::NotApproved(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        refusal(code, &self.to_string())
    }
}

pub(super) fn too_many() -> Response {
    Refusal::NotNow("too many readers of long lists".to_owned()).into_response()
}

/// `{"NAME":[..]MORE}`, written piece by piece: as text at once it would need as much memory again.
fn list<T: Serialize + Send + 'static>(
    name: &'static str,
    records: Vec<T>,
    more: String,
    permit: OwnedSemaphorePermit,
) -> Response {
    let head = format!("{{\"{name}\":[");
    let rest = (Some(head), records.into_iter(), Some(more), permit);
    let pieces = stream::unfold(
        rest,
        |(mut head, mut records, mut more, permit)| async move {
            let first = head.is_some();
            let mut text = head.take().unwrap_or_default();
            for (index, record) in records.by_ref().take(BATCH).enumerate() {
                match serde_json::to_string(&record) {
                    Ok(json) => {
                        let comma = if first && index == 0 { "" } else { "," };
                        // Writing into a String cannot fail.
                        let _ = write!(text, "{comma}{json}");
                    }
                    Err(error) => tracing::warn!(%error, "a record has no JSON form"),
                }
            }
            if records.len() == 0 {
                // Writing into a String cannot fail.
                let _ = write!(text, "]{}}}", more.take()?);
            }
            Some((Ok::<_, Infallible>(text), (head, records, more, permit)))
        },
    );
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(pieces),
    )
        .into_response()
}
