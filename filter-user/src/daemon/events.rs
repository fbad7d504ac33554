//! Takes sampled drops out of the ring buffer and hands them to whoever listens.

use std::future::Future;
use std::io;
use std::sync::{Arc, RwLock};

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::engine::Names;
use crate::control::Shared;
use crate::report::event::EventRecord;

pub(super) struct Reader {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Reader {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring owns its file descriptor and answers with the same one until it is dropped with the `AsyncFd`.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self { ring })
    }

    /// Reads until `stopped`. Events are taken out even when nobody listens: old ones would be of no use later.
    pub(super) async fn forward(
        mut self,
        shared: Arc<Shared>,
        names: Arc<RwLock<Names>>,
        stopped: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<()> {
        tokio::pin!(stopped);
        loop {
            let mut ready = tokio::select! {
                () = &mut stopped => return Ok(()),
                ready = self.ring.readable_mut() => ready?,
            };
            while let Some(item) = ready.get_inner_mut().next() {
                if shared.listeners() == 0 {
                    continue;
                }
                let names = names
                    .read()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let record = EventRecord::decode(
                    &item,
                    |ifindex| names.interfaces.get(&ifindex).cloned(),
                    |slot| names.rules.get(&slot).cloned(),
                    |slot, ifindex| {
                        let row = names.rows.get(&slot)?;
                        Some(match names.bindings.get(&ifindex) {
                            Some(binding) => format!("{row}; {binding}"),
                            None => row.clone(),
                        })
                    },
                );
                match record {
                    Ok(record) => shared.publish(record),
                    Err(error) => tracing::warn!(%error, "a sampled drop cannot be read"),
                }
            }
            ready.clear_ready();
        }
    }
}
