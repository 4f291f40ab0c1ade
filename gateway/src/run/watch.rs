//! Watching the configuration file by its folder.
//!
//! A file that is replaced is another file: a watch on the file itself would see the first edit only. And of a mounted
//! ConfigMap the file never changes: the kubelet writes a new folder and renames the link `..data` onto it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};
use tokio::sync::Notify;
use tracing::{debug, warn};

/// The link that the kubelet swaps (Kubernetes' `atomic_writer.go`).
const CONFIG_MAP_LINK: &str = "..data";
/// Between two attempts to watch a folder that is not there.
const RETRY: Duration = Duration::from_secs(2);

/// Rings `wake` whenever the file at `path` may have changed; never returns.
pub async fn config_folder(path: &Path, wake: Arc<Notify>) {
    let mut told = false;
    loop {
        match follow(path, &wake).await {
            Ok(()) => {
                debug!(path = %path.display(), "the configuration's folder is gone; watching for a new one")
            }
            Err(error) if !told => {
                warn!(path = %path.display(), %error, "cannot watch the configuration's folder; reading the file periodically");
                told = true;
            }
            Err(error) => debug!(%error, "still cannot watch the configuration's folder"),
        }
        tokio::time::sleep(RETRY).await;
        wake.notify_one();
    }
}

/// Follows the folder until it is moved or deleted.
async fn follow(path: &Path, wake: &Notify) -> io::Result<()> {
    let inotify = Inotify::init()?;
    let mut watches = inotify.watches();
    // Not CREATE: a file that was just made is still empty. CLOSE_WRITE follows.
    let changes = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
    let end = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
    watches.add(folder(path), changes | end)?;
    // What happened before the watch stood.
    wake.notify_one();
    let mut events = inotify.into_event_stream([0_u8; 4096])?;
    while let Some(event) = events.next().await {
        let event = event?;
        if event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED) {
            return Ok(());
        }
        if event.mask.contains(EventMask::Q_OVERFLOW) || concerns(path, event.name.as_deref()) {
            wake.notify_one();
        }
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn concerns(path: &Path, changed: Option<&OsStr>) -> bool {
    changed.is_some_and(|name| Some(name) == path.file_name() || name == CONFIG_MAP_LINK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A watch on `path`, past its first ring.
    async fn watch(path: &Path) -> (Arc<Notify>, tokio::task::JoinHandle<()>) {
        let wake = Arc::new(Notify::new());
        let task = tokio::spawn({
            let (path, wake) = (path.to_owned(), wake.clone());
            async move { config_folder(&path, wake).await }
        });
        rings(&wake).await;
        (wake, task)
    }

    async fn rings(wake: &Notify) {
        tokio::time::timeout(Duration::from_secs(5), wake.notified()).await.expect("no ring within 5 s");
    }

    #[tokio::test]
    async fn a_config_map_swap_rings() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["..1", "..2"] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("gateway.yaml"), version).unwrap();
        }
        symlink("..1", folder.path().join("..data")).unwrap();
        symlink("..data/gateway.yaml", folder.path().join("gateway.yaml")).unwrap();
        let (wake, task) = watch(&folder.path().join("gateway.yaml")).await;

        symlink("..2", folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        rings(&wake).await;
        assert_eq!(fs::read_to_string(folder.path().join("gateway.yaml")).unwrap(), "..2");
        task.abort();
    }

    #[tokio::test]
    async fn writing_replacing_and_deleting_the_file_ring_and_its_neighbours_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "1").unwrap();
        let (wake, task) = watch(&path).await;

        fs::write(folder.path().join("other"), "x").unwrap();
        fs::write(&path, "2").unwrap();
        rings(&wake).await;
        fs::write(folder.path().join("new"), "3").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        rings(&wake).await;
        fs::remove_file(&path).unwrap();
        rings(&wake).await;
        fs::write(folder.path().join("other"), "y").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(200), wake.notified()).await;
        assert!(quiet.is_err(), "a neighbour rang");
        task.abort();
    }

    #[tokio::test]
    async fn a_folder_that_is_made_anew_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sluice");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("gateway.yaml");
        let (wake, task) = watch(&path).await;
        fs::remove_dir(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        // Rings once by the clock and once when the new folder is watched.
        rings(&wake).await;
        rings(&wake).await;
        fs::write(&path, "1").unwrap();
        rings(&wake).await;
        task.abort();
    }
}
