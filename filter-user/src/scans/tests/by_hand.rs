//! What people do themselves.

use super::*;
use crate::policy::Scans;
use crate::scans::detector::BlockError;

impl World {
    fn block(&mut self, source: &str, ttl: Option<Duration>) -> Result<(), BlockError> {
        let effects = self.detector.block(net(source), ttl, self.moment())?;
        self.apply(effects);
        Ok(())
    }

    fn unblock(&mut self, source: &str) -> Result<(), BlockError> {
        let effects = self.detector.unblock(net(source), self.moment())?;
        self.apply(effects);
        Ok(())
    }
}

#[test]
fn blocks_by_hand() {
    // also where the policy only observes
    let mut world = World::new(Scans::default());
    assert_eq!(world.block("192.0.2.9", None), Ok(()));
    assert_eq!(world.ttl("192.0.2.9"), seconds(600));
    assert_eq!(world.block("2001:db8::77/64", Some(seconds(5))), Ok(()));
    assert!(world.blocked("2001:db8::/64"));
    // another end for the same
    world.wait(seconds(2));
    assert_eq!(world.block("192.0.2.9", Some(seconds(20))), Ok(()));
    assert_eq!(world.ttl("192.0.2.9"), seconds(20));
    world.wait(seconds(4));
    assert!(!world.blocked("2001:db8::/64"));
    assert_eq!(world.unblock("192.0.2.9"), Ok(()));
    assert!(world.kernel.is_empty());
    let not = Err(BlockError::NotBlocked(net("192.0.2.9")));
    assert_eq!(world.unblock("192.0.2.9"), not);
    let told = ["blocked", "blocked", "blocked", "unblocked", "unblocked"];
    assert_eq!(world.told(), told);
}

#[test]
fn refusals_say_why() {
    let gateway = [("203.0.113.1", "gateway"), ("2001:db8::1", "resolver")];
    let protected = Protected::of(&gateway, None, &[]);
    let mut world = World::with(Arc::new(Settings {
        scans: blocking(),
        protected,
    }));
    for (source, ttl, message) in [
        (
            "203.0.113.1",
            None,
            "203.0.113.1/32 is never blocked: gateway 203.0.113.1",
        ),
        (
            "2001:db8::/64",
            None,
            "2001:db8::/64 is never blocked: resolver 2001:db8::1",
        ),
        (
            "127.0.0.1",
            None,
            "127.0.0.1/32 is never blocked: the host itself",
        ),
        (
            "224.0.0.1",
            None,
            "224.0.0.1/32 is never blocked: a group address",
        ),
        (
            "192.0.2.0/24",
            None,
            "192.0.2.0/24 cannot be blocked: name an address, or an IPv6 /64 that is not link-local",
        ),
        (
            "fe80::/64",
            None,
            "fe80::/64 cannot be blocked: name an address, or an IPv6 /64 that is not link-local",
        ),
        (
            "2001:db8::/48",
            None,
            "2001:db8::/48 cannot be blocked: name an address, or an IPv6 /64 that is not link-local",
        ),
        (
            "192.0.2.1",
            Some(seconds(0)),
            "a block lasts from 1 second to 30 days",
        ),
        (
            "192.0.2.1",
            Some(*Scans::BLOCK.end() + seconds(1)),
            "a block lasts from 1 second to 30 days",
        ),
    ] {
        assert_eq!(world.block(source, ttl).unwrap_err().to_string(), message);
    }
    assert_eq!(
        world.unblock("::/0").unwrap_err().to_string(),
        "::/0 is not blocked"
    );
    assert!(world.kernel.is_empty() && world.reports.is_empty());
}

/// What a person takes off stays off until the scan is over, and is forgiven.
#[test]
fn unblocked_by_hand_stays_unblocked() {
    let mut world = World::new(blocking());
    world.scan(SCANNER, 20);
    assert_eq!(world.unblock(SCANNER), Ok(()));
    world.scan(SCANNER, 50);
    world.wait(seconds(5));
    let record = world.only();
    assert_eq!(record.verdict, Verdict::Spared);
    assert!(record.because.ends_with("unblocked by hand"));
    assert!(world.kernel.is_empty());
    world.wait(Duration::from_mins(20));
    world.scan(SCANNER, 20);
    assert_eq!(world.ttl(SCANNER), seconds(600), "not doubled");
}

/// A scan neither shortens nor replaces a block by hand; when that ends, the scan's begins.
#[test]
fn a_block_by_hand_outranks_a_scan() {
    let mut world = World::new(blocking());
    assert_eq!(world.block(SCANNER, Some(seconds(30))), Ok(()));
    world.scan(SCANNER, 20);
    assert_eq!(world.kernel[&net(SCANNER)].origin, Origin::Manual);
    assert_eq!(world.only().verdict, Verdict::Blocked);
    world.wait(seconds(31));
    assert!(!world.blocked(SCANNER));
    for port in 500..510 {
        world.syn(SCANNER, port);
    }
    assert_eq!(world.kernel[&net(SCANNER)].origin, Origin::Scan);
    // and the other way round
    assert_eq!(world.block(SCANNER, Some(seconds(5))), Ok(()));
    assert_eq!(world.kernel[&net(SCANNER)].origin, Origin::Manual);
}
