//! Names of images: `web`, `localhost/testbox:v1`, `registry:5000/a/b@sha256:…`.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;

use crate::{Error, Result};

/// A parsed and completed image name: `web` is `docker.io/library/web:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef(Reference);

impl ImageRef {
    pub(crate) fn inner(&self) -> &Reference {
        &self.0
    }

    /// `sha256:…`, if the name demands one content.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// The name without tag and digest: `docker.io/library/web`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.0.registry(), self.0.repository())
    }
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let parsed = name.parse::<Reference>().map_err(|error| Error::InvalidName {
            name: name.to_owned(),
            why: format!("couldn't parse image name: {error}"),
        })?;
        Ok(Self(parsed))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.whole())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (name, full) in [
            ("web", "docker.io/library/web:latest"),
            ("team/web:1", "docker.io/team/web:1"),
            ("localhost/testbox:v1", "localhost/testbox:v1"),
            ("registry:5000/a/b", "registry:5000/a/b:latest"),
            ("docker.io/web", "docker.io/library/web:latest"),
            ("index.docker.io/team/web", "docker.io/team/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            (
                "web@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "docker.io/library/web@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ),
        ] {
            assert_eq!(name.parse::<ImageRef>().expect(name).to_string(), full, "{name}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "Web", "a b", "web:", "@sha256:12"] {
            assert!(name.parse::<ImageRef>().is_err(), "{name}");
        }
    }
}
