//! The gateway file: reading, checking, and the model that the rest works on.

mod model;
pub use model::{Config, Gateway, Port, Protocol, Service, Timeouts, Vip};
