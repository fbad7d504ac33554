//! The daemon's control socket as a client without manners sees it: any bytes, sent as any user.

pub mod fuzz;
pub mod operations;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are kept.
const ANSWER: u64 = 64 << 20;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code; 0 if the daemon closed without one.
    pub code: u16,
    /// The media type.
    pub media_type: String,
    /// The body, without the marks of its chunks.
    pub body: String,
}

/// The socket of a run directory.
pub fn socket(run_dir: &Path) -> PathBuf {
    filter_user::control::path(run_dir)
}

/// A connection of this user's, who is in no group but the one with the same number. Credentials belong to threads, and
/// the kernel takes those of the one that connects.
pub fn connect_as(socket: &Path, uid: u32) -> Result<UnixStream> {
    let become_and_connect = || -> std::io::Result<UnixStream> {
        if uid != 0 {
            // SAFETY: the system calls themselves, which change this thread only: libc's functions would change all
            // threads. They take numbers and a pointer that is not followed, since no group is given.
            let changed = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) == 0
                    && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
                    && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            };
            if !changed {
                return Err(std::io::Error::last_os_error());
            }
        }
        UnixStream::connect(socket)
    };
    if uid == 0 {
        return become_and_connect().context("cannot connect");
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(become_and_connect);
        match thread.join() {
            Ok(stream) => stream.with_context(|| format!("user {uid} cannot connect")),
            Err(_) => bail!("a thread that connects panicked"),
        }
    })
}

/// Sends a whole request and reads the whole answer.
pub fn ask_as(socket: &Path, uid: u32, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = connect_as(socket, uid)?;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // the daemon may refuse and close before it has read everything
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    if let Err(error) = stream.take(ANSWER).read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(error).with_context(|| format!("{method} {path} has no answer"));
    }
    Ok(parse(&bytes))
}

/// Takes an answer apart. What is none has the code 0.
pub fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let code = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let header = |name: &str| {
        head.split("\r\n").find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let body = if header("transfer-encoding") == Some("chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Answer {
        code: code.unwrap_or(0),
        media_type: header("content-type").unwrap_or_default().to_owned(),
        body,
    }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}
