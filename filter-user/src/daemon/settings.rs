//! The daemon's own settings in force: read at the start and at SIGHUP. A bad file changes nothing and is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::oneshot;

use crate::access::Directory;
use crate::audit::{self, Log};
use crate::control::{self, Certificates, Record, Secured, Shared};
use crate::report::status::SettingsStatus;
use crate::settings::{self, Settings};

/// What is in force, and where it came from.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None`: none was named, and there is none in the usual place.
    file: Option<PathBuf>,
    settings: Settings,
    /// The file was read once at least, or there is none.
    known: bool,
    last_error: Option<String>,
    /// `None`: there is no control over the network.
    remote: Option<Listening>,
}

/// Control over the network.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    certificates: Certificates,
    /// Ends it when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Keeper {
    /// Reads `named`, or the file in the usual place if there is one. With a broken file everything has its default, so
    /// that nobody but root may do anything: a filter that does not start would be worse.
    pub(super) fn start(named: Option<&Path>) -> Self {
        let usual = || {
            let usual = PathBuf::from(settings::DEFAULT_FILE);
            usual.exists().then_some(usual)
        };
        let mut keeper = Self {
            file: named.map(Path::to_owned).or_else(usual),
            settings: Settings::default(),
            known: false,
            last_error: None,
            remote: None,
        };
        keeper.known = keeper.file.is_none();
        keeper.reread();
        keeper
    }

    /// Reads the file again.
    pub(super) fn reread(&mut self) {
        let Some(file) = &self.file else { return };
        match settings::read(file) {
            Ok(settings) => {
                self.settings = settings;
                self.known = true;
                self.last_error = None;
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(
                    error,
                    "the settings were not read; those in force stay (at the start: only root may do anything)"
                );
                self.last_error = Some(error);
            }
        }
    }

    /// What is in force; an error: the file has been broken ever since the start, and nobody knows.
    pub(super) fn settings(&self) -> Result<&Settings, &str> {
        match &self.last_error {
            Some(error) if !self.known => Err(error),
            _ => Ok(&self.settings),
        }
    }

    /// The record of control actions. As long as it cannot be written, no control action is done.
    pub(super) fn record(&self, shared: &Shared, state_dir: &Path) -> Arc<dyn Record> {
        let log = Log::at(&state_dir.join(audit::DIRECTORY), &self.settings.audit);
        if let Err(error) = log.check() {
            let error = error.to_string();
            tracing::error!(error, "control actions cannot be recorded, so none is done");
        }
        let log = Arc::new(log);
        shared.set_audit(Arc::clone(&log));
        log
    }

    /// Puts all this in force on the control socket and over the network, and shows it in the status. What fails over the
    /// network is told there, and stops nothing else.
    pub(super) async fn share(&mut self, shared: &Arc<Shared>, run_dir: &Path) -> Result<()> {
        let directory = Directory::new(&self.settings.roles);
        let mut warnings = directory.unknown().to_vec();
        let somebody = directory.names_somebody();
        shared.set_directory(directory);
        if let Err(error) = self.listen(shared).await {
            warnings.push(format!("control over the network: {error:#}"));
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        shared.set_settings(
            SettingsStatus {
                path: self.file.as_ref().map(|file| file.display().to_string()),
                last_error: self.last_error.clone(),
                remote: self
                    .remote
                    .as_ref()
                    .map(|remote| remote.address.to_string()),
            },
            warnings,
        );
        control::open_to(run_dir, somebody)
    }

    /// Begins, goes on with the certificates as they are now, or ends, as the settings say.
    async fn listen(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let Some(wanted) = &self.settings.remote else {
            self.remote = None;
            return Ok(());
        };
        if let Some(remote) = &self.remote
            && remote.address == wanted.listen
        {
            return remote.certificates.reread(wanted);
        }
        // not both at one time: it may be the same port of another address
        self.remote = None;
        let certificates = Certificates::read(wanted)?;
        let listener =
            Secured::bind(wanted.listen, certificates.clone(), Arc::clone(shared)).await?;
        tracing::info!(address = %wanted.listen, "control over the network");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = control::serve_remote(listener, Arc::clone(shared), async {
            // an error means that the sender is gone, which is how it says so
            let _ = stopped.await;
        });
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "control over the network ended"
                );
            }
        });
        self.remote = Some(Listening {
            address: wanted.listen,
            certificates,
            _stop: stop,
        });
        Ok(())
    }
}
