//! `/v1/explain`: what would become of a packet. The daemon's main task answers, which has the tables.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc::Receiver;

use super::Shared;
use super::client::ClientError;
use super::operations::Operation;
use super::policy::{SWAP_TIME, post_json};
use super::request::{Answer, Ask, Refusal};
use super::server::Service;
use super::target::Target;
use crate::access::Role;
use crate::explain::{Explanation, Question};

/// Longest question: a frame in hex, and blanks.
const BODY: usize = 64 << 10;

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// About which packet.
    pub question: Question,
    /// What becomes of it.
    pub answer: Answer<Result<Explanation, Refusal>>,
}

impl Ask for Asked {
    const ABOUT: &'static str = "packets";
    // the task that answers may be putting a policy in force, and the first answer takes a program to be verified
    const TIME: Duration = SWAP_TIME;
}

impl Shared {
    /// From now on the caller gets the questions about packets.
    #[must_use]
    pub fn questions(&self) -> Receiver<Asked> {
        self.questions.open()
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/explain", "explain.packet", Role::Viewer, explain)
            .summary(
                "What would become of a packet, and why; touches nothing that anybody looks at",
            )
            .takes::<Question>()
            .answers::<Explanation>()
            .body(BODY)
            .time(SWAP_TIME)
            .only_asked(),
    ]
}

async fn explain(State(context): State<Service>, body: Bytes) -> Response {
    let question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => {
            let why = format!("this is no question about a packet: {error}");
            return Refusal::Wrong(why).into_response();
        }
    };
    let asked = context
        .shared
        .questions
        .ask(|answer| Asked { question, answer });
    match asked.await.and_then(|answer| answer) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(refused) => refused.into_response(),
    }
}

impl Question {
    /// Asks the daemon.
    pub async fn ask(&self, daemon: impl Into<Target>) -> Result<Explanation, ClientError> {
        post_json(&daemon.into(), "/v1/explain", self).await
    }
}
