//! The pure part of the controller.
