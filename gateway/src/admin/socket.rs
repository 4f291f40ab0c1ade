//! The unix socket in the runtime folder.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::UnixListener;

/// A listening unix socket, removed when dropped.
#[derive(Debug)]
pub struct LocalSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl LocalSocket {
    /// Listens on `path`, for root alone. A file that a killed predecessor left there is replaced: the caller holds the
    /// runtime folder's lock, so nobody listens on it.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let socket = Self { listener: Some(listener), path: path.to_owned() };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        Ok(socket)
    }

    /// Serves `router` until dropped.
    pub async fn serve(mut self, router: Router) -> io::Result<()> {
        match self.listener.take() {
            Some(listener) => axum::serve(listener, router).await,
            None => Ok(()),
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // Best effort: whoever comes next replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}
