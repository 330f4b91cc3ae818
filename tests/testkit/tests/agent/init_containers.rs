//! What runs before and beside the main containers.

use anyhow::Result;
use serde_json::{Value, json};

use crate::objects::{condition, create, get, journal, one_machine, reach, seconds, show};

fn one(name: &str, command: &str) -> Value {
    json!({"name": name, "image": "web:1", "command": command.split(' ').collect::<Vec<_>>()})
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let first = [one("a", "exit 0 after 5"), one("b", "exit 0 after 5")];
    create(&cluster, json!({"initContainers": first, "containers": [one("c", "serve")]})).await?;
    let pod = reach(&cluster, "Pending a=running/0 b=PodInitializing/0 c=PodInitializing/0").await?;
    assert_eq!(condition(&pod, "Initialized"), "False");
    let pod = reach(&cluster, "Running a=Completed(0)+/0 b=Completed(0)+/0 c=running+/0").await?;
    assert_eq!((condition(&pod, "Initialized"), condition(&pod, "Ready")), ("True".to_owned(), "True".to_owned()));
    assert_eq!(journal(&machine), ["create web", "start web/a 0", "start web/b 0", "start web/c 0"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failing_init_container_is_tried_again_or_ends_the_pod() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [one("a", "exit 1")], "containers": [one("c", "serve")]});
    create(&cluster, spec("Always")).await?;
    cluster.advance(seconds(25)).await;
    assert_eq!(show(&get(&cluster).await?), "Pending a=CrashLoopBackOff/2 c=PodInitializing/0");
    cluster.api::<corten_api::api::core::v1::Pod>("default").delete("web", &Default::default()).await?;
    crate::objects::gone(&cluster).await?;
    create(&cluster, spec("Never")).await?;
    let pod = reach(&cluster, "Failed a=Error(1)/0 c=PodInitializing/0").await?;
    assert_eq!(condition(&pod, "Initialized"), "False");
    assert!(journal(&machine).iter().all(|line| !line.starts_with("start web/c")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_comes_first_is_kept_up_and_goes_last() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut side = one("side", "serve");
    side["restartPolicy"] = json!("Always");
    side["readinessProbe"] = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"restartPolicy": "Never", "initContainers": [side, one("b", "exit 0")],
        "containers": [one("c", "exit 0 after 60")]});
    create(&cluster, spec).await?;
    reach(&cluster, "Running side=running+/0 b=Completed(0)+/0 c=running+/0").await?;
    machine.runtime.answer("ready", 1);
    let pod = reach(&cluster, "Running side=running/0 b=Completed(0)+/0 c=running+/0").await?;
    assert_eq!(condition(&pod, "Ready"), "False", "a sidecar counts");
    assert_eq!(condition(&pod, "Initialized"), "True", "it has started");
    machine.runtime.answer("ready", 0);
    machine.runtime.end("web", "side", 1)?;
    reach(&cluster, "Running side=running+/1 b=Completed(0)+/0 c=running+/0").await?;
    cluster.advance(seconds(30)).await;
    reach(&cluster, "Succeeded side=Completed(0)/1 b=Completed(0)+/0 c=Completed(0)/0").await?;
    let expected = [
        "create web",
        "start web/side 0",
        "start web/b 0",
        "start web/c 0",
        "start web/side 1",
        "signal web/side 15",
        "remove web",
    ];
    cluster.advance(seconds(1)).await;
    assert_eq!(journal(&machine), expected);
    Ok(())
}
