//! The `longhand` binary: configuration and wiring only.
#![forbid(unsafe_code)]

mod admin;
mod cli;
mod config;
mod data_dir;
mod demo;
mod doctor;
mod log;
mod provider;
mod serve;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::config::Loaded;
use crate::data_dir::DataDir;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The machine cannot do what was asked; the text says how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unable(String);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read us has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Unable>() {
                ExitCode::from(3)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    dial::install_crypto_provider();
    let loaded = settings(&cli)?;
    if let Command::Config(ConfigCommand::Show { origin }) = cli.command {
        return show(&loaded, origin);
    }
    log::start(&loaded.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command(cli, loaded))
}

async fn command(cli: Cli, loaded: Loaded) -> anyhow::Result<()> {
    let data_dir = || DataDir::open(cli.data_dir.as_deref());
    match cli.command {
        Command::Serve(_) => serve::run(&loaded.config, data_dir()?).await,
        Command::Demo(demo) => demo::run(&demo, loaded.config).await,
        Command::Doctor(output) => {
            doctor::run(output, &loaded.config, cli.data_dir.as_deref()).await
        }
        Command::Keys(keys) => admin::keys(keys, &loaded.config, data_dir()?).await,
        Command::Workspaces(workspaces) => {
            admin::workspaces(workspaces, &loaded.config, data_dir()?).await
        }
        Command::Sessions(sessions) => admin::sessions(sessions, &loaded.config, data_dir()?).await,
        Command::Backup(backup) => admin::backup(backup, &loaded.config, data_dir()?).await,
        Command::Config(_) => Ok(()),
    }
}

fn settings(cli: &Cli) -> anyhow::Result<Loaded> {
    let file = cli.config.clone().or_else(|| {
        let default = DataDir::default_file(cli.data_dir.as_deref(), "longhand.toml")?;
        default.exists().then_some(default)
    });
    let mut flags = Vec::new();
    if let Command::Serve(serve) = &cli.command {
        flags.extend(
            serve
                .listen
                .map(|listen| ("server.listen", listen.to_string())),
        );
        flags.extend(
            serve
                .database_url
                .clone()
                .map(|url| ("server.database_url", url)),
        );
    }
    config::load(file.as_deref(), std::env::vars(), &flags)
}

fn show(loaded: &Loaded, origin: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for (setting, value) in loaded.config.shown() {
        if origin {
            let from = loaded
                .origins
                .get(setting)
                .map_or("default", String::as_str);
            writeln!(out, "{setting} = {value}  # {from}")?;
        } else {
            writeln!(out, "{setting} = {value}")?;
        }
    }
    Ok(())
}
