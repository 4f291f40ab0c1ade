//! Shared parts of the test rungs: topology, peers, packet builders, the oracle.
