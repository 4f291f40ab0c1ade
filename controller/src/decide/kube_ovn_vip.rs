//! Addresses that Kube-OVN gives to `Vip` objects.

use std::net::IpAddr;

use crate::api::{Holder, Subnet, Vip, VipSpec, annotation};
use crate::desired::{MANAGED_BY, hash};
use crate::ipam::Family;

/// So that the name can be a label's value, too.
const MAX_NAME: usize = 63;

/// The Vip that asks Kube-OVN for `addresses` of `subnet`; none of a family: any. Its name tells Service, Subnet and request, so that a Service
/// that asks for another address gets another Vip, and keeps the old one until nobody needs it.
pub fn vip(holder: &Holder, subnet: &Subnet, addresses: &[IpAddr]) -> Vip {
    let of_family = |family| {
        let mut of_family = addresses.iter().filter(|address| Family::of(**address) == family);
        of_family.next().map(IpAddr::to_string)
    };
    let (v4ip, v6ip) = (of_family(Family::V4), of_family(Family::V6));
    let request = format!("{}\n{}\n{v4ip:?}\n{v6ip:?}", holder.uid, subnet.name());
    let hash = hash::hex(request.as_bytes(), 8);
    let kept = MAX_NAME - "lb-svc-".len() - 1 - hash.len();
    // Names are ASCII, so that this is a boundary.
    let service = holder.name.get(..kept).unwrap_or(&holder.name);
    let mut vip = Vip::new(
        &format!("lb-svc-{service}-{hash}"),
        VipSpec { subnet: subnet.name().to_owned(), v4ip, v6ip },
    );
    let (key, value) = MANAGED_BY;
    vip.metadata.labels = Some(
        [(key.to_owned(), value.to_owned()), (annotation::SERVICE_UID.to_owned(), holder.uid.clone())].into(),
    );
    let service = format!("{}/{}", holder.namespace, holder.name);
    vip.metadata.annotations = Some([(annotation::SERVICE.to_owned(), service)].into());
    vip
}

/// Whose Vip it is; `None`: not one of ours.
pub fn vip_holder(vip: &Vip) -> Option<Holder> {
    let labels = vip.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY.0).map(String::as_str) != Some(MANAGED_BY.1) {
        return None;
    }
    let uid = labels.get(annotation::SERVICE_UID)?;
    let (namespace, name) = vip.metadata.annotations.as_ref()?.get(annotation::SERVICE)?.split_once('/')?;
    Some(Holder { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.clone() })
}

/// What Kube-OVN has given to `vip`; nothing: it has not yet, or what is asked for is taken.
pub fn vip_addresses(vip: &Vip) -> Vec<IpAddr> {
    let status = vip.status.iter();
    status.flat_map(|status| [&status.v4ip, &status.v6ip]).filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::VipStatus;

    fn holder(name: &str, uid: &str) -> Holder {
        Holder { namespace: "default".to_owned(), name: name.to_owned(), uid: uid.to_owned() }
    }

    fn subnet(name: &str) -> Subnet {
        Subnet::new(name, crate::api::SubnetSpec::default())
    }

    fn name(holder: &Holder, subnet_name: &str, addresses: &[&str]) -> String {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        vip(holder, &subnet(subnet_name), &addresses).metadata.name.unwrap()
    }

    #[test]
    fn it_asks_for_what_is_given_and_says_whose_it_is() {
        let web = holder("web", "1");
        let made = vip(&web, &subnet("external"), &["172.18.0.12".parse().unwrap()]);
        let spec =
            VipSpec { subnet: "external".to_owned(), v4ip: Some("172.18.0.12".to_owned()), v6ip: None };
        assert_eq!(made.spec, spec);
        assert_eq!(vip_holder(&made), Some(web));
        let dynamic = vip(&holder("web", "1"), &subnet("external"), &[]).spec;
        assert_eq!((dynamic.v4ip, dynamic.v6ip), (None, None));
        let mut foreign = made;
        foreign.metadata.labels = None;
        assert_eq!(vip_holder(&foreign), None);
    }

    #[test]
    fn one_name_for_each_request() {
        let first = name(&holder("web", "1"), "external", &[]);
        assert!(first.starts_with("lb-svc-web-"), "{first}");
        assert_eq!(first, name(&holder("web", "1"), "external", &[]));
        let others = [
            name(&holder("web", "2"), "external", &[]),
            name(&holder("web", "1"), "other", &[]),
            name(&holder("web", "1"), "external", &["172.18.0.12"]),
            name(&holder("web", "1"), "external", &["172.18.0.12", "fd00::12"]),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(&first, other);
            assert!(!others[..index].contains(other), "{other}");
        }
        assert_eq!(name(&holder(&"w".repeat(63), "1"), "external", &[]).len(), 63);
    }

    #[test]
    fn what_it_was_given() {
        let mut vip = vip(&holder("web", "1"), &subnet("external"), &[]);
        assert_eq!(vip_addresses(&vip), Vec::<IpAddr>::new());
        vip.status = Some(VipStatus { v4ip: "172.18.0.12".to_owned(), v6ip: String::new() });
        assert_eq!(vip_addresses(&vip), ["172.18.0.12".parse::<IpAddr>().unwrap()]);
    }
}
