//! Who gets which address, and what the network outside does.

use serde_json::json;

use crate::case::Case;

#[test]
fn the_second_who_asks_for_an_address_reads_who_has_it() {
    let case = Case::new("two-for-one");
    case.start_backends();
    let spec = json!({ "loadBalancerIP": case.address(9) });
    case.apply(&case.service("first", &spec));
    assert_eq!(case.published("first"), [case.address(9)]);
    case.apply(&case.service("second", &spec));
    let holder = format!("held by Service {}/first", case.namespace);
    case.event("second", "Refused", &holder);
    assert_eq!(case.addresses("second"), [""; 0]);
    case.assert_served(&case.address(9));

    case.kubectl(&["delete", "service", "first", "--wait=false"]);
    assert_eq!(case.published("second"), [case.address(9)]);
    case.eventually("the second serves it", || case.hostname(&case.address(9)).ok());
}

#[test]
fn a_silent_external_gateway_keeps_nobody_in_the_subnet_from_being_served() {
    let case = Case::new("silent-gateway");
    let gateway = case.address(1);
    case.cluster.client.output("ping", &["-c", "1", "-W", "1", &gateway]).expect_err("nobody has it");
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);
}
