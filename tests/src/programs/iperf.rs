//! iperf3, server and client.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::{Namespace, Running};

/// An iperf3 server on `port`. Not probed with a connection, which it would take for a test.
pub fn server(namespace: &Namespace, port: u16) -> Result<Running> {
    let running = namespace.start(&["iperf3", "-s", "-p", &port.to_string(), "--forceflush"])?;
    crate::netns::wait_until(Duration::from_secs(5), || {
        running.stdout().contains("Server listening")
    })
    .with_context(|| {
        format!(
            "iperf3 does not listen: {}{}",
            running.stderr(),
            running.stdout()
        )
    })?;
    Ok(running)
}

/// Starts a client that sends for `seconds`; hand its output to `result`.
pub fn client(
    namespace: &Namespace,
    address: &str,
    port: u16,
    seconds: u32,
    extra: &[&str],
) -> Result<Running> {
    let (port, seconds) = (port.to_string(), seconds.to_string());
    let mut words = vec![
        "iperf3", "-J", "-c", address, "-p", &port, "-t", &seconds, "-i", "0.5",
    ];
    words.extend(extra);
    namespace.start(&words)
}

/// What a client run came to.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// Bits a second over the whole run, as received.
    pub bits_per_second: f64,
    /// Bytes in each half second.
    pub intervals: Vec<f64>,
}

/// Waits for the client and reads its report.
pub fn result(client: Running, limit: Duration) -> Result<Throughput> {
    let done = client.wait(limit)?;
    let report: Value = serde_json::from_str(&done.stdout)
        .with_context(|| format!("iperf3 gave no report: {}{}", done.stderr, done.stdout))?;
    if let Some(error) = report.get("error").and_then(Value::as_str) {
        anyhow::bail!("iperf3 failed: {error}");
    }
    let bits_per_second = report
        .pointer("/end/sum_received/bits_per_second")
        .and_then(Value::as_f64)
        .context("an iperf3 report without a total")?;
    let intervals = report
        .get("intervals")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|interval| interval.pointer("/sum/bytes")?.as_f64())
        .collect();
    Ok(Throughput {
        bits_per_second,
        intervals,
    })
}
