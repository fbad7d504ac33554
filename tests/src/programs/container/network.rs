//! A CNI network of bridge, host-local and portmap, and the loopback network beside it, executed as libcni does.
//!
//! Owns the addresses of the network, and the plugins' environment and configuration. The plugins run in the host's
//! network namespace; their files are in the scratch directory.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cache::Entry;
use super::{CACHE, plugins};
use crate::netns::{Namespace, Scratch};

/// The bridge, made by the plugin with the first container.
pub const BRIDGE: &str = "cni0";
/// Addresses of the containers.
pub const SUBNET_V4: &str = "10.77.4.0/24";
/// The same, IPv6.
pub const SUBNET_V6: &str = "fd77:4::/64";
/// The host's address on the bridge.
pub const GATEWAY_V4: &str = "10.77.4.1";
/// The same, IPv6.
pub const GATEWAY_V6: &str = "fd77:4::1";

const VERSION: &str = "1.0.0";
const NAME: &str = "edgefilter-test";
const INTERFACE: &str = "eth0";

/// A port of the host that leads to one of a container.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The host's port, TCP.
    pub host: u16,
    /// The container's.
    pub container: u16,
}

/// A network; a handle.
#[derive(Clone, Debug)]
pub struct Network {
    host: Namespace,
    plugins: PathBuf,
    cache: PathBuf,
    addresses: PathBuf,
}

impl Network {
    /// Gets everything ready; the bridge comes with the first container. Traffic to elsewhere is masqueraded.
    pub fn prepare(host: &Namespace, scratch: &Scratch) -> Result<Self> {
        host.sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ])?;
        Ok(Self {
            host: host.clone(),
            plugins: plugins()?,
            cache: scratch.directory(CACHE)?,
            addresses: scratch.directory("host-local")?,
        })
    }

    /// Where results are kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The plugins of the network, in order, as the network's configuration has them.
    fn plugins(&self) -> Vec<Value> {
        vec![
            json!({
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.addresses,
                    "ranges": [[{"subnet": SUBNET_V4}], [{"subnet": SUBNET_V6}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            }),
            json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}),
        ]
    }

    /// Puts the container on the network: ADD of each plugin, then the cache.
    pub fn add(&self, namespace: &Namespace, published: &[Published]) -> Result<Attachment> {
        let mappings: Vec<Value> = published
            .iter()
            .map(|port| json!({"hostPort": port.host, "containerPort": port.container, "protocol": "tcp"}))
            .collect();
        let capabilities = json!({"portMappings": mappings});
        let mut attachment = Attachment {
            network: self.clone(),
            namespace: namespace.clone(),
            capabilities,
            files: Vec::new(),
            result: Value::Null,
        };
        let loopback = json!({"type": "loopback"});
        let on_loopback = attachment
            .execute("ADD", "cni-loopback", "lo", &loopback, &Value::Null)?
            .context("the loopback plugin gave no result")?;
        attachment.keep("cni-loopback", "lo", &[loopback], &on_loopback)?;
        let plugins = self.plugins();
        for plugin in &plugins {
            let result = attachment.execute("ADD", NAME, INTERFACE, plugin, &attachment.result)?;
            attachment.result = result.context("a CNI plugin gave no result")?;
        }
        let result = attachment.result.clone();
        attachment.keep(NAME, INTERFACE, &plugins, &result)?;
        Ok(attachment)
    }
}

/// A container's place on the network; given up when dropped.
#[derive(Debug)]
pub struct Attachment {
    network: Network,
    namespace: Namespace,
    capabilities: Value,
    files: Vec<PathBuf>,
    result: Value,
}

impl Attachment {
    /// Takes the container off the network: DEL of each plugin, last one first, then the cache.
    pub fn remove(&mut self) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        for plugin in self.network.plugins().iter().rev() {
            self.execute("DEL", NAME, INTERFACE, plugin, &self.result)?;
        }
        for file in self.files.drain(..) {
            std::fs::remove_file(&file)
                .with_context(|| format!("cannot remove {}", file.display()))?;
        }
        Ok(())
    }

    /// The host's end of the link.
    pub fn link(&self) -> Result<String> {
        let interfaces = self.interfaces()?;
        interfaces
            .iter()
            .filter(|interface| interface.get("sandbox").is_none())
            .filter_map(|interface| interface.get("name")?.as_str())
            .find(|name| *name != BRIDGE)
            .map(str::to_owned)
            .with_context(|| format!("no link in the CNI result {}", self.result))
    }

    /// The MAC inside, as text.
    pub fn mac(&self) -> Result<String> {
        let interfaces = self.interfaces()?;
        let inside = interfaces
            .iter()
            .find(|interface| interface.get("sandbox").is_some());
        let mac = inside.and_then(|interface| interface.get("mac")?.as_str());
        Ok(mac.context("no MAC in the CNI result")?.to_owned())
    }

    /// The address inside.
    pub fn v4(&self) -> Result<Ipv4Addr> {
        self.address(|text| text.parse().ok())
    }

    /// The address inside.
    pub fn v6(&self) -> Result<Ipv6Addr> {
        self.address(|text| text.parse().ok())
    }

    fn address<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let list = self.result.get("ips").and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|ip| ip.get("address")?.as_str()?.split('/').next())
            .find_map(parse)
            .with_context(|| format!("no such address in the CNI result {}", self.result))
    }

    fn interfaces(&self) -> Result<&Vec<Value>> {
        let list = self.result.get("interfaces").and_then(Value::as_array);
        list.with_context(|| format!("no interfaces in the CNI result {}", self.result))
    }

    fn netns(&self) -> String {
        self.namespace.path().display().to_string()
    }

    fn keep(
        &mut self,
        network: &str,
        interface: &str,
        plugins: &[Value],
        result: &Value,
    ) -> Result<()> {
        let configuration =
            json!({"cniVersion": VERSION, "name": network, "plugins": plugins}).to_string();
        let entry = Entry {
            container: self.namespace.name(),
            network,
            interface,
            netns: &self.netns(),
            configuration: configuration.as_bytes(),
            capabilities: self.capabilities.clone(),
            result,
        };
        self.files.push(entry.write(&self.network.cache)?);
        Ok(())
    }

    /// Runs one plugin. ADD answers with a result, DEL with nothing.
    fn execute(
        &self,
        command: &str,
        network: &str,
        interface: &str,
        plugin: &Value,
        previous: &Value,
    ) -> Result<Option<Value>> {
        let kind = plugin
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut configuration = plugin.clone();
        configuration["cniVersion"] = VERSION.into();
        configuration["name"] = network.into();
        if !previous.is_null() {
            configuration["prevResult"] = previous.clone();
        }
        if plugin.get("capabilities").is_some() {
            configuration["runtimeConfig"] = self.capabilities.clone();
        }
        let mut child: Command = self.network.host.command(self.network.plugins.join(kind));
        let mut running = child
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.namespace.name())
            .env("CNI_NETNS", self.netns())
            .env("CNI_IFNAME", interface)
            .env("CNI_PATH", &self.network.plugins)
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the CNI plugin {kind}"))?;
        let text = configuration.to_string();
        let mut input = running.stdin.take().context("no standard input")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        // Plugins are done in milliseconds, and end by themselves.
        let done = running.wait_with_output()?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        ensure!(
            done.status.success(),
            "CNI {command} of {kind} for {interface} ended with {}: {stdout}{stderr}",
            done.status
        );
        if stdout.trim().is_empty() {
            return Ok(None);
        }
        let result = serde_json::from_str(&stdout);
        result.with_context(|| format!("the CNI plugin {kind} gave no JSON: {stdout}"))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!(
                "the network of {} is left behind: {error:#}",
                self.namespace.name()
            );
        }
    }
}
