//! The edgefilter daemon and command line, as a library.

pub mod cli;
pub mod compile;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod policy;
pub mod report;
pub mod scans;
