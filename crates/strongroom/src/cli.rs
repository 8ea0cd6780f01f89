//! The command line: global options and one argument struct a command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::command;

/// Backs up a certificate authority, PKI or secrets server whole, keeps the backups sealed and apart, and restores
/// them exactly.
#[derive(Parser)]
#[command(
    name = "strongroom",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 done with problems, \
4 refused before anything was changed, 10 no repository, 11 another run is at work, 12 wrong identity, \
130 interrupted.\n\nFirst steps: `strongroom demo`, then `strongroom init`."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args)]
pub(crate) struct Global {
    /// The configuration file [default: ./strongroom.toml, then /etc/strongroom/strongroom.toml]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document, and progress as JSON Lines on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print answers and problems only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more; twice, what the engine does
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print no colours; setting `NO_COLOR` does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// The commands, in the order in which a new user meets them.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a commented configuration, or create the writer key and repositories that one names
    Init(command::init::InitArgs),
    /// Make an identity, which opens backups
    Identity(command::identity::IdentityArgs),
    /// Put an identity into the hands of several custodians, any few of whom open backups together
    Custody(command::custody::CustodyArgs),
    /// Look at configuration, repositories, permissions, room and keys, and at what is not covered
    Check(command::check::CheckArgs),
    /// Take a backup of all assets, or of those named
    Backup(command::backup::BackupArgs),
    /// List the backups
    List(command::list::ListArgs),
    /// Show one backup: assets, sizes and, with an identity, files and facts
    Show(command::show::ShowArgs),
    /// Read stored backups back: digests (L1), decryption (L2), whole content (L3), agreement (L4)
    Verify(command::verify::VerifyArgs),
    /// Show what a restore would do; with --apply, do it
    Restore(command::restore::RestoreArgs),
    /// Write a backup as plain standard files with SHA256SUMS
    Export(command::export::ExportArgs),
    /// Write the break-glass kit: what a stranger with a quorum needs to restore without Strongroom
    Kit(command::kit::KitArgs),
    /// Show what differs between two backups
    Diff(command::diff::DiffArgs),
    /// Show which backups retention lets go, and why the others stay; with --apply, delete them
    Expire(command::expire::ExpireArgs),
    /// Keep a backup from expiring, or let it go again
    Hold(command::hold::HoldArgs),
    /// Show what there is, where, how old and how sure it is, and what needs attention
    Status(command::status::StatusArgs),
    /// Look at a repository as a whole
    Repository(command::repository::RepositoryArgs),
    /// Bring copies of repositories up to date: sealed objects as they are, each proved by its digest
    Copy(command::copy::CopyArgs),
    /// Show what a repository has lost and a copy still has; with --apply, bring it back
    Repair(command::repair::RepairArgs),
    /// Make a small CA, back it up, destroy it and bring it back
    Demo(command::demo::DemoArgs),
    /// Print the completions of a shell
    Completions(command::completions::CompletionsArgs),
    /// Print the manual page
    Man(command::man::ManArgs),
}

/// From where backups are read, and as of when.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadOptions {
    /// Read this copy in place of the repository that it copies; may be given several times
    #[arg(long, value_name = "COPY")]
    pub(crate) from: Vec<String>,
    /// Read the repositories as they were at this time, such as 2026-11-20T08:00:00Z; for storages that keep versions
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<jiff::Timestamp>,
}

/// Which identities open a backup, or which shares give one.
#[derive(Args, Default)]
pub(crate) struct IdentityOptions {
    /// A file with an identity that opens the backup, or a sealed share; may be given several times
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    /// The file that holds the passphrase of the identity
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A custodian's share: its line or words, or sealed to an identity that is given; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) share: Vec<PathBuf>,
    /// Ask for shares at the terminal, without showing them, until there are enough
    #[arg(long)]
    pub(crate) type_shares: bool,
    /// Wait at this Unix socket until custodians have given enough shares with `custody combine`
    #[arg(long, value_name = "PATH", conflicts_with = "type_shares")]
    pub(crate) quorum_socket: Option<PathBuf>,
    /// Let the group of the socket give shares too (mode 0660 in place of 0600)
    #[arg(long, requires = "quorum_socket")]
    pub(crate) quorum_group: bool,
    /// How many identities are to be put together, where repositories are sealed to different ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) quorums: usize,
    /// The custody record of the shares, which names custodians and tells a false share at once; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) custody_record: Vec<PathBuf>,
}

/// Which identity opens a custodian's own share.
#[derive(Args, Default)]
pub(crate) struct PlainIdentityOptions {
    /// A file with the identity that the share is sealed to; may be given several times
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    /// The file that holds the passphrase of the identity
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl IdentityOptions {
    /// Whether shares are to be put together.
    pub(crate) fn has_shares(&self) -> bool {
        !self.share.is_empty() || self.type_shares || self.quorum_socket.is_some()
    }
}
