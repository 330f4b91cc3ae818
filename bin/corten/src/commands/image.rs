//! `corten image import` and `corten image ls`: they work beside a running node, and without one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use corten_image::ImageStore;
use serde_json::json;

use super::Output;
use crate::settings::images_dir;

#[derive(clap::Subcommand)]
pub(super) enum Image {
    /// Import the images of a tar archive: an OCI layout, or what `docker save` writes
    Import {
        /// The archive, gzipped or not
        file: PathBuf,
        /// Folder of everything that lasts
        #[arg(long, value_name = "DIR", default_value = "/var/lib/corten")]
        data_dir: PathBuf,
    },
    /// List the images of this machine
    Ls {
        /// Folder of everything that lasts
        #[arg(long, value_name = "DIR", default_value = "/var/lib/corten")]
        data_dir: PathBuf,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

pub(super) fn run(image: Image) -> anyhow::Result<ExitCode> {
    match image {
        Image::Import { file, data_dir } => {
            let store = open(data_dir)?;
            for (name, image) in store.import(&file).with_context(|| format!("cannot import {}", file.display()))? {
                println!("{name} {}", image.id);
            }
        }
        Image::Ls { data_dir, output } => {
            // To look makes nothing.
            let images = if images_dir(&data_dir).exists() { open(data_dir)?.list()? } else { Vec::new() };
            list(&images, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(data_dir: PathBuf) -> anyhow::Result<ImageStore> {
    ImageStore::open(images_dir(&data_dir)).context("cannot open the image store")
}

fn list(images: &[corten_image::Image], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let list: Vec<_> = images
            .iter()
            .map(|image| json!({"id": image.id, "tags": image.tags, "digests": image.digests, "size": image.size}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let names = images.iter().flat_map(|image| image.tags.iter().map(move |tag| (tag, image)));
    let rows: Vec<_> = names.collect();
    let width = rows.iter().map(|(tag, _)| tag.len()).max().unwrap_or(0).max(5);
    println!("{:width$}  {:19}  {:>10}", "IMAGE", "ID", "SIZE");
    for (tag, image) in rows {
        let id: String = image.id.chars().take(19).collect();
        println!("{tag:width$}  {id:19}  {:>10}", size(image.size));
    }
    Ok(())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut tenths, mut unit) = (bytes * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 1536, 5 << 20, (3 << 30) + (512 << 20)].map(size), ["0.0 KiB", "1.5 KiB", "5.0 MiB", "3.5 GiB"]);
    }
}
