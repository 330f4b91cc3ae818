//! The chapters of the story, each on a cluster of its own.

use corten_e2e::story::{self, Chapter, tell};
use corten_testkit::Sandbox;

fn check(chapter: Chapter) {
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = tell(&sandbox, &[story::BEGINNING, chapter]) {
        panic!("{error:?}");
    }
}

#[test]
fn people_see_what_they_expect() {
    check(story::LOOKING);
}

#[test]
fn what_breaks_is_mended() {
    check(story::REPAIR);
}

#[test]
fn containers_outlive_corten() {
    check(story::RESTART);
}

#[test]
fn updates_lose_no_request() {
    check(story::UPDATE);
}

#[test]
fn mistakes_are_explained() {
    check(story::MISTAKES);
}

#[test]
fn nothing_is_left() {
    check(story::ENDING);
}
