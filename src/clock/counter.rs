//! The processor's own counter: a reading in a few nanoseconds, where the system's clock takes 25
//! to 35.
//!
//! Nothing is converted into time here: the counter only says whether a reading of the real clocks
//! is still young, so its rate need not be known exactly, and a counter that jumps costs a clock
//! reading, no more.
#![expect(unsafe_code, reason = "a processor's register has no safe reader")]

pub(super) use arch::{available, ticks, window};

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::x86_64::{__cpuid, _rdtsc};
    use once_cell::sync::Lazy;

    /// Whether the counter runs at one rate in every power state; without that it may stand still.
    pub(in super::super) fn available() -> bool {
        const POWER_MANAGEMENT: u32 = 0x8000_0007;
        const INVARIANT_TSC: u32 = 1 << 8;
        #[allow(unused_unsafe, reason = "safe from Rust 1.9x on, unsafe at our rust-version")]
        static INVARIANT: Lazy<bool> = Lazy::new(|| {
            // SAFETY: CPUID is in every x86-64 processor; the second leaf is read only if the first
            // says it is there.
            unsafe {
                __cpuid(0x8000_0000).eax >= POWER_MANAGEMENT
                    && __cpuid(POWER_MANAGEMENT).edx & INVARIANT_TSC != 0
            }
        });
        *INVARIANT
    }

    #[inline]
    pub(in super::super) fn ticks() -> u64 {
        // SAFETY: RDTSC is in every x86-64 processor and touches nothing but two registers.
        unsafe { _rdtsc() }
    }

    /// How many ticks a reading stays young: 40 to 200 us at the 1 to 5 GHz at which these counters
    /// run.
    #[inline]
    pub(in super::super) fn window() -> u64 {
        200_000
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use core::arch::asm;
    use once_cell::sync::Lazy;

    /// The generic timer is architectural: one rate, always on.
    pub(in super::super) fn available() -> bool {
        window() > 0
    }

    #[inline]
    pub(in super::super) fn ticks() -> u64 {
        let ticks: u64;
        // SAFETY: Linux lets user space read CNTVCT_EL0; it has no effect on memory.
        unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }

    /// How many ticks a reading stays young: 200 us.
    #[inline]
    pub(in super::super) fn window() -> u64 {
        static WINDOW: Lazy<u64> = Lazy::new(|| {
            let hertz: u64;
            // SAFETY: as above, for CNTFRQ_EL0.
            unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack)) };
            hertz / 5000
        });
        *WINDOW
    }
}
