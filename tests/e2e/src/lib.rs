//! corten-e2e
