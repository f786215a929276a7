//! The scripted model as a process. It only hands its arguments on; see `scripted::main_with_args`.

#![forbid(unsafe_code)]

fn main() {
    std::process::exit(scripted::main_with_args(std::env::args().skip(1)));
}
