//! The netns rung: real traffic, a real kernel, network namespaces of the test's own. Needs root.

mod loader;
mod oracle;
mod reconcile;
