//! Keeps the files of one pod's volumes what their objects say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::{Pod, Volume};
use corten_base::{Backoff, Clock, Random, chain};
use kube::Client;
use tokio::sync::watch;

use super::payload::{Owner, Payload};
use super::tokens::Tokens;
use super::{VolumeError, blocking, render, writer};
use crate::facts::NodeFacts;
use crate::sources::{Changes, PodSources};

/// Renders the files of a pod's volumes, once or whenever something changes.
pub(super) struct Keeper {
    pub(super) pod: watch::Receiver<Arc<Pod>>,
    pub(super) node: Arc<NodeFacts>,
    pub(super) client: Client,
    pub(super) used: PodSources,
    pub(super) changes: Changes,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) tokens: Tokens,
    /// Those that hold files, and where.
    pub(super) volumes: Vec<(Volume, PathBuf)>,
}

impl Keeper {
    /// The files of all volumes as they should be now; the first volume that has none is an error.
    pub(super) async fn render(&mut self) -> Result<Vec<(PathBuf, Payload)>, VolumeError> {
        let mut files = Vec::new();
        let rendered = self.render_each().await?;
        for (dir, payload) in rendered {
            files.push((dir, payload?));
        }
        Ok(files)
    }

    async fn render_each(&mut self) -> Result<Vec<(PathBuf, Result<Payload, VolumeError>)>, VolumeError> {
        let pod = self.pod.borrow_and_update().clone();
        let objects = self.used.objects().await.map_err(VolumeError::Pod)?;
        let (client, now) = (&self.client, self.clock.now());
        let given = render::Given { client, pod: &pod, node: &self.node, objects: &objects, now };
        let mut files = Vec::new();
        for (volume, dir) in &self.volumes {
            files.push((dir.clone(), render::files(volume, &given, &mut self.tokens).await));
        }
        Ok(files)
    }

    /// A name for a folder of files that no other has.
    pub(super) fn stamp(&self) -> String {
        format!("{}.{}", self.clock.now().strftime("%Y_%m_%d_%H_%M_%S"), self.random.suffix(10))
    }

    /// Follows changes for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), 2, Duration::from_secs(60));
        let mut failed = false;
        loop {
            let now = self.clock.now();
            let until_renewal =
                self.tokens.next_renewal().map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            // After a failure a token is due already: the back-off says when to try again.
            let wait = if failed { Some(backoff.next_delay()) } else { until_renewal };
            tokio::select! {
                () = self.changes.next() => {}
                changed = self.pod.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep(wait) => {}
            }
            failed = self.update().await;
            if !failed {
                backoff.reset();
            }
        }
    }

    /// Writes what has changed. A volume that cannot be rendered keeps its files; answers whether there is one.
    async fn update(&mut self) -> bool {
        let rendered = match self.render_each().await {
            Ok(rendered) => rendered,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the volumes of a pod are not current");
                return true;
            }
        };
        let (stamp, group) = (self.stamp(), Owner::of(&self.pod.borrow()).group);
        let mut failed = false;
        let mut jobs = Vec::new();
        for (dir, payload) in rendered {
            match payload {
                Ok(payload) => jobs.push((dir, payload)),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "a volume keeps its files");
                    failed = true;
                }
            }
        }
        let written = blocking(move || {
            for (dir, payload) in &jobs {
                writer::write(dir, payload, &stamp, group).map_err(VolumeError::io("write", dir))?;
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!(error = chain(&error), "the volumes of a pod are not current");
            failed = true;
        }
        failed
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
