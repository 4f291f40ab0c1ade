//! A watch that finds out when its connection is dead, and of which it is known whether it works.

use std::fmt::Debug;

use futures_util::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// Seconds after which the API server ends a watch, which then goes on where it was. A connection that died without a word, as when a node or
/// a load balancer on the way is gone, is given up a little later.
pub const TIMEOUT: u32 = 45;

/// Objects of a list that are read at a time. All seven kinds are listed at once, and what a page takes in memory is several times its size
/// on the wire; a larger page is hardly faster.
const PAGE: u32 = 50;

/// Watches a kind. After each error it begins anew by a list: a watch that was merely resumed says nothing until something changes, so
/// that nobody could know that it works again.
pub fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let begin = move || watcher(api.clone(), config.clone().timeout(TIMEOUT).page_size(PAGE)).boxed();
    let first = begin();
    stream::unfold((first, begin), |(mut watch, begin)| async move {
        let event = watch.next().await?;
        if event.is_err() {
            watch = begin();
        }
        Some((event, (watch, begin)))
    })
}
