//! Takes sampled drops out of the ring buffer and hands those that the policy wants told to whoever listens.

use std::future::Future;
use std::io;
use std::sync::{Arc, RwLock};

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::engine::Names;
use crate::control::Shared;
use crate::report::event::EventRecord;
use crate::scans::outlets::FileStream;

pub(super) struct Reader {
    ring: AsyncFd<RingBuf<MapData>>,
    file: FileStream<EventRecord>,
}

impl Reader {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring owns its file descriptor and answers with the same one until it is dropped with the `AsyncFd`.
        let ring = unsafe { AsyncFd::register(ring) }?;
        let file = FileStream::new("events");
        Ok(Self { ring, file })
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
                    Ok(record) if names.events.wants(&record.reason, &record.interface) => {
                        let record = Arc::new(record);
                        self.file.replace(names.events.file.as_ref());
                        self.file.send(&record);
                        shared.publish(record);
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "a sampled drop cannot be read"),
                }
            }
            ready.clear_ready();
        }
    }
}
