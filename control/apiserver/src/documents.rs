//! What parts of the control plane know and tell, below `/corten/v1/NAME`: no objects, for reading only.
//!
//! Who may read them is decided as for all paths that are no resources.

use std::sync::{Mutex, PoisonError};

use corten_api::status::Status;
use http::StatusCode;
use serde_json::Value;

use crate::body::{self, Answer};
use crate::server::Server;

/// Makes the document of a path, given by its parts; `None` if there is none.
type Source = Box<dyn Fn(&[&str]) -> Option<Value> + Send + Sync>;

/// Parts that have something to tell.
#[derive(Default)]
pub(crate) struct Documents(Mutex<Vec<(&'static str, Source)>>);

impl Server {
    /// Serves what `source` makes of the parts of a path below `/corten/v1/NAME`. It must be quick.
    pub fn add_document(&self, name: &'static str, source: impl Fn(&[&str]) -> Option<Value> + Send + Sync + 'static) {
        let mut all = self.documents().0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(own, _)| *own != name);
        all.push((name, Box::new(source)));
    }
}

/// Answers a request for one.
pub(crate) fn answer(server: &Server, name: &str, path: &[&str]) -> Result<Answer, Status> {
    let all = server.documents().0.lock().unwrap_or_else(PoisonError::into_inner);
    let source = all.iter().find(|(own, _)| *own == name).map(|(_, source)| source);
    let document = source.and_then(|source| source(path)).ok_or_else(Status::no_such_path)?;
    Ok(body::value(StatusCode::OK, &document))
}
