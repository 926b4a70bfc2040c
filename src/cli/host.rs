//! What can be typed about podrun itself and this host: its version, its completions, its manual pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Driver, TextFormat};

/// Say which version this is
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun version
  podrun version -o json | jq -r .version")]
pub struct VersionArgs {
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
}

/// Say what this host can do for pods, and how to mend what it cannot
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun doctor
  podrun doctor -q || echo this host cannot run pods
  podrun doctor -o json | jq '.findings[] | select(.verdict != \"ok\")'

Exit codes:
  0  pods can be run here, maybe not with every limit
  1  they cannot; what is marked `bad` says why")]
pub struct DoctorArgs {
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
    /// Print nothing; the exit code says it
    #[arg(short, long)]
    pub quiet: bool,
    /// Who would make the pod's cgroup
    #[arg(long, value_enum, default_value_t = Driver::Auto, value_name = "DRIVER", env = "PODRUN_DRIVER", hide_env_values = true)]
    pub driver: Driver,
}

/// Print what makes a shell complete commands, pods and apps
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  source <(podrun completion bash)
  podrun completion bash > /etc/bash_completion.d/podrun
  podrun completion zsh > /usr/local/share/zsh/site-functions/_podrun
  podrun completion fish > /etc/fish/completions/podrun.fish")]
pub struct CompletionArgs {
    /// bash, zsh or fish
    #[arg(hide_possible_values = true)]
    pub shell: Shell,
}

/// A shell that can be told how to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU's
    Bash,
    /// With compinit
    Zsh,
    /// 3.4 or later
    Fish,
}

/// Say what may stand at the cursor
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The words behind `podrun`, the last one as far as it is typed
    #[arg(last = true)]
    pub words: Vec<String>,
}

/// Write the manual pages
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages are written, one for each command and one for each topic
    pub directory: PathBuf,
}
