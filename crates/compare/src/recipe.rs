//! The recipes of a comparison's transports: where each is made, and of what.

use std::net::Ipv4Addr;

use propagation_core::comparison::Transport;
use propagation_core::protocol::measure::ENTRIES_DIRECTORY;
use propagation_core::protocol::transport::{Given, Program, Ready, Recipe};

/// The directory of a simulated node that all containers share.
pub(crate) const BRIDGE: &str = "/srv/compare";

/// Where containers have it.
const SHARED: &str = "/mnt";

/// Where the data set is in containers.
const DATA: &str = "/mnt/data";

/// What the options and the node say of every recipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The command of [`Transport::Daemon`].
    pub(crate) producer_command: &'a str,
    /// Whether clients of SMB get a wrong password.
    pub(crate) wrong_credentials: bool,
    /// The directory of the node that all containers share.
    pub(crate) bridge: &'a str,
    /// Where a server listens for the node; none for an address of its own on the loopback device.
    pub(crate) server: Option<Ipv4Addr>,
    /// The run: there may be others on the node.
    pub(crate) run: &'a str,
}

/// The recipe of a transport.
pub(crate) fn recipe(transport: Transport, ask: Ask<'_>) -> Recipe {
    let volume = volume(ask.bridge, transport);
    let files = format!("{}/work/{transport}", ask.bridge);
    Recipe::of(
        transport,
        Given {
            tag: &format!("{}.{transport}", ask.run),
            source: DATA,
            mountpoint: &format!("{SHARED}/{transport}"),
            work: &format!("{SHARED}/work/{transport}"),
            shows: ENTRIES_DIRECTORY,
            on_node: Some((&volume, &files)),
            server: ask.server,
            producer_command: ask.producer_command,
            wrong_credentials: ask.wrong_credentials,
            cached: true,
        },
    )
}

/// Its programs as command lines; the native transport has none.
pub(crate) fn how(recipe: &Recipe, bridge: &str) -> Vec<String> {
    match recipe.transport {
        Transport::Native => {
            vec![format!("hostPath volume of {bridge}/data, bound by the runtime")]
        }
        _ => recipe.how(),
    }
}

/// Where the node mounts a transport whose client is its kernel.
pub(crate) fn volume(bridge: &str, transport: Transport) -> String {
    format!("{bridge}/{transport}")
}

/// What shows that a program is ready, as arguments of the agent.
pub(crate) fn until(program: &Program) -> Vec<String> {
    match &program.ready {
        Ready::Listens(address) => words(&["--listens", &address.to_string()]),
        Ready::Mounted { at, shows } => words(&["--mounted", at, "--shows", shows]),
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clients_are_known_without_their_stands() {
        let ask = Ask {
            producer_command: "",
            wrong_credentials: false,
            bridge: BRIDGE,
            server: None,
            run: "r",
        };
        for transport in Transport::ALL {
            let client = recipe(transport, ask).client.filter(|client| client.on_node);
            let at = transport.is_mounted_by_the_kernel().then(|| volume(BRIDGE, transport));
            assert_eq!(client.and_then(|client| client.mountpoint), at, "{transport}");
        }
        let native = recipe(Transport::Native, ask);
        assert_eq!(native.path, DATA);
        assert!(how(&native, BRIDGE)[0].contains("/srv/compare/data"));
    }
}
