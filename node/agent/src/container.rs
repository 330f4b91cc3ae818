//! From a pod's spec and an image to what the runtime is told.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

use crate::env::{Given, config_error, environment, expand};
use crate::facts::NodeFacts;
use crate::files;
use crate::ports::{ContainerSpec, Image, Mount, PodSpec, PortError, User};
use crate::resources;
use crate::volumes::PodVolumes;

/// Where programs are looked for if neither image nor pod says it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a pod needs before its containers.
pub(crate) fn pod_spec(pod: &Pod, node: &NodeFacts) -> Result<PodSpec, PortError> {
    let name =
        files::host_name(pod, node).map_err(|message| PortError { reason: "CreatePodSandboxConfigError", message })?;
    let flag = |flag: Option<bool>| flag == Some(true);
    let spec = pod.spec.as_ref();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(PodSpec {
        uid: text(&pod.metadata.uid),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        hostname: name.hostname,
        host_network: flag(spec.and_then(|spec| spec.host_network)),
        host_pid: flag(spec.and_then(|spec| spec.host_pid)),
        host_ipc: flag(spec.and_then(|spec| spec.host_ipc)),
        share_pid: flag(spec.and_then(|spec| spec.share_process_namespace)),
        resources: resources::pod(pod),
        qos: resources::qos(pod),
        grace: spec.map_or(Duration::ZERO, crate::pods::grace_of),
    })
}

/// One start of a container.
pub(crate) struct Start<'a> {
    /// The pod.
    pub(crate) pod: &'a Arc<Pod>,
    /// The container, one of the pod's.
    pub(crate) container: &'a Container,
    /// Its image, which is on the node.
    pub(crate) image: &'a Image,
    /// The pod's volumes.
    pub(crate) volumes: &'a Arc<PodVolumes>,
    /// Folder of the pod's logs.
    pub(crate) log_dir: &'a Path,
    /// 64 hex digits that no other container has.
    pub(crate) id: String,
    /// Restart count.
    pub(crate) attempt: u32,
}

/// What the runtime needs to start a container. Makes the folder of its log and all that it mounts.
pub(crate) async fn container_spec(start: Start<'_>) -> Result<ContainerSpec, PortError> {
    let Start { pod, container, image, volumes, log_dir, id, attempt } = start;
    let security = Security::of(pod, container, image)?;
    let objects = volumes.objects().await.map_err(config_error)?;
    let services = volumes.services().await;
    let given = Given { pod, ips: volumes.ips(), node: volumes.node(), objects: &objects, services: &services };
    let variables = environment(container, &given)?;
    let args = arguments(container, image, &variables)?;
    let hostname = files::host_name(pod, volumes.node()).map_err(config_error)?.hostname;
    let tty = container.tty == Some(true);
    let log_dir = log_dir.join(&container.name);
    let log_path = log_dir.join(format!("{attempt}.log"));
    let mounts = {
        let (volumes, container, variables) = (Arc::clone(volumes), container.clone(), variables.clone());
        blocking(move || {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&log_dir)
                .map_err(|error| config_error(format!("cannot make {}: {error}", log_dir.display())))?;
            volumes.mounts(&container, &variables, attempt)
        })
        .await?
    };
    Ok(ContainerSpec {
        id,
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        name: container.name.clone(),
        attempt,
        image: image.id.clone(),
        args,
        env: merged(&image.env, &variables, &hostname, tty),
        cwd: working_dir(container, image),
        mounts,
        user: security.user,
        cap_add: security.cap_add,
        cap_drop: security.cap_drop,
        privileged: security.privileged,
        read_only_root: security.read_only_root,
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        resources: resources::container(container),
        log_path,
        tty,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        oom_score_adj: resources::oom_score_adj(pod, container, volumes.node().memory_capacity),
    })
}

async fn blocking(
    work: impl FnOnce() -> Result<Vec<Mount>, PortError> + Send + 'static,
) -> Result<Vec<Mount>, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(config_error(format!("the work on the mounts broke off: {error}"))),
    }
}

/// The program and its arguments. A command replaces both of the image's, arguments only the image's arguments.
fn arguments(container: &Container, image: &Image, variables: &[(String, String)]) -> Result<Vec<String>, PortError> {
    let value = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    let expanded =
        |list: &Option<Vec<String>>| -> Vec<String> { list.iter().flatten().map(|text| expand(text, value)).collect() };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let all = match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    };
    if all.is_empty() {
        return Err(PortError { reason: "CreateContainerError", message: "no command specified".to_owned() });
    }
    Ok(all)
}

fn working_dir(container: &Container, image: &Image) -> PathBuf {
    let own = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    match own.unwrap_or(&image.working_dir) {
        "" => PathBuf::from("/"),
        dir => PathBuf::from("/").join(dir),
    }
}

/// All variables: what every container has, then the image's, then the pod's; the last of a name counts.
fn merged(image: &[String], own: &[(String, String)], hostname: &str, tty: bool) -> Vec<String> {
    let mut list: Vec<(&str, &str)> = vec![("PATH", DEFAULT_PATH), ("HOSTNAME", hostname)];
    if tty {
        list.push(("TERM", "xterm"));
    }
    let image = image.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in image.chain(own) {
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => list.push((name, value)),
        }
    }
    list.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Who a container is and what it may do.
#[derive(Debug, PartialEq, Eq)]
struct Security {
    user: User,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    privileged: bool,
    read_only_root: bool,
    no_new_privileges: bool,
    seccomp: bool,
}

impl Security {
    fn of(pod: &Pod, container: &Container, image: &Image) -> Result<Self, PortError> {
        let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let user = user(&of_pod, &own, image)?;
        check_not_root(pod, container, &of_pod, &own, image)?;
        let privileged = own.privileged == Some(true);
        let names = |list: Option<Vec<String>>| -> Vec<String> {
            let bare = |name: String| {
                let name = name.to_uppercase();
                name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
            };
            list.unwrap_or_default().into_iter().map(bare).collect()
        };
        let capabilities = own.capabilities.clone().unwrap_or_default();
        Ok(Self {
            user,
            cap_add: names(capabilities.add),
            cap_drop: names(capabilities.drop),
            privileged,
            read_only_root: own.read_only_root_filesystem == Some(true),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            seccomp: seccomp(&of_pod, &own, privileged)?,
        })
    }
}

fn user(of_pod: &PodSecurityContext, own: &SecurityContext, image: &Image) -> Result<User, PortError> {
    let number = |field: &str, number: Option<i64>| -> Result<Option<u32>, PortError> {
        number
            .map(|number| u32::try_from(number).map_err(|_| config_error(format!("{field} {number} is out of range"))))
            .transpose()
    };
    let uid = number("runAsUser", own.run_as_user.or(of_pod.run_as_user))?;
    let gid = number("runAsGroup", own.run_as_group.or(of_pod.run_as_group))?;
    let mut groups = Vec::new();
    for group in of_pod.supplemental_groups.iter().flatten().copied().chain(of_pod.fs_group) {
        groups.extend(number("supplementalGroups", Some(group))?);
    }
    // The image's user and group belong together: another user has its own group.
    let name = if uid.is_some() { String::new() } else { image.user.clone() };
    Ok(User { name, uid, gid, groups })
}

/// Whether the promise of `runAsNonRoot` is kept.
fn check_not_root(
    pod: &Pod,
    container: &Container,
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    image: &Image,
) -> Result<(), PortError> {
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let pod = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
    let place = format!("(pod: {pod:?}, container: {})", container.name);
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => return Err(config_error(format!("container's runAsUser breaks non-root policy {place}"))),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image.user.split(':').next().unwrap_or_default();
    match (name, name.parse::<i64>()) {
        ("", _) | (_, Ok(0)) => {
            Err(config_error(format!("container has runAsNonRoot and image will run as root {place}")))
        }
        (_, Ok(_)) => Ok(()),
        (name, Err(_)) => Err(config_error(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        ))),
    }
}

/// Whether the default profile applies. It does unless the pod says otherwise, which is stricter than upstream.
fn seccomp(of_pod: &PodSecurityContext, own: &SecurityContext, privileged: bool) -> Result<bool, PortError> {
    if privileged {
        return Ok(false);
    }
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    match profile.map(|profile| profile.type_.as_str()) {
        None | Some("RuntimeDefault") => Ok(true),
        Some("Unconfined") => Ok(false),
        Some(kind) => Err(config_error(format!("seccomp profiles of type {kind} are not supported yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Sources;
    use crate::testing::{self, FakeApi};
    use crate::volumes::Volumes;
    use corten_base::{Clock, Random};
    use corten_client::Informers;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn all_of_a_container() {
        let dir = tempfile::tempdir().expect("a folder");
        let api = FakeApi::default();
        api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "fast"}}));
        api.put(
            "services",
            "default",
            "kubernetes",
            json!({"spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}}),
        );
        let sources = Sources::new(&Informers::new(api.client(), CancellationToken::new()), "n1");
        let node = Arc::new(testing::node());
        let volumes = Volumes::new(dir.path(), Arc::clone(&node), sources, Clock::system(), Random::seeded(1));
        let pod = Arc::new(testing::pod(json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "u1"},
            "spec": {"hostname": "front", "containers": [{"name": "main", "args": ["$(MODE)"], "workingDir": "srv",
                "resources": {"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}},
                "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "mode"}}}],
                "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]}],
                "volumes": [{"name": "cfg", "configMap": {"name": "cfg"}}]},
        })));
        let ips = ["10.42.0.5".parse().expect("an address")];
        let volumes = Arc::new(volumes.mount(&pod, &ips).await.expect("volumes"));
        let image = Image { id: "sha256:1".to_owned(), entrypoint: list(&["/testbox"]), ..Image::default() };
        let log_dir = dir.path().join("logs");
        let start = Start {
            pod: &pod,
            container: &pod.spec.as_ref().expect("a spec").containers[0],
            image: &image,
            volumes: &volumes,
            log_dir: &log_dir,
            id: "c1".to_owned(),
            attempt: 2,
        };
        let spec = container_spec(start).await.expect("a spec");
        assert!(log_dir.join("main").is_dir());
        let shown = format!("{spec:#?}\n").replace(&dir.path().display().to_string(), "");
        expect![[r#"
            ContainerSpec {
                id: "c1",
                pod_uid: "u1",
                name: "main",
                attempt: 2,
                image: "sha256:1",
                args: [
                    "/testbox",
                    "fast",
                ],
                env: [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOSTNAME=front",
                    "MODE=fast",
                    "KUBERNETES_PORT=tcp://10.43.0.1:443",
                    "KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443",
                    "KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1",
                    "KUBERNETES_PORT_443_TCP_PORT=443",
                    "KUBERNETES_PORT_443_TCP_PROTO=tcp",
                    "KUBERNETES_SERVICE_HOST=10.43.0.1",
                    "KUBERNETES_SERVICE_PORT=443",
                ],
                cwd: "/srv",
                mounts: [
                    Mount {
                        source: "/pods/u1/volumes/kubernetes.io~configmap/cfg",
                        target: "/cfg",
                        read_only: true,
                    },
                    Mount {
                        source: "/pods/u1/etc-hosts",
                        target: "/etc/hosts",
                        read_only: false,
                    },
                    Mount {
                        source: "/pods/u1/hostname",
                        target: "/etc/hostname",
                        read_only: false,
                    },
                    Mount {
                        source: "/pods/u1/resolv.conf",
                        target: "/etc/resolv.conf",
                        read_only: false,
                    },
                    Mount {
                        source: "/pods/u1/containers/main/2.termination-log",
                        target: "/dev/termination-log",
                        read_only: false,
                    },
                ],
                user: User {
                    name: "",
                    uid: None,
                    gid: None,
                    groups: [],
                },
                cap_add: [],
                cap_drop: [],
                privileged: false,
                read_only_root: false,
                no_new_privileges: false,
                seccomp: true,
                resources: Resources {
                    cpu_shares: Some(
                        1024,
                    ),
                    cpu_quota: Some(
                        100000,
                    ),
                    memory_limit: Some(
                        1048576,
                    ),
                    pids_limit: None,
                },
                log_path: "/logs/main/2.log",
                tty: false,
                stdin: false,
                stdin_once: false,
                oom_score_adj: -997,
            }
        "#]]
        .assert_eq(&shown);
        let spec = pod_spec(&pod, &node).expect("a spec");
        assert_eq!(
            (spec.hostname.as_str(), spec.qos, spec.resources.cpu_quota),
            ("front", "Guaranteed", Some(100_000))
        );
    }

    fn list(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn command_and_args_against_entrypoint_and_cmd() {
        let image = Image { entrypoint: list(&["/entry"]), cmd: list(&["cmd"]), ..Image::default() };
        let variables = [("NAME".to_owned(), "value".to_owned())];
        let check = |own: Value, image: &Image, expected: &[&str]| {
            let mut own = own;
            own["name"] = "a".into();
            let container = serde_json::from_value(own).expect("a container");
            assert_eq!(arguments(&container, image, &variables).map_err(|error| error.message), Ok(list(expected)));
        };
        check(json!({}), &image, &["/entry", "cmd"]);
        check(json!({"command": ["/own"]}), &image, &["/own"]);
        check(json!({"args": ["$(NAME)", "$(NONE)", "$$(NAME)"]}), &image, &["/entry", "value", "$(NONE)", "$(NAME)"]);
        check(json!({"command": ["/own"], "args": ["x"]}), &image, &["/own", "x"]);
        let container = serde_json::from_value(json!({"name": "a"})).expect("a container");
        let error = arguments(&container, &Image::default(), &[]).expect_err("nothing to run");
        assert_eq!((error.reason, error.message.as_str()), ("CreateContainerError", "no command specified"));
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let own = [("A".to_owned(), "pod".to_owned()), ("B".to_owned(), "1=2".to_owned())];
        let all = merged(&list(&["A=image", "PATH=/bin", "ODD"]), &own, "web", true);
        assert_eq!(all, ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "A=pod", "ODD=", "B=1=2"]);
    }

    fn check(of_pod: Value, own: Value, image_user: &str, expect: &Expect) {
        let pod = testing::pod(json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "u1"},
            "spec": {"securityContext": of_pod, "containers": [{"name": "a", "securityContext": own}]},
        }));
        let image = Image { user: image_user.to_owned(), ..Image::default() };
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let shown = match Security::of(&pod, container, &image) {
            Ok(Security { user, cap_add, cap_drop, privileged, read_only_root, no_new_privileges, seccomp }) => {
                format!(
                    "user={:?} uid={:?} gid={:?} groups={:?}\nadd={cap_add:?} drop={cap_drop:?} privileged={privileged} \
                 read_only={read_only_root} no_new={no_new_privileges} seccomp={seccomp}\n",
                    user.name, user.uid, user.gid, user.groups
                )
            }
            Err(error) => format!("{}: {}\n", error.reason, error.message),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn users_and_capabilities() {
        check(
            json!({}),
            json!({}),
            "app:users",
            &expect![[r#"
            user="app:users" uid=None gid=None groups=[]
            add=[] drop=[] privileged=false read_only=false no_new=false seccomp=true
        "#]],
        );
        check(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 5], "runAsNonRoot": true,
                "seccompProfile": {"type": "Unconfined"}}),
            json!({"runAsUser": 9, "capabilities": {"add": ["NET_ADMIN", "cap_sys_time"], "drop": ["ALL"]},
                "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false}),
            "app",
            &expect![[r#"
                user="" uid=Some(9) gid=Some(2) groups=[4, 5, 3]
                add=["NET_ADMIN", "SYS_TIME"] drop=["ALL"] privileged=false read_only=true no_new=true seccomp=false
            "#]],
        );
        check(
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"privileged": true}),
            "",
            &expect![[r#"
            user="" uid=None gid=None groups=[]
            add=[] drop=[] privileged=true read_only=false no_new=false seccomp=false
        "#]],
        );
        check(
            json!({}),
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}),
            "",
            &expect![[r"
            CreateContainerConfigError: seccomp profiles of type Localhost are not supported yet
        "]],
        );
    }

    #[test]
    fn not_root_is_verified() {
        let not_root = || json!({"runAsNonRoot": true});
        check(
            not_root(),
            json!({}),
            "",
            &expect![[r#"
            CreateContainerConfigError: container has runAsNonRoot and image will run as root (pod: "web_demo(u1)", container: a)
        "#]],
        );
        check(
            not_root(),
            json!({"runAsUser": 0}),
            "1000",
            &expect![[r#"
            CreateContainerConfigError: container's runAsUser breaks non-root policy (pod: "web_demo(u1)", container: a)
        "#]],
        );
        check(
            not_root(),
            json!({}),
            "app",
            &expect![[r#"
            CreateContainerConfigError: container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "web_demo(u1)", container: a)
        "#]],
        );
        check(
            not_root(),
            json!({}),
            "1000:0",
            &expect![[r#"
            user="1000:0" uid=None gid=None groups=[]
            add=[] drop=[] privileged=false read_only=false no_new=false seccomp=true
        "#]],
        );
    }
}
