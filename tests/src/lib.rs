//! What edgefilter's tests against a real kernel are made of: packets, an independent oracle, random
//! cases, the filter under `BPF_PROG_TEST_RUN`, network namespaces, real programs, the control socket, a generator of
//! load. Must never hold a test itself, and never be a dependency of anything but tests.

pub mod bpf;
pub mod control;
pub mod netns;
pub mod oracle;
pub mod packets;
pub mod programs;
pub mod random;
pub mod test_run;
pub mod traffic;
