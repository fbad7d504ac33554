//! An HTTP load: requests at a given rate over connections that stay open, and how long each answer took.
//!
//! Requests are due by the clock, whether or not earlier ones were answered: a server that stalls is charged for those that
//! had to wait (what wrk2 calls coordinated omission). Has to run in the client's network namespace.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Connections.
const CONNECTIONS: u64 = 16;
/// What an answer may take at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Who is asked.
    pub server: SocketAddr,
    /// Requests a second; `None`: the next one as soon as the last one was answered.
    pub rate: Option<f64>,
    /// How long requests are made.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Requests that were due.
    pub due: u64,
    /// Milliseconds until each answer that came.
    pub latencies: Vec<f64>,
}

impl Load {
    /// Makes the requests.
    pub fn run(self) -> Result<Answers> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime for the load")?;
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            let start = Instant::now();
            for number in 0..CONNECTIONS {
                tasks.spawn(self.connection(number, start));
            }
            let mut all = Answers::default();
            while let Some(answers) = tasks.join_next().await {
                let answers = answers.context("a connection's task ended")?;
                all.due += answers.due;
                all.latencies.extend(answers.latencies);
            }
            Ok(all)
        })
    }

    /// Every so many-th request, one after the other.
    async fn connection(self, number: u64, start: Instant) -> Answers {
        let end = start + self.time;
        let mut answers = Answers::default();
        let mut open = None;
        for request in (number..).step_by(CONNECTIONS as usize) {
            let due = match self.rate {
                Some(rate) => start + Duration::from_secs_f64(request as f64 / rate),
                None => Instant::now(),
            };
            if due >= end {
                break;
            }
            answers.due += 1;
            // A timer is late by up to a millisecond: only who was busy when a request was due is charged from then on.
            let idle = Instant::now() < due;
            sleep_until(due).await;
            let began = if idle { Instant::now() } else { due };
            // Who waits in line has no more patience than who is first.
            let limit = began.max(due) + PATIENCE;
            match timeout_at(limit, ask(self.server, &mut open)).await {
                Ok(Ok(())) => answers.latencies.push(began.elapsed().as_secs_f64() * 1e3),
                // No answer, or the end of the connection: the next request opens another one.
                _ => open = None,
            }
        }
        answers
    }
}

type Open = Option<SendRequest<Empty<Bytes>>>;

/// One request, over the connection that is open or a new one.
async fn ask(server: SocketAddr, open: &mut Open) -> Result<()> {
    if open.as_ref().is_none_or(SendRequest::is_closed) {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        *open = Some(sender);
    }
    let sender = open.as_mut().context("no connection")?;
    sender.ready().await?;
    let request = Request::get("/")
        .header("host", server.to_string())
        .body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    anyhow::ensure!(answer.status().is_success(), "{}", answer.status());
    answer.into_body().collect().await?;
    Ok(())
}
