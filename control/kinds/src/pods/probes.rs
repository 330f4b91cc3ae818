//! Probes and lifecycle hooks.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, TCPSocketAction,
};
use corten_api::field::FieldErrors;

use crate::net;

/// The probes of a container.
pub(super) fn container(container: &Container, path: &str, errs: &mut FieldErrors) {
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let (path, readiness) = (format!("{path}.{field}"), field == "readinessProbe");
        let Some(probe) = probe else { continue };
        self::probe(probe, &path, errs);
        let threshold = probe.success_threshold.unwrap_or(0);
        if !readiness && threshold != 1 {
            errs.invalid(format!("{path}.successThreshold"), threshold, "must be 1");
        }
        if let Some(seconds) = probe.termination_grace_period_seconds {
            let path = format!("{path}.terminationGracePeriodSeconds");
            if readiness {
                errs.invalid(path, seconds, "must not be set for readinessProbes");
            } else if seconds <= 0 {
                errs.invalid(path, seconds, "must be greater than 0");
            }
        }
    }
}

fn probe(probe: &Probe, path: &str, errs: &mut FieldErrors) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler.validate(path, None, errs);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            errs.invalid(format!("{path}.{field}"), value, "must be greater than or equal to 0");
        }
    }
}

/// The hooks of a container. `grace` is what the pod has to end.
pub(super) fn lifecycle(
    lifecycle: &Lifecycle,
    grace: Option<i64>,
    os: Option<&str>,
    path: &str,
    errs: &mut FieldErrors,
) {
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(LifecycleHandler { exec, http_get, sleep, tcp_socket }) = hook else { continue };
        let handler = Handler {
            exec: exec.as_ref(),
            http_get: http_get.as_ref(),
            tcp_socket: tcp_socket.as_ref(),
            grpc: None,
            sleep: sleep.as_ref().map(|sleep| sleep.seconds),
        };
        handler.validate(&format!("{path}.{field}"), grace, errs);
    }
    let Some(signal) = lifecycle.stop_signal.as_deref() else { return };
    let path = format!("{path}.stopSignal");
    match os {
        None | Some("") => errs.forbidden(path, "may not be set for containers with empty `spec.os.name`"),
        Some("windows") if !["SIGKILL", "SIGTERM"].contains(&signal) => {
            errs.not_supported(path, signal, &["SIGKILL", "SIGTERM"]);
        }
        Some("linux") if !is_signal(signal) => errs.invalid(path, signal, "must be a signal of Linux, such as SIGTERM"),
        Some(_) => {}
    }
}

fn is_signal(name: &str) -> bool {
    const NAMES: [&str; 31] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "WINCH",
    ];
    let Some(rest) = name.strip_prefix("SIG") else { return false };
    let counted = |prefix: &str| rest.strip_prefix(prefix).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| n < 16);
    let real_time = ["RTMIN", "RTMAX"].contains(&rest) || counted("RTMIN+") || counted("RTMAX-");
    NAMES.contains(&rest) || ["VTALRM", "XCPU", "XFSZ"].contains(&rest) || real_time
}

/// What is done to ask or tell a container something: exactly one of these.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<i64>,
}

impl Handler<'_> {
    fn validate(&self, path: &str, grace: Option<i64>, errs: &mut FieldErrors) {
        let given = [
            ("exec", self.exec.is_some()),
            ("httpGet", self.http_get.is_some()),
            ("tcpSocket", self.tcp_socket.is_some()),
            ("grpc", self.grpc.is_some()),
            ("sleep", self.sleep.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is)| *is);
        let Some((first, _)) = given.next() else { return errs.required(path, "must specify a handler type") };
        for (extra, _) in given {
            errs.forbidden(format!("{path}.{extra}"), "may not specify more than 1 handler type");
        }
        let path = format!("{path}.{first}");
        match first {
            "exec" if self.exec.is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) => {
                errs.required(format!("{path}.command"), "");
            }
            "httpGet" => self.http_get.into_iter().for_each(|action| http_get(action, &path, errs)),
            "tcpSocket" => {
                self.tcp_socket.into_iter().for_each(|tcp| net::port_or_name(&tcp.port, &format!("{path}.port"), errs));
            }
            "grpc" => self.grpc.into_iter().for_each(|grpc| net::port(grpc.port, &format!("{path}.port"), errs)),
            "sleep" => {
                let (seconds, grace) = (self.sleep.unwrap_or(0), grace.unwrap_or(30));
                if seconds < 0 || seconds > grace {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errs.invalid(path, seconds, why);
                }
            }
            _ => {}
        }
    }
}

fn http_get(action: &HTTPGetAction, path: &str, errs: &mut FieldErrors) {
    if action.path.as_deref().is_none_or(str::is_empty) {
        errs.required(format!("{path}.path"), "");
    }
    net::port_or_name(&action.port, &format!("{path}.port"), errs);
    let scheme = action.scheme.as_deref().unwrap_or_default();
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errs.not_supported(format!("{path}.scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for (index, header) in action.http_headers.iter().flatten().enumerate() {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if header.name.is_empty() || !header.name.chars().all(fits) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errs.invalid(format!("{path}.httpHeaders[{index}].name"), &header.name, why);
        }
    }
}
