//! The `longhand` binary: configuration and wiring only.
#![forbid(unsafe_code)]

mod admin;
mod cli;
mod client;
mod config;
mod data_dir;
mod database;
mod demo;
mod doctor;
mod edge;
mod egress;
mod egress_credentials;
mod harnesses;
mod host;
mod isolation;
mod log;
mod master;
mod moving;
mod provider;
mod sandboxes;
mod serve;
mod sessions;
mod signals;
mod stream;
mod templates;
mod things;
mod view;
mod volumes;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::client::{Client, Refused};
use crate::config::Loaded;
use crate::data_dir::DataDir;

/// What is freed is wiped: secrets pass through buffers of others, which know of none (docs/vaults.md).
#[global_allocator]
static ALLOCATOR: sys::Wiping<mimalloc::MiMalloc> = sys::Wiping::over(mimalloc::MiMalloc);

/// The machine cannot do what was asked; the text says how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unable(String);

/// What this command ran elsewhere did not end well, and has said so itself.
#[derive(Debug, thiserror::Error)]
#[error("the program ended with {0}")]
struct Exited(u8);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read us has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Exited(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            eprintln!("error: {error:#}");
            if let Some(hint) = hint(&error) {
                eprintln!("hint: {hint}");
            }
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

/// What to try next, if what failed was an answer of a server.
fn hint(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Refused>()?.hint.as_deref()
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::EgressHost {
        dir,
        ca_file,
        crl_file,
    } = cli.command
    {
        // Before anything else: it must have one thread, and reads no settings.
        log::start(&config::Log::default())?;
        return egress::host(dir, ca_file.as_deref(), crl_file.as_deref());
    }
    dial::install_crypto_provider();
    let loaded = settings(&cli)?;
    if let Command::Config(ConfigCommand::Show { origin }) = cli.command {
        return show(&loaded, origin);
    }
    if let Command::Openapi { routes } = cli.command {
        use std::io::Write as _;
        let text = match routes {
            true => gateway::routes_markdown(),
            false => format!("{:#}\n", gateway::openapi()),
        };
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
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
        Command::Harness(command) => {
            harnesses::run(command, &data_dir()?, &loaded.config.harness).await
        }
        Command::Template(cli::Template::Import(import)) => {
            let home = templates::home(&data_dir()?, &loaded.config.sandbox)?;
            let allow_private = egress::nets(&loaded.config.egress.allow_private)?;
            templates::import(home, import, dial::Policy { allow_private }).await
        }
        Command::Template(cli::Template::Build(build)) => {
            let home = templates::home(&data_dir()?, &loaded.config.sandbox)?;
            templates::build(home, build, &loaded.config.sandbox.debian_mirror).await
        }
        Command::Template(cli::Template::Verify { template, output }) => {
            let home = templates::home(&data_dir()?, &loaded.config.sandbox)?;
            templates::verify(home, &template, &output).await
        }
        Command::Egress(cli::Egress::Test { policy, cases }) => egress::test(&policy, &cases),
        Command::Audit(cli::Audit::Verify) => egress::verify(&data_dir()?),
        Command::Audit(cli::Audit::Log { after }) => egress::actions(&data_dir()?, after),
        Command::Move(what) => moving::run(&what, &loaded.config, &data_dir()?).await,
        Command::Config(_) | Command::Openapi { .. } | Command::EgressHost { .. } => Ok(()),
        command => {
            let config = &loaded.config;
            let client = Client::open(&cli.reach, config, cli.data_dir.as_deref()).await?;
            let done = ask(command, &client, cli.reach.workspace.as_deref()).await;
            client.close().await;
            done
        }
    }
}

/// The commands that ask a server.
async fn ask(command: Command, client: &Client, workspace: Option<&str>) -> anyhow::Result<()> {
    match command {
        Command::Keys(keys) => admin::keys(keys, client, workspace).await,
        Command::Workspaces(workspaces) => admin::workspaces(workspaces, client).await,
        Command::Sessions(command) => sessions::run(command, client).await,
        Command::Agents(command) => things::agents(command, client).await,
        Command::Environments(command) => things::environments(command, client).await,
        Command::Vaults(command) => things::vaults(command, client).await,
        Command::Sandbox(command) => sandboxes::run(command, client).await,
        Command::Volume(command) => volumes::run(command, client).await,
        Command::Egress(command) => egress::ask(command, client).await,
        Command::Template(command) => templates::ask(command, client).await,
        Command::Replicas(output) => admin::replicas(&output, client).await,
        Command::Usage(usage) => admin::usage(&usage, client).await,
        Command::Backup(backup) => admin::backup(backup, client).await,
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Harness(_)
        | Command::Move(_)
        | Command::Audit(_)
        | Command::EgressHost { .. }
        | Command::Openapi { .. } => Ok(()),
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
        let path = |path: &Option<std::path::PathBuf>| Some(path.as_ref()?.display().to_string());
        flags.extend(path(&serve.tls_cert).map(|file| ("server.tls_cert", file)));
        flags.extend(path(&serve.tls_key).map(|file| ("server.tls_key", file)));
        if serve.plain_http {
            flags.push(("server.plain_http", "true".to_owned()));
        }
        let level = serve.require_isolation.clone();
        flags.extend(level.map(|level| ("sandbox.require_isolation", level)));
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
