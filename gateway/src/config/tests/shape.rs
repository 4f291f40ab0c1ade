//! Files that are not YAML, of another version, or of another shape.

use super::refusals::{problems, refused};

#[test]
fn version() {
    refused("version: 1", "version: 2", 1, "version", "2 is not a version", "`version: 1`");
    refused("version: 1", "version: one", 1, "version", "one is not", "`version: 1`");
    refused("version: 1\n", "", 1, "version", "does not say", "`version: 1`");
    // Another version may have fields that this one has not: the version is the message.
    refused("version: 1", "plugins: []\nversion: 2", 2, "version", "2 is not a version", "`version: 1`");
    for empty in ["", "# nothing\n", "---\n", "[]", "version", "version:\n"] {
        assert_eq!(problems(empty)[0].field, "version", "{empty:?}");
    }
}

#[test]
fn shape() {
    refused(
        "    udpStream",
        "    udpStraem",
        6,
        "gateway.timeouts.udpStraem",
        "no such field",
        "did you mean `udpStream`?",
    );
    refused(
        "externalInterface",
        "device",
        3,
        "gateway.device",
        "no such field",
        "use one of externalInterface, ",
    );
    refused(
        "    targetPort",
        "    target_port",
        19,
        "services[0].ports[0].target_port",
        "no such field",
        "`targetPort`",
    );
    refused("port: 53", "prot: 53", 32, "services[1].ports[0].prot", "no such field", "did you mean `port`?");
    refused(
        "protocol: TCP",
        "protocol: Tcp",
        17,
        "services[0].ports[0].protocol",
        "`Tcp`",
        "did you mean `TCP`?",
    );
    refused(
        "protocol: TCP",
        "protocol: QUIC",
        17,
        "services[0].ports[0].protocol",
        "`QUIC`",
        "use one of TCP, UDP, SCTP",
    );
    refused("- name: default/b\n  vips", "- vips", 26, "services[1].name", "missing", "add");
    refused(
        "port: 80\n",
        "port: http\n",
        18,
        "services[0].ports[0].port",
        "http is not a number",
        "from 0 to 65535",
    );
    refused(
        "port: 80\n",
        "port: 65536\n",
        18,
        "services[0].ports[0].port",
        "65536 is not",
        "from 0 to 65535",
    );
    refused("port: 80\n", "port: -1\n", 18, "services[0].ports[0].port", "-1 is not", "from 0 to 65535");
    refused("table: 100", "table: main", 4, "gateway.table", "main is not", "whole number");
    refused(
        "[10.109.201.194]",
        "10.109.201.194",
        30,
        "services[1].targets",
        "10.109.201.194 is not a list",
        "`[]`",
    );
    refused("[10.109.201.194]", "", 30, "services[1].targets", "nothing is not a list", "`[]`");
    refused("- name: default/b", "- name:", 26, "services[1].name", "no value", "give it one");
    refused("- name: default/b", "- name: b\n  name: c", 27, "services[1].name", "duplicate", "keep one");
    refused(
        "  ports:\n  - port: 53\n    protocol: UDP\n",
        "  ports: [tcp]\n",
        31,
        "services[1].ports[0]",
        "tcp is not a set",
        "name: value",
    );
}

#[test]
fn yaml() {
    // The parser notices the open bracket at the next line's colon.
    refused("[10.109.201.194]", "[10.109.201.194", 31, "", "':'", "at or just before this line");
    refused("version: 1", "version: 1\n  x: 2", 2, "", "mapping values", "correct the YAML");
    refused("version: 1\n", "version: 1\n---\n", 3, "", "only single YAML document", "correct the YAML");
}
