//! Answers of one JSON document a line, for as long as the reader stays.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::server::stop;

/// Documents sent as one piece.
const BATCH: usize = 64;

/// What one reader still gets.
pub(super) struct Source<T> {
    pub(super) recent: VecDeque<Arc<T>>,
    /// `None`: it does not follow.
    pub(super) receiver: Option<Receiver<Arc<T>>>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// The answer that is made from it. `permit` is the reader's place among the readers, for as long as it reads.
pub(super) fn answer<T: Serialize + Send + Sync + 'static>(
    source: Source<T>,
    permit: OwnedSemaphorePermit,
) -> Response {
    let lines = stream::unfold((source, permit), |(mut source, permit)| async move {
        let text = source.next().await?;
        Some((Ok::<_, Infallible>(text), (source, permit)))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

impl<T: Serialize> Source<T> {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        for item in self.recent.drain(..self.recent.len().min(BATCH)) {
            push(&mut text, &*item);
        }
        if !text.is_empty() {
            return Some(text);
        }
        let receiver = self.receiver.as_mut()?;
        let received = tokio::select! {
            received = receiver.recv() => received,
            () = stop(&mut self.stopped) => return None,
        };
        match received {
            Ok(item) => push(&mut text, &*item),
            Err(RecvError::Lagged(count)) => lost(&mut text, count),
            Err(RecvError::Closed) => return None,
        }
        for _ in 1..BATCH {
            match receiver.try_recv() {
                Ok(item) => push(&mut text, &*item),
                Err(TryRecvError::Lagged(count)) => lost(&mut text, count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(text)
    }
}

fn push(text: &mut String, item: &impl Serialize) {
    match serde_json::to_string(item) {
        Ok(line) => {
            text.push_str(&line);
            text.push('\n');
        }
        Err(error) => tracing::warn!(%error, "this has no JSON form"),
    }
}

fn lost(text: &mut String, count: u64) {
    text.push_str(&json!({ "lost": count }).to_string());
    text.push('\n');
}
