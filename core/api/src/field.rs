//! Validation errors that name the field, in Kubernetes' reasons and wording.
//!
//! Source of the shapes: k8s.io/apimachinery/pkg/util/validation/field.

use std::fmt;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A value is needed. The text may be empty.
    Required(String),
    /// The value is not acceptable: the value as shown, and why.
    Invalid(String, String),
    /// The field as it is is not acceptable, and why: for values too large to show.
    Unacceptable(String),
    /// The value is none of the supported ones: the value as shown, and those.
    NotSupported(String, Vec<String>),
    /// Another entry has this value.
    Duplicate(String),
    /// The value names something that is not there.
    NotFound(String),
    /// The field may not be set here, and why.
    Forbidden(String),
    /// Longer than so many bytes.
    TooLong(usize),
    /// More than so many entries: how many there are, how many may be.
    TooMany(usize, usize),
}

impl Problem {
    /// The `reason` of a cause in a `Status`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Required(_) => "FieldValueRequired",
            Self::Invalid(..) | Self::Unacceptable(_) => "FieldValueInvalid",
            Self::NotSupported(..) => "FieldValueNotSupported",
            Self::Duplicate(_) => "FieldValueDuplicate",
            Self::NotFound(_) => "FieldValueNotFound",
            Self::Forbidden(_) => "FieldValueForbidden",
            Self::TooLong(_) => "FieldValueTooLong",
            Self::TooMany(..) => "FieldValueTooMany",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required(why) if why.is_empty() => write!(f, "Required value"),
            Self::Required(why) => write!(f, "Required value: {why}"),
            Self::Invalid(value, why) => write!(f, "Invalid value: {value}: {why}"),
            Self::Unacceptable(why) => write!(f, "Invalid value: {why}"),
            Self::NotSupported(value, supported) => {
                let list: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
                write!(f, "Unsupported value: {value}: supported values: {}", list.join(", "))
            }
            Self::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Self::NotFound(value) => write!(f, "Not found: {value}"),
            Self::Forbidden(why) => write!(f, "Forbidden: {why}"),
            Self::TooLong(most) => write!(f, "Too long: may not be more than {most} bytes"),
            Self::TooMany(have, most) => write!(f, "Too many: {have}: must have at most {most} items"),
        }
    }
}

/// A problem and the field it is in, such as `spec.containers[0].image`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the object's root.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// The problems found in one object, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Adds a problem.
    pub fn push(&mut self, field: impl Into<String>, problem: Problem) {
        self.0.push(FieldError { field: field.into(), problem });
    }

    /// A value is missing.
    pub fn required(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.push(field, Problem::Required(why.into()));
    }

    /// A value is not acceptable. Strings are shown in quotes, numbers bare.
    pub fn invalid(&mut self, field: impl Into<String>, value: impl fmt::Debug, why: impl Into<String>) {
        self.push(field, Problem::Invalid(format!("{value:?}"), why.into()));
    }

    /// A field as it is is not acceptable, whatever its value.
    pub fn unacceptable(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.push(field, Problem::Unacceptable(why.into()));
    }

    /// A value is none of the supported ones.
    pub fn not_supported(&mut self, field: impl Into<String>, value: impl fmt::Debug, supported: &[&str]) {
        let supported = supported.iter().map(|&value| value.to_owned()).collect();
        self.push(field, Problem::NotSupported(format!("{value:?}"), supported));
    }

    /// Another entry has this value.
    pub fn duplicate(&mut self, field: impl Into<String>, value: impl fmt::Debug) {
        self.push(field, Problem::Duplicate(format!("{value:?}")));
    }

    /// The value names something that is not there.
    pub fn not_found(&mut self, field: impl Into<String>, value: impl fmt::Debug) {
        self.push(field, Problem::NotFound(format!("{value:?}")));
    }

    /// The field may not be set or changed.
    pub fn forbidden(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.push(field, Problem::Forbidden(why.into()));
    }

    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_read_as_kubernetes_users_know_them() {
        let mut errs = FieldErrors::default();
        errs.required("spec.containers[0].image", "");
        errs.invalid("metadata.name", "A", "must be lower case");
        errs.invalid("spec.replicas", -1, "must be greater than or equal to 0");
        errs.not_supported("spec.restartPolicy", "Sometimes", &["Always", "Never"]);
        let lines: Vec<String> = errs.0.iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            spec.containers[0].image: Required value
            metadata.name: Invalid value: "A": must be lower case
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never""#]]
        .assert_eq(&lines.join("\n"));
    }
}
