//! Figures of docs/benchmarks.md: what it costs that memory is wiped when it is given back. The same work with and
//! without, in turns, in one process. `cargo run --release -p sys --example wipe`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use sys::Wiping;

/// Wipes or does not.
struct Either;

static WIPES: AtomicBool = AtomicBool::new(false);
static WIPING: Wiping<MiMalloc> = Wiping::over(MiMalloc);

// SAFETY: blocks are mimalloc's either way, and `realloc` of either keeps to its contract.
unsafe impl GlobalAlloc for Either {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match WIPES.load(Ordering::Relaxed) {
            // SAFETY: as above.
            true => unsafe { WIPING.dealloc(block, layout) },
            // SAFETY: as above.
            false => unsafe { MiMalloc.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match WIPES.load(Ordering::Relaxed) {
            // SAFETY: as above.
            true => unsafe { WIPING.realloc(block, layout, size) },
            // SAFETY: as above.
            false => unsafe { MiMalloc.realloc(block, layout, size) },
        }
    }
}

#[global_allocator]
static ALLOCATOR: Either = Either;

/// What is measured, how often, and how.
type Work = (&'static str, u32, Box<dyn Fn()>);

/// As a request is read and answered: texts, maps, a buffer that grows.
fn request() {
    let mut map = BTreeMap::new();
    for n in 0..40_usize {
        map.insert(
            format!("field_{n}"),
            vec!["a text of some words".repeat(1 + n % 7); 3],
        );
    }
    let mut buffer = Vec::new();
    for (name, texts) in &map {
        buffer.extend_from_slice(name.as_bytes());
        buffer.extend_from_slice(texts.join(",").as_bytes());
    }
    black_box((map, buffer));
}

fn buffers(size: usize) {
    black_box(vec![1_u8; size]);
}

fn time(work: &dyn Fn(), rounds: u32) -> Duration {
    let begun = Instant::now();
    for _ in 0..rounds {
        work();
    }
    begun.elapsed() / rounds
}

fn main() {
    let works: [Work; 5] = [
        ("request", 20_000, Box::new(request)),
        ("8 KiB filled", 200_000, Box::new(|| buffers(8 << 10))),
        ("64 KiB filled", 50_000, Box::new(|| buffers(64 << 10))),
        ("1 MiB filled", 2_000, Box::new(|| buffers(1 << 20))),
        (
            "64 KiB, never filled",
            200_000,
            Box::new(|| {
                black_box(Vec::<u8>::with_capacity(64 << 10));
            }),
        ),
    ];
    for (name, rounds, work) in &works {
        let mut best = [Duration::MAX; 2];
        for turn in 0..20 {
            let wipes = turn % 2;
            WIPES.store(wipes == 1, Ordering::Relaxed);
            best[wipes] = best[wipes].min(time(work, *rounds));
        }
        let [plain, wiping] = best;
        let more = wiping.as_secs_f64() / plain.as_secs_f64() * 100.0 - 100.0;
        println!("{name}: {plain:?} plain, {wiping:?} wiping ({more:+.1} %)");
    }
}
