//! `bench NAME`: measures the real server and, in the same run and interleaved with it, a floor that no
//! server could beat. Prints figure, floor and ratio as JSON on stdout, talk on stderr. Changes nothing but
//! its own temporary directory.
#![forbid(unsafe_code)]

mod api;
mod edge;
mod egress;
mod fanout;
mod floor;
mod harness;
mod idle;
mod keeping;
mod load;
mod memory;
mod numbers;
mod sandbox;
mod scale;
mod session;
mod syncs;
mod threads;
mod turn;
mod workspace;

use std::process::ExitCode;

use serde_json::Value;

// The server's allocator, so that the floor has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What went wrong, for a person.
pub(crate) type Wrong = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Before the runtime: only a process with one thread may clone itself.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "bare") {
        let dir = words.next().unwrap_or_default();
        return match self::sandbox::bare::serve(dir.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "lookups" {
        return looked_up();
    }
    if name == "egress-client" {
        return measured_by_client();
    }
    if name == "inject-client" {
        let words: Vec<String> = std::env::args().skip(2).collect();
        return printed(self::egress::inject::client(&words));
    }
    if name == "egress"
        && let Err(error) = self::egress::alone()
    {
        return failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let printed = runtime.block_on(async {
        match name.as_str() {
            "api" => api::run().await.map(Some),
            "edge" => edge::run().await.map(Some),
            "egress" => self::egress::run().await.map(Some),
            "fanout" => fanout::run().await.map(Some),
            "harness" => harness::run().await.map(Some),
            "idle" => idle::run().await.map(Some),
            "sandbox" => self::sandbox::run().await.map(Some),
            "scale" => scale::run().await.map(Some),
            "session" => session::run().await.map(Some),
            "threads" => threads::run().await.map(Some),
            "turn" => turn::run().await.map(Some),
            "workspace" => workspace::run().await.map(Some),
            "floor" => floor::serve().await.map(|()| None),
            "hold" => {
                let dir = std::env::args_os().nth(2).unwrap_or_default();
                self::sandbox::left::hold(dir.as_ref()).await.map(|()| None)
            }
            other => Err(format!(
                "no such benchmark: {other:?}; there are: api, edge, egress, fanout, harness, idle, sandbox, scale, session, threads, turn, workspace"
            )
            .into()),
        }
    });
    match printed {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(figures)) => shown(&figures),
        Err(error) => failed(&error),
    }
}

/// One line, for the benchmark that started it.
fn measured_by_client() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let measured = match words.as_slice() {
        [tls, plain, root] => self::egress::client::run(tls, plain, root.as_ref()),
        [tls, _, root, times] => self::egress::client::bulk(tls, root.as_ref(), times),
        _ => Err("egress-client ADDRESS ADDRESS ROOT [TIMES]".into()),
    };
    printed(measured)
}

fn printed(measured: Result<Value, Wrong>) -> ExitCode {
    match measured {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// One line, for the benchmark that started it inside a sandbox.
fn looked_up() -> ExitCode {
    let numbers: Result<Vec<usize>, _> =
        std::env::args().skip(2).map(|word| word.parse()).collect();
    match numbers.as_deref() {
        Ok([files, round]) => {
            println!("{}", workspace::lookups::measure(*files, *round));
            ExitCode::SUCCESS
        }
        _ => failed(&"lookups FILES ROUND".into()),
    }
}

fn shown(figures: &Value) -> ExitCode {
    println!("{figures:#}");
    ExitCode::SUCCESS
}

fn failed(error: &Wrong) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprintln!("  because: {error}");
        source = error.source();
    }
    ExitCode::FAILURE
}
