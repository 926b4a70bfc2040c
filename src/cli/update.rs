//! What can be typed to change limits.

use clap::Args;

use super::app_name;
use crate::manifest::overrides::is_change;
use crate::pod::Address;

/// Change limits of a pod or an app that runs
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun update shop memory-max=2GiB cpus=1.5
  podrun update shop/api memory-max=512MiB pids-max=200
  podrun update shop/api cpus=            take the limit away
  podrun update -n shop memory-max=1GiB   only say what would be done

The keys are the isolators of the manifest, and values are written as there; `podrun explain pod.isolators` lists them.
A path in a key stands in quotes: 'io-max.\"/srv\".rbps=10MB'.

All of it is done, or nothing: each value is read back from the kernel, and what fails is undone. `podrun cat` and
`podrun inspect` show the manifest and the limits as they are then. Less memory than is in use is refused
without --force.")]
pub struct UpdateArgs {
    /// Name or id
    #[arg(value_name = "POD[/APP]")]
    pub pod: Address,
    /// Isolators with their new values; without a value the limit is taken away
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = change)]
    pub changes: Vec<String>,
    /// Its app, as POD/APP names it
    #[arg(short = 'c', long, value_name = "APP", value_parser = app_name)]
    pub app: Option<String>,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Also less memory than is in use
    #[arg(short, long)]
    pub force: bool,
}

fn change(typed: &str) -> Result<String, String> {
    if is_change(typed) && !typed.contains('\n') {
        return Ok(typed.to_owned());
    }
    Err("expected KEY=VALUE, such as memory-max=1GiB or 'io-max.\"/srv\".rbps=10MB'".to_owned())
}
