//! `podrun generate`: unit files that run a manifest as a service of systemd.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::load;
use crate::cli::{GenerateArgs, Globals, UnitKind};
use crate::error::Note;
use crate::manifest::overrides::Overrides;
use crate::output::{write_stderr, write_stdout};
use crate::pod::root::DEFAULT_ROOT;
use crate::spec::{Listen, SocketSpec, Spec};
use crate::systemd::unit_file::{self, Paths};

/// Prints one unit file.
///
/// # Errors
/// What is wrong with the manifest, or that it has no such socket.
pub fn run(globals: &Globals, args: &GenerateArgs) -> Result<u8> {
    if args.manifest == Path::new("-") {
        return Err(anyhow!("cannot write a unit for standard input: a service needs a manifest in a file"));
    }
    let loaded = load::manifest(&args.manifest, Overrides::default(), globals.color.stderr())?;
    write_stderr(&loaded.warnings);
    let text = match args.kind {
        UnitKind::Unit => unit_file::service(&loaded.spec, &paths(globals, &args.manifest, &loaded.spec)?),
        UnitKind::Socket => {
            let socket = socket(&loaded.spec, args.socket.as_deref())?;
            if let Listen::Path(path) = &socket.listen {
                check_path(path)?;
            }
            unit_file::socket(&loaded.spec, socket)
        }
    };
    write_stdout(&text)?;
    Ok(0)
}

fn paths(globals: &Globals, manifest: &Path, spec: &Spec) -> Result<Paths> {
    let podrun = std::env::current_exe().context("cannot find this podrun's own file")?;
    let manifest = std::fs::canonicalize(manifest)
        .with_context(|| format!("cannot find the place of manifest `{}`", manifest.display()))?;
    let root = Some(globals.root.clone()).filter(|root| *root != Path::new(DEFAULT_ROOT));
    let roots = spec.apps.iter().map(|app| app.rootfs.as_path());
    roots.chain([podrun.as_path(), &manifest]).chain(root.as_deref()).try_for_each(check_path)?;
    Ok(Paths { podrun, manifest, root })
}

/// A unit file is lines of UTF-8.
fn check_path(path: &Path) -> Result<()> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(()),
        _ => Err(anyhow!("cannot name `{}` in a unit file", path.display()))
            .hint("rename it: a unit file takes no control characters and nothing but UTF-8"),
    }
}

/// The one that is meant; without a name, the only one.
fn socket<'a>(spec: &'a Spec, name: Option<&str>) -> Result<&'a SocketSpec> {
    let names: Vec<&str> = spec.sockets.iter().map(|socket| socket.name.as_str()).collect();
    match (spec.sockets.as_slice(), name) {
        ([], _) => Err(anyhow!("cannot write a socket unit: the manifest has no [socket.NAME]"))
            .hint("`podrun explain socket.listen` shows one"),
        ([only], None) => Ok(only),
        (_, None) => Err(anyhow!("cannot write a socket unit: the manifest has {} sockets", names.len()))
            .hint(format!("choose one with --socket: {}", names.join(", "))),
        (all, Some(name)) => all.iter().find(|socket| socket.name == name).map_or_else(
            || {
                Err(anyhow!("cannot write a unit for socket `{name}`: the manifest has none of this name"))
                    .hint(format!("it has {}", names.join(", ")))
            },
            Ok,
        ),
    }
}
