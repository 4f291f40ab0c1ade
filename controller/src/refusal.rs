//! Why a Service cannot be served, in the words of the one who wrote it.

/// What is wrong with an object, and what to do about it. `Display` is the text of the Event on the Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {fault}: {fix}")]
pub struct Refusal {
    /// Kind and name, such as `Service default/web` or `Subnet external`.
    pub object: String,
    /// The field, such as `spec.ports[0].protocol`.
    pub field: String,
    /// What is wrong, with the value.
    pub fault: String,
    /// What to do about it.
    pub fix: String,
}

impl Refusal {
    pub(crate) fn new(
        object: &str,
        field: impl Into<String>,
        fault: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { object: object.to_owned(), field: field.into(), fault: fault.into(), fix: fix.into() }
    }
}
