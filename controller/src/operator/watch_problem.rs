//! What is wrong with a watch, in a sentence that names the fix.

use std::error::Error as _;

use kube::core::Status;
use kube::runtime::watcher::Error;

/// What `error` of a watch says about the cluster, and what to do about it.
pub fn watch_problem(error: &Error) -> String {
    match status(error) {
        Some(status) if status.code == 404 => {
            "the API server does not know this kind: apply what `sluice-controller crds` prints, or install Multus if it is its network"
                .to_owned()
        }
        Some(status) if matches!(status.code, 401 | 403) => {
            format!("{}: apply what `sluice-controller rbac` prints", status.message)
        }
        Some(status) => status.message.clone(),
        None => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// The API server's answer, if there was one.
fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, message: &str) -> Error {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_the_user_can_mend_has_its_fix() {
        assert!(watch_problem(&answered(404, "page not found")).contains("sluice-controller crds"));
        let forbidden = watch_problem(&answered(403, "pods is forbidden"));
        assert!(forbidden.starts_with("pods is forbidden: apply") && forbidden.contains("rbac"));
        assert_eq!(watch_problem(&answered(500, "etcd is away")), "etcd is away");
        assert_eq!(watch_problem(&Error::NoResourceVersion), Error::NoResourceVersion.to_string());
    }
}
