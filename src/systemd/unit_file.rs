//! Unit files for systemd that run a pod, as text. Pure.
//!
//! What must be said for a pod to work is said, and nothing that the manifest decides: a limit that stood in both would
//! have to be changed in both.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spec::{Grace, Listen, SocketSpec, Spec};

/// Beside the pod's own stop-timeout: removing its groups, and the last words.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Which files are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// This podrun, absolute.
    pub podrun: PathBuf,
    /// The manifest, absolute.
    pub manifest: PathBuf,
    /// Where pods are recorded, when not at the usual place.
    pub root: Option<PathBuf>,
}

/// `NAME.service`, which runs the pod of this manifest.
#[must_use]
pub fn service(spec: &Spec, paths: &Paths) -> String {
    let name = &spec.pod.name;
    let mut text = header(name, "service");
    let mut line = |words: &str| line(&mut text, words);
    line("[Unit]");
    line(&format!("Description=Pod {name}"));
    let roots = spec.apps.iter().map(|app| app.rootfs.as_path()).filter(|root| *root != Path::new("/"));
    let mut needed: Vec<String> = std::iter::once(paths.manifest.as_path()).chain(roots).map(word).collect();
    needed.sort();
    needed.dedup();
    line(&format!("RequiresMountsFor={}", needed.join(" ")));
    if spec.sockets.iter().any(|socket| matches!(socket.listen, Listen::Address(_))) {
        line("After=network.target");
    }
    line("\n[Service]");
    line("# active when every app was started");
    line("Type=notify");
    let root = paths.root.iter().map(|root| format!("--root {} ", argument(root))).collect::<String>();
    line(&format!("ExecStart={} {root}run {}", word(&paths.podrun), argument(&paths.manifest)));
    line("# the pod is in this unit's group");
    line("Delegate=yes");
    line("# only podrun is told to stop, and stops the apps in order");
    line("KillMode=mixed");
    line(&format!("TimeoutStopSec={}", stop_time(spec)));
    line("WatchdogSec=30");
    line("Restart=on-failure");
    line("RestartSec=1");
    line("# an app that is killed for its memory is podrun's business");
    line("OOMPolicy=continue");
    line("# limits here bind the pod as well, beside those of the manifest:");
    line("#MemoryMax=");
    line("#CPUQuota=");
    line("\n[Install]");
    line("WantedBy=multi-user.target");
    text
}

/// `NAME-SOCKET.socket`, which opens one of the manifest's sockets and starts the service when somebody connects.
#[must_use]
pub fn socket(spec: &Spec, socket: &SocketSpec) -> String {
    let name = &spec.pod.name;
    let mut text = header(&format!("{name}-{}", socket.name), "socket");
    let mut line = |words: &str| line(&mut text, words);
    line("[Unit]");
    line(&format!("Description=Socket {} of pod {name}", socket.name));
    line("\n[Socket]");
    match &socket.listen {
        Listen::Address(address) => line(&format!("ListenStream={}", specifiers(&address.to_string()))),
        Listen::Path(path) => {
            line(&format!("ListenStream={}", specifiers(&path.to_string_lossy())));
            line(&format!("SocketMode={:04o}", socket.mode));
            if let Some((user, group)) = socket.owner {
                line(&format!("SocketUser={user}\nSocketGroup={group}"));
            }
            line("RemoveOnStop=yes");
        }
    }
    line(&format!("Backlog={}", socket.backlog));
    line("# the app is found by this name");
    line(&format!("FileDescriptorName={}", socket.name));
    line(&format!("Service={name}.service"));
    line("\n[Install]");
    line("WantedBy=sockets.target");
    text
}

fn header(unit: &str, kind: &str) -> String {
    let verb = if kind == "socket" { "before the service is started" } else { "then" };
    format!(
        "# /etc/systemd/system/{unit}.{kind}, written by `podrun generate`; {verb}:\n\
         # systemctl daemon-reload && systemctl enable --now {unit}.{kind}\n"
    )
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}

/// In seconds, rounded up.
fn stop_time(spec: &Spec) -> String {
    match spec.pod.stop_timeout {
        Grace::Limited(time) => {
            let time = time + STOP_MARGIN;
            (time.as_secs() + u64::from(time.subsec_nanos() > 0)).to_string()
        }
        Grace::Infinite => "infinity".to_owned(),
    }
}

/// A word of a command line behind the program: `$` begins a variable there (systemd.service(5), "COMMAND LINES").
fn argument(path: &Path) -> String {
    word(path).replace('$', "$$")
}

/// One word of a list of paths, or the program of a command line (systemd.syntax(7), "QUOTING").
fn word(path: &Path) -> String {
    let text = specifiers(&path.to_string_lossy());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=~$".contains(c);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `%` begins a specifier everywhere in a unit file (systemd.unit(5)).
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Source;
    use crate::manifest::overrides::Overrides;

    const SHOP: &str = r#"
version = 1
[pod]
name = "shop"
[app.web]
rootfs = "/srv/web"
exec = ["x"]
stop-timeout = "2500ms"
[socket.http]
listen = "[::]:80"
app = "web"
[socket.admin]
listen = "/run/100%"
mode = "0600"
owner = "12:34"
app = "web"
"#;

    fn shop() -> Spec {
        let source = Source::new("shop.toml", SHOP, Overrides::default());
        source.read().spec.unwrap()
    }

    #[test]
    fn service_says_what_a_pod_needs() {
        let paths = Paths {
            podrun: "/usr/bin/podrun".into(),
            manifest: "/etc/my pods/100%$ \"shop\".toml".into(),
            root: Some("/x".into()),
        };
        let text = service(&shop(), &paths);
        for said in [
            "# systemctl daemon-reload && systemctl enable --now shop.service\n",
            "ExecStart=/usr/bin/podrun --root /x run \"/etc/my pods/100%%$$ \\\"shop\\\".toml\"\n",
            "RequiresMountsFor=\"/etc/my pods/100%%$ \\\"shop\\\".toml\" /srv/web\n",
            "Type=notify\n",
            "Delegate=yes\n",
            "KillMode=mixed\n",
            // 2.5 s of the app, 5 s of the pod, 10 s of ours.
            "TimeoutStopSec=18\n",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }

    #[test]
    fn socket_says_what_the_manifest_says() {
        let spec = shop();
        let texts: Vec<String> = spec.sockets.iter().map(|one| socket(&spec, one)).collect();
        for (text, said) in [
            (&texts[0], "ListenStream=[::]:80\nBacklog=128\n"),
            (&texts[0], "FileDescriptorName=http\nService=shop.service\n"),
            (
                &texts[1],
                "ListenStream=/run/100%%\nSocketMode=0600\nSocketUser=12\nSocketGroup=34\nRemoveOnStop=yes\n",
            ),
        ] {
            let text = text.replace("# the app is found by this name\n", "");
            assert!(text.contains(said), "{said}\n{text}");
        }
    }
}
