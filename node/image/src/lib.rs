//! corten-image
