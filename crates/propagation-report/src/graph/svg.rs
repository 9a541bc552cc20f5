//! The picture as SVG: producers left, the node in the middle, readers right.

use maud::{Markup, PreEscaped, html};

use super::{Card, CardMount, Link, LinkKind, Part, Picture, Standing, text};
use crate::words::short;

const CARD_WIDTH: u32 = 296;
const GAP: u32 = 84;
const MARGIN: u32 = 10;
const HEAD: u32 = 34;
const REASON_LINE: u32 = 16;
const ROW: u32 = 44;
const BETWEEN: u32 = 22;
/// As many characters as fit into a card's width in its monospaced and its text font.
const FITS_MONO: usize = 35;
const FITS_TEXT: usize = 43;

/// Colours for a file of its own; inside the HTML report its style sheet has them.
const STYLE: &str = include_str!("svg.css");

/// A file of its own.
pub fn standalone(picture: &Picture) -> String {
    let drawing = draw(picture, Some(STYLE), "mount graph");
    drawing.into_string()
}

/// A drawing inside a page that has the colours; `label` says what it shows.
pub fn inline(picture: &Picture, label: &str) -> Markup {
    draw(picture, None, label)
}

/// Where a card is.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: u32,
    top: u32,
}

fn draw(picture: &Picture, style: Option<&str>, label: &str) -> Markup {
    let (places, width, height) = layout(picture);
    let view = format!("0 0 {width} {height}");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="mounts" viewBox=(view) width=(width)
            height=(height) role="img" aria-label=(short(label)) {
            @if let Some(style) = style { style { (PreEscaped(style)) } }
            desc { (short(&description(picture))) }
            @for link in &picture.links { (line(picture, &places, link)) }
            @for (card, place) in picture.cards.iter().zip(&places) { (card_box(card, *place)) }
        }
    }
}

/// The drawing in words, for screen readers.
fn description(picture: &Picture) -> String {
    let cards = picture.cards.iter().map(|card| {
        let reason = card.standing.reason().unwrap_or("in order");
        format!("{} ({}): {reason}", card.title(), text::part(card.part))
    });
    cards.collect::<Vec<_>>().join("; ")
}

fn column(part: Part) -> u32 {
    match part {
        Part::Source => 0,
        Part::Host => 1,
        Part::Reader | Part::Control => 2,
    }
}

fn layout(picture: &Picture) -> (Vec<Place>, u32, u32) {
    let used = |wanted: u32| picture.cards.iter().any(|card| column(card.part) == wanted);
    let mut lefts = [0; 3];
    let mut left = MARGIN;
    for wanted in 0..3 {
        lefts[wanted as usize] = left;
        if used(wanted) {
            left += CARD_WIDTH + GAP;
        }
    }
    let mut tops = [MARGIN; 3];
    let places = picture.cards.iter().map(|card| {
        let column = column(card.part) as usize;
        let top = tops[column];
        tops[column] += card_height(card) + BETWEEN;
        Place { left: lefts[column], top }
    });
    let places: Vec<Place> = places.collect();
    let height = tops.into_iter().max().unwrap_or(MARGIN) - BETWEEN.min(MARGIN);
    (places, left.saturating_sub(GAP) + MARGIN, height.max(ROW))
}

fn reason_lines(card: &Card) -> Vec<String> {
    card.standing.reason().map(|reason| wrapped(reason, FITS_TEXT)).unwrap_or_default()
}

fn card_height(card: &Card) -> u32 {
    HEAD + count(reason_lines(card).len()) * REASON_LINE + rows_height(card) + 6
}

fn rows_height(card: &Card) -> u32 {
    count(card.mounts.len()) * ROW
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX / ROW)
}

fn card_box(card: &Card, place: Place) -> Markup {
    let class = match card.standing {
        Standing::Good => "card good",
        Standing::Deaf(_) => "card deaf",
        Standing::Dead(_) => "card dead",
        Standing::Broken(_) => "card broken",
        Standing::Nothing => "card nothing",
    };
    let x = place.left + 14;
    let reasons = reason_lines(card);
    let title = short(&card.title()).into_owned();
    html! {
        g class=(class) {
            title { (title) @if let Some(reason) = card.standing.reason() { ": " (short(reason)) } }
            rect class="frame" x=(place.left) y=(place.top) width=(CARD_WIDTH)
                height=(card_height(card)) rx="8" {}
            text class="name" x=(x) y=(place.top + 22) {
                tspan class="sign" { (text::sign(&card.standing)) }
                " " (middle_cut(&title, 30))
            }
            text class="part" x=(place.left + CARD_WIDTH - 12) y=(place.top + 22)
                text-anchor="end" { (text::part(card.part)) }
            @for (index, line) in reasons.iter().enumerate() {
                text class="reason" x=(x) y=(place.top + HEAD + 6 + count(index) * REASON_LINE) {
                    (line)
                }
            }
            @for (index, mount) in card.mounts.iter().enumerate() {
                (row(mount, place.left, row_top(card, place, index)))
            }
        }
    }
}

fn row_top(card: &Card, place: Place, index: usize) -> u32 {
    place.top + HEAD + count(reason_lines(card).len()) * REASON_LINE + count(index) * ROW
}

fn row(mount: &CardMount, left: u32, top: u32) -> Markup {
    let class = match (mount.is_fuse, mount.accused) {
        (true, true) => "mount fuse accused",
        (true, false) => "mount fuse",
        (false, true) => "mount accused",
        (false, false) => "mount",
    };
    let path = mount.mount_point.to_string();
    let filesystem = mount.filesystem();
    let mut facts = format!("{} · {}", middle_cut(&short(&filesystem), 24), mount.propagation());
    if mount.hidden {
        facts.push_str(" · covered");
    }
    html! {
        g class=(class) {
            title { (short(&path)) " " (short(&filesystem)) " " (mount.propagation()) }
            rect x=(left + 6) y=(top) width=(CARD_WIDTH - 12) height=(ROW - 4) rx="5" {}
            text class="path" x=(left + 14) y=(top + 17) { (middle_cut(&short(&path), FITS_MONO)) }
            text class="facts" x=(left + 14) y=(top + 33) { (middle_cut(&facts, FITS_TEXT)) }
        }
    }
}

fn line(picture: &Picture, places: &[Place], link: &Link) -> Markup {
    let end = |(card, row): (usize, usize)| {
        let place = places[card];
        let top = row_top(&picture.cards[card], place, row);
        (place.left, top + (ROW - 4) / 2)
    };
    let (from, to) = (end(link.from), end(link.to));
    let (from_x, to_x, bend) = if to.0 >= from.0 {
        (from.0 + CARD_WIDTH, to.0, 1)
    } else {
        (from.0, to.0 + CARD_WIDTH, -1)
    };
    let same_column = to.0 == from.0;
    let (from_x, to_x) = if same_column { (from_x, from_x) } else { (from_x, to_x) };
    let reach = i64::from(GAP) / 2 * bend;
    let (from_bend, to_bend) =
        (i64::from(from_x) + reach, i64::from(to_x) + if same_column { reach } else { -reach });
    let path =
        format!("M{from_x} {} C{from_bend} {} {to_bend} {} {to_x} {}", from.1, from.1, to.1, to.1);
    // Arrow heads by hand: a marker's colour would not follow its line's in every browser.
    let pointing_right = !same_column && to.0 > from.0;
    let head = |x: u32, y: u32, right: bool| {
        let back = if right { i64::from(x) - 9 } else { i64::from(x) + 9 };
        let y = i64::from(y);
        format!("M{x} {y} L{back} {} L{back} {} Z", y - 5, y + 5)
    };
    let (class, words) = match link.kind {
        LinkKind::Peers(group) => ("link peers", format!("peers in group {group}")),
        LinkKind::Slave(group) => ("link slave", format!("slave of group {group}")),
        LinkKind::Broken => ("link missing", "broken: no mount propagates here".into()),
    };
    let (middle_x, middle_y) = ((from_x + to_x) / 2, (from.1 + to.1) / 2);
    html! {
        g class=(class) {
            title { (words) }
            path class="wire" d=(path) {}
            path class="head" d=(head(to_x, to.1, pointing_right)) {}
            @if let LinkKind::Peers(_) = link.kind {
                path class="head" d=(head(from_x, from.1, !pointing_right)) {}
            }
            @if link.kind == LinkKind::Broken {
                circle cx=(middle_x) cy=(middle_y) r="10" {}
                text class="cross" x=(middle_x) y=(middle_y + 5) text-anchor="middle" { "✗" }
            }
        }
    }
}

/// At most so many characters, the middle left out: both ends of a path tell more.
fn middle_cut(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= most {
        return text.to_owned();
    }
    let tail = most * 2 / 3;
    let head = most - tail - 1;
    let mut cut: String = characters[..head].iter().collect();
    cut.push('…');
    cut.extend(&characters[characters.len() - tail..]);
    cut
}

/// Lines of at most so many characters, broken at spaces; four at the most.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    const LINES: usize = 4;
    let mut lines: Vec<String> = Vec::new();
    for word in short(text).split_whitespace() {
        let word = middle_cut(word, most);
        let full = lines.len() == LINES;
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(&word);
            }
            Some(line) if full => {
                line.push('…');
                break;
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_in_the_middle_and_wrapped_at_spaces() {
        assert_eq!(middle_cut("/a/very/long/path", 10), "/a/…g/path");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped(&"word ".repeat(40), 9).len(), 4);
        assert_eq!(wrapped("", 9), Vec::<String>::new());
    }
}
