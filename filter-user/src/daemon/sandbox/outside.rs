//! One thread that may look at other processes, for questions that the confined daemon cannot answer: Landlock lets no
//! confined thread read `/proc/PID/fd` of a process outside, whatever its capabilities are (Landlock, "Ptrace
//! restrictions"). It has those two capabilities and no others, and never touches the network or a BPF map.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender};

use caps::CapsHashSet;
use seccompiler::BpfProgram;

use super::{calls, capabilities};

type Question = Box<dyn FnOnce() + Send>;

/// Questions that may wait; whoever asks one more waits for room.
const QUEUE: usize = 16;

static QUESTIONS: OnceLock<SyncSender<Question>> = OnceLock::new();

/// Starts the thread. It ends with the process.
pub(super) fn start(kept: CapsHashSet, filter: Option<BpfProgram>) -> io::Result<()> {
    let (sender, receiver) = mpsc::sync_channel::<Question>(QUEUE);
    let thread = std::thread::Builder::new().name("processes".to_owned());
    thread.spawn(move || {
        if let Err(error) = capabilities::keep(&kept) {
            // a thread that can do more than it should answers nothing
            tracing::error!(
                error = format!("{error:#}"),
                "other processes are not looked at"
            );
            return;
        }
        if let Some(filter) = filter
            && let Err(error) = calls::apply(&filter)
        {
            tracing::warn!(error = format!("{error:#}"), "seccomp");
        }
        for question in receiver {
            question();
        }
    })?;
    // a second sandbox in one process keeps the first one's thread
    let _ = QUESTIONS.set(sender);
    Ok(())
}

/// Whether this process is confined.
pub(super) fn is_confined() -> bool {
    QUESTIONS.get().is_some()
}

/// Has `look` run where other processes can be seen, and waits for what it says. Without a sandbox that is here.
///
/// # Errors
/// When the thread is gone.
pub(crate) fn look<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let Some(questions) = QUESTIONS.get() else {
        return Ok(look());
    };
    let (answer, answered) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the thread that looks at processes has ended");
    questions
        .send(Box::new(move || {
            // who asked may have given up
            let _ = answer.send(look());
        }))
        .map_err(|_| gone(mpsc::RecvError))?;
    answered.recv().map_err(gone)
}
