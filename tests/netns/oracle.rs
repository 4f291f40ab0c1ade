//! The same scripted traffic through Sluice and through the original's iptables rules.
