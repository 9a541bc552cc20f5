//! The picture for Graphviz.

use std::fmt::Write;

use super::{LinkKind, Picture, Standing, text};
use crate::words::short;

/// The picture in the DOT language; `dot -Tsvg` draws it.
pub fn render(picture: &Picture) -> String {
    // Writing to a String cannot fail, so the results of `write!` are dropped.
    let mut out = String::from(
        "digraph propagation {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n",
    );
    for (place, card) in picture.cards.iter().enumerate() {
        let colour = match card.standing {
            Standing::Good => "darkgreen",
            Standing::Deaf(_) => "darkorange",
            Standing::Dead(_) | Standing::Broken(_) => "red",
            Standing::Nothing => "gray",
        };
        let _ = writeln!(out, "  subgraph cluster_{place} {{");
        let mut title = format!("{} {}", text::sign(&card.standing), card.title());
        if let Some(reason) = card.standing.reason() {
            let _ = write!(title, ": {reason}");
        }
        let _ = writeln!(out, "    label={}; color={colour};", quoted(&title));
        for (index, mount) in card.mounts.iter().enumerate() {
            let label = [mount.mount_point.to_string(), mount.filesystem(), mount.propagation()];
            let style = if mount.is_fuse { "bold" } else { "solid" };
            let label = label.map(|line| escaped(&line)).join("\\n");
            let _ = writeln!(out, "    m{place}_{index} [label=\"{label}\", style={style}];");
        }
        out.push_str("  }\n");
    }
    for link in &picture.links {
        let look = match link.kind {
            LinkKind::Peers(group) => format!("dir=both, label=\"group {group}\""),
            LinkKind::Slave(group) => format!("label=\"group {group}\""),
            LinkKind::Broken => "color=red, style=dashed, label=\"broken\"".into(),
        };
        let ((a, b), (c, d)) = (link.from, link.to);
        let _ = writeln!(out, "  m{a}_{b} -> m{c}_{d} [{look}];");
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Text inside a DOT string: every backslash and quote stands for itself.
fn escaped(text: &str) -> String {
    short(text).replace('\\', "\\\\").replace('"', "\\\"")
}
