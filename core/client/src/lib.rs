//! corten-client
