//! corten-testkit
