//! corten-apiserver
