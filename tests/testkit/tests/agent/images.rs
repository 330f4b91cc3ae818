//! Images that are not here.

use anyhow::Result;
use corten_base::Timestamp;
use serde_json::json;

use crate::objects::{create, events, get, one_machine, reach, running, seconds, show};

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_asked_for_ever_less_often_until_it_appears() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.images.withdraw("web:1");
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Pending c=ErrImagePull/0").await?;
    reach(&cluster, "Pending c=ImagePullBackOff/0").await?;
    cluster.advance(seconds(160)).await;
    let pulls = machine.images.pulls("web:1");
    let gaps: Vec<i64> = pulls.windows(2).map(|p: &[Timestamp]| p[1].duration_since(p[0]).as_secs()).collect();
    assert_eq!(gaps, [10, 20, 40, 80]);
    assert!(events(&cluster, "BackOff").await? >= 4 && events(&cluster, "Failed").await? >= 12);
    machine.images.publish("web:1");
    cluster.advance(seconds(160)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_imported_meanwhile_is_found_soon() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.images.withdraw("web:1");
    create(&cluster, running("serve")).await?;
    cluster.advance(seconds(800)).await;
    assert_eq!(show(&get(&cluster).await?), "Pending c=ImagePullBackOff/0");
    machine.images.import("web:1");
    cluster.advance(seconds(11)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_corrected_name_does_not_wait_for_the_wrong_one() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.images.withdraw("web:1");
    create(&cluster, running("serve")).await?;
    cluster.advance(seconds(800)).await;
    let patch = kube::api::Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}}));
    cluster.api::<corten_api::api::core::v1::Pod>("default").patch("web", &Default::default(), &patch).await?;
    cluster.advance(seconds(1)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_image_that_must_not_be_pulled_is_waited_for() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.images.evict("web:1");
    let mut spec = running("serve");
    spec["containers"][0]["imagePullPolicy"] = json!("Never");
    create(&cluster, spec).await?;
    cluster.advance(seconds(600)).await;
    assert_eq!(show(&get(&cluster).await?), "Pending c=ErrImageNeverPull/0");
    assert!(machine.images.pulls("web:1").is_empty());
    machine.images.import("web:1");
    cluster.advance(seconds(11)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}
