//! What one run of a probe says.

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As it should be.
    Healthy,
    /// As it should be, but people should know something.
    Warning(String),
    /// Not as it should be, and why.
    Unhealthy(String),
    /// The probe could not be made: this says nothing of the container.
    Unknown(String),
}
