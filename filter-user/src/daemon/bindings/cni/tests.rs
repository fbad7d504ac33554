//! Cache files as libcni writes them, and files that are none.

use std::fs;

use super::*;

/// As `bridge` with `host-local` leaves it.
const BRIDGE: &str = r#"{"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":"eth0","networkName":"pods",
 "netns":"/var/run/netns/c1","result":{"cniVersion":"1.0.0","dns":{},
 "interfaces":[{"name":"cni0","mac":"9e:00:00:00:00:01"},{"name":"veth1","mac":"9e:00:00:00:00:02"},
               {"name":"eth0","mac":"02:00:00:00:00:05","sandbox":"/var/run/netns/c1"}],
 "ips":[{"interface":2,"address":"10.22.0.5/24","gateway":"10.22.0.1"},
        {"version":"6","interface":2,"address":"fd00::5/64"},{"interface":0,"address":"10.22.0.1/24"}]}}"#;

/// As Calico leaves it: no interface in the container, no index.
const CALICO: &str = r#"{"kind":"cniCacheV1","result":{"cniVersion":"0.3.1","interfaces":[{"name":"cali1"}],
 "ips":[{"version":"4","address":"10.99.0.6/32"}]}}"#;

fn result(macs: &[Mac], addresses: &[&str]) -> CniResult {
    CniResult {
        macs: macs.to_vec(),
        addresses: addresses
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect(),
    }
}

#[test]
fn results_of_plugins() {
    let (names, bridge) = parse(BRIDGE.as_bytes()).expect("JSON").expect("a result");
    assert_eq!(names, ["cni0", "veth1"]);
    let mac = [2, 0, 0, 0, 0, 5];
    assert_eq!(bridge, result(&[mac], &["10.22.0.5", "fd00::5"]));
    let (names, calico) = parse(CALICO.as_bytes()).expect("JSON").expect("a result");
    assert_eq!(names, ["cali1"]);
    assert_eq!(calico, result(&[], &["10.99.0.6"]));

    for other in [
        "{}",
        r#"{"kind":"other","result":{"interfaces":[{"name":"veth1"}]}}"#,
        r#"{"kind":"cniCacheV1","result":{"interfaces":[{"name":"lo","mac":"00:00:00:00:00:00","sandbox":"/x"}]}}"#,
        r#"{"kind":"cniCacheV1","result":{"interfaces":null,"ips":null}}"#,
    ] {
        assert_eq!(parse(other.as_bytes()).expect("JSON"), None, "{other}");
    }
    for broken in [
        "",
        "[1",
        r#"{"kind":"cniCacheV1","result":{"interfaces":[{"name":"v"},{"mac":"2:0","sandbox":"/x"}]}}"#,
        r#"{"kind":"cniCacheV1","result":{"interfaces":[{"name":"v"}],"ips":[{"address":"10.0.0.0.1/8"}]}}"#,
    ] {
        assert!(parse(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn a_directory_of_results() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join(RESULTS)).expect("made");
    let path = |name: &str| directory.path().join(RESULTS).join(name);
    let mut none = CniCache::new(&path("absent"));
    assert!(none.read().is_empty());
    assert!(none.warned.is_empty(), "most hosts have none");

    fs::write(path("pods-c1-eth0"), BRIDGE).expect("written");
    fs::write(path("broken"), "{").expect("written");
    let large = " ".repeat(MAX_BYTES as usize + 1) + CALICO;
    fs::write(path("large"), large).expect("written");
    fs::create_dir(path("subdirectory")).expect("made");
    std::os::unix::fs::symlink(path("pods-c1-eth0"), path("link")).expect("made");
    let mut cache = CniCache::new(directory.path());
    let first = cache.read();
    let mut names: Vec<&String> = first.keys().collect();
    names.sort();
    assert_eq!(names, ["cni0", "veth1"]);
    assert_eq!(cache.warned.len(), 2);
    assert_eq!(cache.read(), first, "from memory");

    // left behind by an earlier container: the newer file counts
    let newer = BRIDGE.replace("10.22.0.5", "10.22.0.8");
    fs::write(path("a-newer"), newer).expect("written");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let file = File::options().write(true).open(path("a-newer"));
    file.and_then(|file| file.set_modified(later)).expect("set");
    let second = cache.read();
    assert_eq!(
        second
            .get("veth1")
            .map(|result| result.addresses[0].to_string()),
        Some("10.22.0.8".to_owned())
    );
    fs::remove_file(path("a-newer")).expect("removed");
    fs::write(path("broken"), CALICO).expect("written");
    let third = cache.read();
    assert_eq!(third.get("veth1"), first.get("veth1"));
    assert!(third.contains_key("cali1"), "mended");
    assert_eq!(cache.warned.len(), 1);
}

#[test]
fn no_more_files_than_the_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let results = directory.path().join(RESULTS);
    fs::create_dir(&results).expect("made");
    for number in 0..MAX_FILES + 3 {
        let text = CALICO.replace("cali1", &format!("cali{number}"));
        fs::write(results.join(number.to_string()), text).expect("written");
    }
    let mut cache = CniCache::new(directory.path());
    assert_eq!(cache.read().len(), MAX_FILES);
    assert_eq!(cache.warned.len(), 1);
}
