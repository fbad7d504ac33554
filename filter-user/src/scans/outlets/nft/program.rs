//! Runs `nft` with the JSON documents of the crate `nftables`.
//!
//! Owns the child process, its time limit and what it says. The crate's own functions for that leave error messages to
//! the daemon's standard error and know no time limit.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use nftables::schema::Nftables;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::daemon::sandbox::confine_child;

/// A transaction of 65,536 elements takes well under a second.
const LIMIT: Duration = Duration::from_secs(15);
/// What is kept of an error message: one about an element repeats the document.
const MESSAGE: usize = 300;

/// Why `nft` did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is none.
    #[error("{0} is not installed, or not in PATH: install the package nftables")]
    Missing(String),
    /// It does not start.
    #[error("cannot run nft: {0}")]
    Start(#[source] std::io::Error),
    /// It says why.
    #[error("nft: {0}")]
    Refused(String),
    /// It hangs.
    #[error("nft was not done after {} seconds", LIMIT.as_secs())]
    Slow,
    /// It says something that is no JSON.
    #[error("nft and this program do not understand each other: {0}")]
    Json(#[from] serde_json::Error),
}

/// How much of the table is read. To show rules, `nft` 1.0 reads all elements whether it shows them or not: with 65,536
/// of them it takes half a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Sets,
    Rules,
    Elements,
}

#[derive(Debug)]
pub(super) struct Program {
    path: OsString,
}

impl Program {
    pub fn new(path: OsString) -> Self {
        Self { path }
    }

    /// Carries out a document as one transaction.
    pub async fn write(&self, document: &Nftables<'_>) -> Result<(), NftError> {
        let document = serde_json::to_vec(document)?;
        self.run(&["-j", "-f", "-"], document).await.map(drop)
    }

    /// Our table as JSON; `None`: there is none.
    pub async fn read(&self, depth: Depth) -> Result<Option<Value>, NftError> {
        const NAME: &str = super::table::TABLE;
        let words: &[&str] = match depth {
            Depth::Sets => &["-j", "-t", "list", "sets", "table", "inet", NAME],
            Depth::Rules => &["-j", "-t", "list", "table", "inet", NAME],
            Depth::Elements => &["-j", "list", "table", "inet", NAME],
        };
        match self.run(words, Vec::new()).await {
            Ok(said) => Ok(Some(serde_json::from_slice(&said)?)),
            Err(NftError::Refused(text)) if text.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, words: &[&str], input: Vec<u8>) -> Result<Vec<u8>, NftError> {
        let mut command = Command::new(&self.path);
        command
            .args(words)
            .env("LC_ALL", "C") // its messages are read
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        confine_child(&mut command);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                NftError::Missing(self.path.to_string_lossy().into_owned())
            }
            _ => NftError::Start(error),
        })?;
        let stdin = child.stdin.take();
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // it may end before it has read all: then it says why
                    let _ = stdin.write_all(&input).await;
                }
            };
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            output
        };
        let output = tokio::time::timeout(LIMIT, work)
            .await
            .map_err(|_| NftError::Slow)?
            .map_err(NftError::Start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // the first line says what, the others repeat the document
        let first = said.lines().find(|line| !line.trim().is_empty());
        let text = first.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned());
        Err(NftError::Refused(text.chars().take(MESSAGE).collect()))
    }
}
