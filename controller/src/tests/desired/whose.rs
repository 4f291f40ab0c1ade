//! Labels and owners, and whose an object is.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::Documents;
use super::made;
use crate::desired::{deployment, is_ours, is_pod_of, name, pods_of};

#[test]
fn labels_are_shortened_each_by_itself() {
    let mut service = Documents::new().service();
    let labels = |service: &Service| pods_of(service).into_iter().collect::<Vec<_>>();
    let pairs = |pairs: [(&str, &str); 3]| pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        labels(&service),
        pairs([("app", "lb-svc-test-service"), ("namespace", "default"), ("service", "test-service")])
    );
    // 63 characters fit as they are; `lb-svc-` makes them 70. The digits are those of `printf lb-svc-aaa... | sha256sum`.
    let long = "a".repeat(63);
    service.metadata.name = Some(long.clone());
    let short = format!("lb-svc-{}-{}", "a".repeat(47), SHORTENED);
    assert_eq!(short.len(), 63);
    assert_eq!(labels(&service), pairs([("app", &short), ("namespace", "default"), ("service", &long)]));
    assert_eq!(name(&service), format!("lb-svc-{long}"), "names are not shortened");
}

/// `printf 'lb-svc-%s' $(printf 'a%.0s' $(seq 63)) | sha256sum | cut -c 1-8`
const SHORTENED: &str = "49af18fa";

#[test]
fn whose_a_pod_is() {
    let made = made(&Documents::new());
    let template = deployment(&made.inputs(false)).unwrap().spec.unwrap().template;
    let mut metadata = template.metadata.unwrap();
    metadata.namespace = Some("default".to_owned());
    let pod = |metadata: &ObjectMeta| Pod { metadata: metadata.clone(), ..Pod::default() };
    assert!(is_pod_of(&made.service, &pod(&metadata)));
    let mut reborn = made.service.clone();
    reborn.metadata.uid = Some("another".to_owned());
    assert!(!is_pod_of(&reborn, &pod(&metadata)), "a Service of the same name that came later");
    let edits: [fn(&mut ObjectMeta); 4] = [
        |metadata| metadata.namespace = Some("other".to_owned()),
        |metadata| drop(metadata.labels.as_mut().unwrap().remove("service")),
        |metadata| metadata.annotations = None,
        |metadata| metadata.labels = None,
    ];
    for (index, edit) in edits.iter().enumerate() {
        let mut metadata = metadata.clone();
        edit(&mut metadata);
        assert!(!is_pod_of(&made.service, &pod(&metadata)), "{index}");
    }
}

#[test]
fn whose_a_child_is() {
    let made = made(&Documents::new());
    let metadata = deployment(&made.inputs(false)).unwrap().metadata;
    assert!(is_ours(&metadata, &made.service));
    assert_eq!(metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"], "sluice-controller");
    let mut reborn = made.service.clone();
    reborn.metadata.uid = Some("another".to_owned());
    assert!(!is_ours(&metadata, &reborn));
    assert!(!is_ours(&ObjectMeta { owner_references: None, ..metadata.clone() }, &made.service));
    let mut guest = metadata;
    guest.owner_references.as_mut().unwrap()[0].controller = None;
    assert!(!is_ours(&guest, &made.service), "an owner, but not the controller");
}
