//! corten-network
