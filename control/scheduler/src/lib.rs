//! corten-scheduler
