//! `/v1/audit`: the record of control actions, for those who may look.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::{self, ClientError, Lines};
use super::operations::Operation;
use super::request::Refusal;
use super::server::Service;
use super::target::Target;
use crate::access::Role;
use crate::audit::{self, Filter, Record};

/// Records in an answer, if nobody says otherwise.
const LAST: usize = 100;

/// The answer to `GET /v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// Oldest first.
    pub records: Vec<Record>,
}

/// What `GET /v1/audit` is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// How many at most, the latest.
    pub last: usize,
    /// Only what was recorded then or later: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only what this user or certificate did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only this action, or all of its family (`policy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Go on with new ones, all of them, as they come.
    pub follow: bool,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self {
            last: LAST,
            since: None,
            actor: None,
            action: None,
            follow: false,
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/audit", "audit.show", Role::Viewer, show)
            .summary("The record of control actions, or with `follow` what is added to it")
            .query::<AuditQuery>()
            .answers::<AuditList>()
            .answers_lines::<Record>(),
    ]
}

async fn show(State(context): State<Service>, Query(query): Query<AuditQuery>) -> Response {
    let Some(log) = context.shared.audit() else {
        return Refusal::NotNow("the daemon is starting".to_owned()).into_response();
    };
    let Ok(_permit) = Arc::clone(&context.lists).try_acquire_owned() else {
        return super::scans::too_many();
    };
    let filter = match filter(&query) {
        Ok(filter) => filter,
        Err(why) => return Refusal::Wrong(why).into_response(),
    };
    let (last, follow) = (query.last, query.follow);
    // the disk may be slow; the runtime has few threads
    let read = tokio::task::spawn_blocking(move || {
        let news = follow.then(|| log.follow()).transpose()?;
        let records = audit::matching(log.directory(), &filter, last)?;
        Ok::<_, io::Error>((records, news))
    });
    match read.await.map_err(io::Error::other).and_then(|read| read) {
        Ok((records, None)) => Json(AuditList { records }).into_response(),
        Ok((mut records, Some((known, news)))) => {
            // what was added since comes as news
            records.retain(|record| record.seq <= known);
            context.lines(records.into_iter().map(Arc::new).collect(), Some(news))
        }
        Err(error) => Refusal::NotNow(error.to_string()).into_response(),
    }
}

fn filter(query: &AuditQuery) -> Result<Filter, String> {
    let since = query.since.as_ref().map(|since| {
        let time: Timestamp = since
            .parse()
            .map_err(|_| "`since` is no time as in RFC 3339".to_owned())?;
        Ok::<_, String>(SystemTime::from(time))
    });
    Ok(Filter {
        since: since.transpose()?,
        actor: query.actor.clone(),
        action: query.action.clone(),
    })
}

/// Asks for records.
pub async fn audit(
    daemon: impl Into<Target>,
    query: &AuditQuery,
) -> Result<AuditList, ClientError> {
    client::document(ask(&daemon.into(), query).await?, client::LIST_BYTES).await
}

/// Asks for records, and for those to come.
pub async fn audit_lines(daemon: impl Into<Target>, last: usize) -> Result<Lines, ClientError> {
    let query = AuditQuery {
        last,
        follow: true,
        ..AuditQuery::default()
    };
    let daemon = daemon.into();
    Ok(Lines::new(&daemon, ask(&daemon, &query).await?))
}

async fn ask(
    daemon: &Target,
    query: &AuditQuery,
) -> Result<hyper::Response<hyper::body::Incoming>, ClientError> {
    let query = serde_urlencoded::to_string(query)
        .map_err(|error| ClientError::Answer(error.to_string()))?;
    client::get(daemon, &format!("/v1/audit?{query}")).await
}
