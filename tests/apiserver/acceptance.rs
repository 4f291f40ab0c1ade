//! What upstream's own end-to-end tests ask for, without the packets.

use sluice_apiserver_tests::world;

#[test]
fn dynamic() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
    });
}
