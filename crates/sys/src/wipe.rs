//! An allocator that wipes what is given back. What a secret passed through on its way (buffers of a socket, of TLS, of a
//! parser, a text that has grown and moved) is freed by code that knows of no secret; it is gone when that code is done
//! with it. It wipes nothing that is still held, and no memory that C asked for.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::asm;

/// Wipes each block, all of its size, before `A` has it back.
///
/// A block that grows or shrinks is always a new one: `A` may move it by itself, and what it left behind would be as it
/// was. Its content is therefore copied once more where `A` could have kept it in its place.
#[derive(Debug)]
pub struct Wiping<A>(A);

impl<A> Wiping<A> {
    /// Over that allocator.
    pub const fn over(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: blocks are `A`'s, handed on with the layout that they were asked for with. `realloc` is the trait's own, which
// allocates, copies and gives the old block back through `dealloc` below.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is allocated, of this size, and by the contract of `dealloc` nobody else's any more.
        unsafe { wipe(block, layout.size()) };
        // SAFETY: the block came from `A` with this layout.
        unsafe { self.0.dealloc(block, layout) }
    }
}

/// Fills memory with zeros, also if nothing ever reads it again.
///
/// # Safety
/// All of it may be written to.
unsafe fn wipe(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { block.write_bytes(0, size) };
    // SAFETY: no instruction. The compiler must take it for one that reads all memory that is known by a pointer, so
    // that the zeros above are really written.
    unsafe { asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::cell::RefCell;

    use super::*;

    /// Keeps what is given back, and gives nothing back itself.
    struct Kept(RefCell<Vec<(*mut u8, Layout)>>);

    // SAFETY: blocks are the system's, and never end.
    unsafe impl GlobalAlloc for Kept {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller keeps the contract, which is the same.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.0.borrow_mut().push((block, layout));
        }
    }

    fn bytes(block: *const u8, size: usize) -> Vec<u8> {
        // SAFETY: the blocks of these tests are never freed.
        unsafe { std::slice::from_raw_parts(block, size) }.to_vec()
    }

    fn filled(with: &Wiping<Kept>, size: usize) -> (*mut u8, Layout) {
        let layout = Layout::array::<u8>(size).unwrap();
        // SAFETY: the layout has a size.
        let block = unsafe { with.alloc(layout) };
        // SAFETY: it is as long as that.
        unsafe { block.write_bytes(b's', size) };
        (block, layout)
    }

    #[test]
    fn what_is_given_back_is_wiped_to_its_last_byte() {
        for size in [1, 7, 64, 4_097, 3 << 20] {
            let with = Wiping::over(Kept(RefCell::default()));
            let (block, layout) = filled(&with, size);
            assert_eq!(bytes(block, size), vec![b's'; size], "the control");
            // SAFETY: it is that allocator's, with that layout.
            unsafe { with.dealloc(block, layout) };
            assert_eq!(with.0.0.borrow()[..], [(block, layout)]);
            assert_eq!(bytes(block, size), vec![0; size]);
        }
    }

    #[test]
    fn what_grows_or_shrinks_leaves_nothing_behind() {
        for (size, then) in [(100, 101), (100, 4_096), (4_096, 100), (100, 99)] {
            let with = Wiping::over(Kept(RefCell::default()));
            let (block, layout) = filled(&with, size);
            // SAFETY: as above, and the new size is one.
            let moved = unsafe { with.realloc(block, layout, then) };
            let kept = size.min(then);
            assert_eq!(bytes(moved, kept), vec![b's'; kept]);
            assert_eq!(with.0.0.borrow()[..], [(block, layout)]);
            assert_eq!(bytes(block, size), vec![0; size]);
        }
    }
}
