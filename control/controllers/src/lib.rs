//! corten-controllers
