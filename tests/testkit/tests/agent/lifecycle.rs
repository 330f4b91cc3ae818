//! From a pod's creation to its end by itself.

use anyhow::{Result, ensure};
use corten_api::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use crate::objects::{
    condition, container, create, create_named, events, get, journal, one_machine, reach, running, seconds, show, state,
};

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_running_and_ready() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    let pod = reach(&cluster, "Running c=running+/0").await?;
    for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    let status = pod.status.unwrap_or_default();
    assert!(status.pod_ip.is_some_and(|ip| ip.starts_with("10.42.")));
    assert_eq!(status.host_ip.as_deref(), Some("172.30.0.1"));
    assert_eq!(journal(&machine), ["create web", "start web/c 0"]);
    cluster.advance(seconds(1)).await;
    for reason in ["Pulled", "Created", "Started"] {
        assert_eq!(events(&cluster, reason).await?, 1, "{reason}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_done_keeps_its_status_and_gives_back_the_rest() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("exit 0 after 5");
    spec["restartPolicy"] = json!("Never");
    let uid = create(&cluster, spec).await?.metadata.uid.unwrap_or_default();
    reach(&cluster, "Succeeded c=Completed(0)/0").await?;
    cluster.advance(seconds(1)).await;
    assert_eq!(journal(&machine), ["create web", "start web/c 0", "remove web"]);
    assert!(machine.network.links().is_empty() && !machine.has_files_of(&uid));
    let pod = get(&cluster).await?;
    assert!(pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).is_some(), "its address stays known");
    assert_eq!(condition(&pod, "Ready"), "False");
    assert_eq!(condition(&pod, "Initialized"), "True");

    // Another agent knows of it only what the API says, and changes nothing.
    let before = pod.metadata.resource_version;
    machine.stop_agent().await;
    machine.start_agent().await;
    cluster.advance(seconds(60)).await;
    let pod = get(&cluster).await?;
    assert_eq!((show(&pod).as_str(), pod.metadata.resource_version), ("Succeeded c=Completed(0)/0", before));
    assert_eq!(journal(&machine).len(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_or_not_as_the_policy_says() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let with = |policy: &str, command: &str| {
        let mut spec = running(command);
        spec["restartPolicy"] = json!(policy);
        spec
    };
    create_named(&cluster, "never", with("Never", "exit 3")).await?;
    create_named(&cluster, "retry", with("OnFailure", "exit 3")).await?;
    create_named(&cluster, "once", with("OnFailure", "exit 0")).await?;
    cluster.advance(seconds(25)).await;
    let mut shown = Vec::new();
    for name in ["never", "retry", "once"] {
        shown.push(show(&cluster.api::<Pod>("default").get(name).await?));
    }
    assert_eq!(shown, ["Failed c=Error(3)/0", "Running c=CrashLoopBackOff/2", "Succeeded c=Completed(0)/0"]);
    assert_eq!(machine.runtime.pods().len(), 1, "what is done is removed");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_last_words_stay_known_when_the_next_attempt_runs() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let uid = create(&cluster, running("serve")).await?.metadata.uid.unwrap_or_default();
    reach(&cluster, "Running c=running+/0").await?;
    machine.say_last_words(&uid, "c", 0, "out of luck")?;
    machine.runtime.end("web", "c", 7)?;
    let pod = reach(&cluster, "Running c=running+/1").await?;
    let last = pod.status.and_then(|status| status.container_statuses?.into_iter().next()?.last_state);
    assert_eq!(state(last.as_ref()), "Error(7)");
    assert_eq!(last.and_then(|last| last.terminated?.message).as_deref(), Some("out of luck"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_pod() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("slow 3");
    spec["activeDeadlineSeconds"] = json!(60);
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running+/0").await?;
    cluster.advance(seconds(65)).await;
    let pod = reach(&cluster, "Failed c=Completed(0)/0").await?;
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("DeadlineExceeded"));
    assert_eq!(machine.runtime.pods().len(), 0);
    assert_eq!(events(&cluster, "DeadlineExceeded").await?, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_up_the_container_until_it_appears() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "cfg"}}]);
    create(&cluster, spec).await?;
    let pod = reach(&cluster, "Pending c=CreateContainerConfigError/0").await?;
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let message = statuses[0].state.as_ref().and_then(|state| state.waiting.as_ref()?.message.clone());
    assert_eq!(message.as_deref(), Some("configmap \"cfg\" not found"));
    // However long it has been missing.
    cluster.advance(seconds(1000)).await;
    cluster.create::<ConfigMap>("default", json!({"metadata": {"name": "cfg"}, "data": {"A": "1"}})).await?;
    cluster.advance(seconds(2)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_missing_volume_source_holds_up_the_pod_until_it_appears() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["volumes"] = json!([{"name": "cfg", "configMap": {"name": "cfg"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "cfg", "mountPath": "/cfg"}]);
    create(&cluster, spec).await?;
    reach(&cluster, "Pending c=ContainerCreating/0").await?;
    cluster.advance(seconds(1000)).await;
    assert!(events(&cluster, "FailedMount").await? > 1);
    cluster.create::<ConfigMap>("default", json!({"metadata": {"name": "cfg"}, "data": {"a": "1"}})).await?;
    cluster.advance(seconds(2)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hundred_pods_start_at_once() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let start = cluster.now();
    for number in 0..100 {
        create_named(&cluster, &format!("pod-{number}"), json!({"containers": [container("serve")]})).await?;
    }
    cluster
        .eventually("a hundred pods", async || {
            let pods = cluster.list::<Pod>("default").await?;
            let ready = pods.iter().filter(|pod| condition(pod, "Ready") == "True").count();
            ensure!(ready == 100, "{ready} are ready");
            Ok(())
        })
        .await?;
    assert!(cluster.now().duration_since(start).as_secs() < 10);
    assert_eq!(machine.network.links().len(), 100);
    let delete = Default::default();
    cluster.api::<Pod>("default").delete_collection(&delete, &Default::default()).await?;
    cluster
        .eventually("none", async || {
            let left = cluster.list::<Pod>("default").await?.len();
            ensure!(left == 0 && machine.runtime.pods().is_empty(), "{left} are left");
            Ok(())
        })
        .await?;
    assert!(machine.network.links().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn another_image_in_the_spec_replaces_the_container() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    let images = json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}});
    let patch = kube::api::Patch::Strategic(images);
    cluster.api::<Pod>("default").patch("web", &Default::default(), &patch).await?;
    let pod = reach(&cluster, "Running c=running+/1").await?;
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    assert_eq!((statuses[0].image.as_str(), statuses[0].image_id.as_str()), ("web:2", "sha256:web:2"));
    assert_eq!(journal(&machine), ["create web", "start web/c 0", "signal web/c 15", "start web/c 1"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_others_write_into_a_status_is_put_right() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    let lie = kube::api::Patch::Merge(json!({"status": {"containerStatuses": [], "podIP": "10.42.9.9"}}));
    cluster.api::<Pod>("default").patch_status("web", &Default::default(), &lie).await?;
    reach(&cluster, "Running c=running+/0").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_declares_failed_is_stopped() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    let verdict = kube::api::Patch::Merge(json!({"status": {"phase": "Failed", "reason": "Evicted"}}));
    cluster.api::<Pod>("default").patch_status("web", &Default::default(), &verdict).await?;
    let pod = reach(&cluster, "Failed c=Completed(0)/0").await?;
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("Evicted"));
    cluster.advance(seconds(1)).await;
    assert!(machine.runtime.pods().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_past_the_scheduler_to_a_taken_port_is_refused() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let spec = || {
        let mut spec = running("serve");
        spec["nodeName"] = json!("node-1");
        spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
        spec
    };
    create_named(&cluster, "first", spec()).await?;
    cluster
        .eventually("the first one runs", async || {
            ensure!(journal(&machine).len() == 2);
            Ok(())
        })
        .await?;
    create(&cluster, spec()).await?;
    cluster
        .eventually("the second one is refused", async || {
            let status = get(&cluster).await?.status.unwrap_or_default();
            let said = (status.phase.as_deref(), status.reason.as_deref());
            ensure!(said == (Some("Failed"), Some("NodePorts")), "{said:?}");
            Ok(())
        })
        .await?;
    assert_eq!(journal(&machine).len(), 2, "nothing of it was started");
    cluster.api::<Pod>("default").delete("web", &Default::default()).await?;
    cluster
        .eventually("it goes when it is deleted", async || {
            ensure!(cluster.api::<Pod>("default").get_opt("web").await?.is_none());
            Ok(())
        })
        .await
}
