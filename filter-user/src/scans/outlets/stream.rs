//! One kind of news to a file, apart from reports: sampled drops.

use std::sync::Arc;

use serde::Serialize;

use super::queue::Queue;
use super::{QUEUE, file};
use crate::policy::ReportFile;

/// The file that a policy asks for, if it does.
#[derive(Debug)]
pub struct FileStream<T> {
    name: &'static str,
    running: Option<(ReportFile, Arc<Queue<T>>)>,
}

impl<T: Serialize + Send + Sync + 'static> FileStream<T> {
    /// None yet. The log says under this name when something cannot be written.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            running: None,
        }
    }

    /// Goes on with another file, or with none. What waits for a path that stays is kept.
    pub fn replace(&mut self, wanted: Option<&ReportFile>) {
        if self.running.as_ref().map(|(file, _)| file) == wanted {
            return;
        }
        let former = self.running.take();
        let Some(wanted) = wanted else {
            close(former);
            return;
        };
        let queue = match former {
            Some((file, queue)) if file.path == wanted.path => queue,
            other => {
                close(other);
                Arc::new(Queue::new(self.name))
            }
        };
        let turn = queue.begin(QUEUE);
        file::start(wanted.clone(), Arc::clone(&queue), turn);
        self.running = Some((wanted.clone(), queue));
    }

    /// Hands it over. Never waits; the oldest is shed when too many wait.
    pub fn send(&self, item: &Arc<T>) {
        if let Some((_, queue)) = &self.running {
            queue.push(Arc::clone(item));
        }
    }
}

/// What waits is still written.
fn close<T>(running: Option<(ReportFile, Arc<Queue<T>>)>) {
    if let Some((_, queue)) = running {
        queue.close();
    }
}

impl<T> Drop for FileStream<T> {
    fn drop(&mut self) {
        close(self.running.take());
    }
}
