//! HTML left over from crawling: tags and entities, told from comparisons such as `血压<90/60` and `a<b`.
//!
//! Only what the HTML grammar (WHATWG HTML, sections 13.1.2 and 13.1.4) takes for a tag of a known name, or for an
//! entity that ends in a semicolon, is touched; all else stays as it is.

/// Texts are unwrapped this often at most: `&amp;lt;br&amp;gt;` was escaped twice before it was crawled.
const ROUNDS: usize = 6;

/// How far the end of an element or comment is looked for, in bytes, so that a text of open tags takes no minutes.
const LONGEST_ELEMENT: usize = 16 << 10;

/// Elements that begin a line of their own.
const BLOCKS: &str = "address article aside blockquote body br center dd div dl dt fieldset figcaption figure \
    footer form h1 h2 h3 h4 h5 h6 head header hr html li main nav ol option p pre section \
    select table tbody tfoot thead title tr ul";
/// Elements that stand apart within a line.
const CELLS: &str = "td th";
/// Elements within a text.
const INLINE: &str = "a abbr acronym audio b big button caption cite code col colgroup del em embed font i \
    iframe img input ins label link mark meta noscript o:p object param picture q s samp \
    small source span strike strong sub sup svg textarea tt u var video wbr";
/// Elements whose content is no text.
const HIDDEN: &str = "script style";
/// Attributes that may stand without a value.
const FLAGS: &str = "checked controls disabled hidden nowrap noshade readonly selected";

/// Named characters that consultations use, each name before its character.
const ENTITIES: &str = "lt< gt> amp& quot\" apos' ldquo“ rdquo” lsquo‘ rsquo’ laquo« raquo» hellip… mdash— ndash– \
    middot· bull• times× divide÷ plusmn± le≤ ge≥ ne≠ asymp≈ deg° permil‰ sup1¹ sup2² sup3³ \
    frac12½ frac14¼ frac34¾ microµ alphaα betaβ gammaγ deltaδ DeltaΔ kappaκ lambdaλ muμ omegaω \
    larr← uarr↑ rarr→ darr↓ reg® copy© trade™ zwnj\u{200c} zwj\u{200d} shy\u{ad}";
/// Named spaces.
const SPACES: &str = "nbsp ensp emsp thinsp";

/// The text without tags, its entities replaced by their characters.
pub(crate) fn without_markup(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        if !text.contains(['<', '&']) {
            break;
        }
        let unwrapped = replace_entities(&remove_tags(&text));
        if unwrapped == text {
            break;
        }
        text = unwrapped;
    }
    text
}

fn remove_tags(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        match markup_at(rest) {
            Some((length, replacement)) => {
                rest = &rest[length..];
                let digits =
                    kept.ends_with(|c: char| c.is_ascii_digit()) && rest.starts_with(|c: char| c.is_ascii_digit());
                kept.push_str(replacement.text(rest, digits));
            }
            None => {
                kept.push('<');
                rest = &rest[1..];
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// What a tag becomes.
enum Replacement {
    Line,
    Space,
    Nothing,
    /// `10<sup>9</sup>` is `10^9`, not `109`.
    Superscript,
    /// `log<sub>10</sub>5` is `log10 5`.
    Subscript,
}

impl Replacement {
    fn text(&self, after: &str, between_digits: bool) -> &'static str {
        match self {
            Self::Line => "\n",
            Self::Space => " ",
            Self::Superscript if after.starts_with(|c: char| c.is_ascii_digit() || "+-−".contains(c)) => "^",
            Self::Subscript if between_digits => " ",
            _ => "",
        }
    }
}

/// Length in bytes of the tag or comment that a text begins with, and what it becomes.
fn markup_at(text: &str) -> Option<(usize, Replacement)> {
    if let Some(comment) = text.strip_prefix("<!--") {
        return end_of(comment, "-->").map(|end| ("<!--".len() + end, Replacement::Nothing));
    }
    let closing = text.starts_with("</");
    let inside = &text[1 + usize::from(closing)..];
    let name_length = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != ':').unwrap_or(inside.len());
    // No name of an element is longer, and a long word must not be copied.
    let name = inside.get(..name_length).filter(|name| name.len() <= 10)?.to_ascii_lowercase();
    let attributes = &inside[name_length..];
    let length = text.len() - attributes.len() + attributes_length(attributes)?;
    let one_of = |names| lists(names, &name);
    if one_of(HIDDEN) {
        let end = if closing { None } else { end_of_element(&text[length..], &name) };
        return Some((length + end.unwrap_or(0), Replacement::Nothing));
    }
    if one_of(BLOCKS) {
        return Some((length, Replacement::Line));
    }
    if one_of(CELLS) {
        return Some((length, Replacement::Space));
    }
    // `a<b>c` compares: a single letter is a tag only where it is closed, or has attributes.
    let bare_letter = name.len() == 1 && !closing && attributes.starts_with('>');
    if !one_of(INLINE) || (bare_letter && end_of_element(&text[length..], &name).is_none()) {
        return None;
    }
    let replacement = match name.as_str() {
        "sup" if !closing => Replacement::Superscript,
        // A digit behind an exponent is no part of it either.
        "sub" | "sup" => Replacement::Subscript,
        _ => Replacement::Nothing,
    };
    Some((length, replacement))
}

/// Bytes up to the end of `</name>`.
fn end_of_element(text: &str, name: &str) -> Option<usize> {
    end_of(text, &format!("</{name}>"))
}

/// Bytes up to the end of a mark in any case, unless it is far away.
fn end_of(text: &str, mark: &str) -> Option<usize> {
    let near = &text.as_bytes()[..text.len().min(LONGEST_ELEMENT)];
    let at = near.windows(mark.len()).position(|window| window.eq_ignore_ascii_case(mark.as_bytes()));
    at.map(|at| at + mark.len())
}

/// Bytes of the attributes and the `>` of a tag; none when this is no tag.
fn attributes_length(text: &str) -> Option<usize> {
    let mut rest = text;
    loop {
        let spaced = rest.len();
        rest = rest.trim_ascii_start();
        if let Some(rest) = rest.strip_prefix("/>").or_else(|| rest.strip_prefix('>')) {
            return Some(text.len() - rest.len());
        }
        if spaced == rest.len() && spaced == text.len() {
            return None;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_:.@".contains(c);
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        rest = match after.trim_ascii_start().strip_prefix('=') {
            Some(value) => after_value(value.trim_ascii_start())?,
            None if lists(FLAGS, &name.to_ascii_lowercase()) => after,
            None => return None,
        };
    }
}

fn after_value(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| "\"'".contains(*c));
    match quote {
        Some(quote) => text[1..].split_once(quote).map(|(_, after)| after),
        None => {
            let end = text.find(|c: char| c.is_whitespace() || c == '>' || c == '<')?;
            (end > 0).then(|| &text[end..])
        }
    }
}

/// Whether a name is among names separated by spaces.
fn lists(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

fn replace_entities(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        kept.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        // The longest that is known, `#x10FFFF` among them.
        let end = rest.bytes().take(10).position(|byte| byte == b';');
        match end.and_then(|end| Some((end, entity(&rest[..end])?))) {
            Some((end, character)) => {
                kept.push_str(&character);
                rest = &rest[end + 1..];
            }
            None => kept.push('&'),
        }
    }
    kept.push_str(rest);
    kept
}

fn entity(name: &str) -> Option<String> {
    let Some(number) = name.strip_prefix('#') else {
        let character =
            ENTITIES.split(' ').find_map(|entity| entity.strip_prefix(name).filter(|c| c.chars().count() == 1));
        return character.or(lists(SPACES, name).then_some(" ")).map(str::to_owned);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_and_doses_stay_as_they_are() {
        for text in [
            "血压<90/60",
            "WBC > 10",
            "a<b>c",
            "若a<b 且 c>d",
            "年龄<3岁或>60岁",
            "p<0.05",
            "P<p",
            "<5mg/kg>",
            "x <i> y",
            "R&D",
            "5&lt",
            "A&B;C",
            "血糖<b型>6",
            "<一日三次>",
            "<Lancet>",
            "&unknown;",
            "&#xD800;",
            "<a ",
            "<",
            "&",
        ] {
            assert_eq!(without_markup(text), text);
        }
    }

    #[test]
    fn tags_are_removed_and_blocks_begin_a_line() {
        assert_eq!(without_markup("<p class=\"x > y\">多<b>喝</b>水<br/>休息</P>"), "\n多喝水\n休息\n");
        assert_eq!(without_markup("<td>a</td><td nowrap width=5>b</td>"), " a  b ");
        assert_eq!(without_markup("见<a href='http://x.org/?a=1'>此</a><!-- < -->处"), "见此处");
    }

    #[test]
    fn scripts_and_styles_go_with_their_content() {
        assert_eq!(without_markup("前<script src=x>if (a<b) {}</SCRIPT>后<style>p{}</style>"), "前后");
    }

    #[test]
    fn exponents_and_indices_do_not_run_into_numbers() {
        assert_eq!(without_markup("4×10<sup>9</sup>/L"), "4×10^9/L");
        assert_eq!(without_markup("HCO<sub>3</sub><sup>-</sup>"), "HCO3^-");
        assert_eq!(without_markup("log<sub>10</sub>5"), "log10 5");
        assert_eq!(without_markup("有效<sup>[1]</sup>。"), "有效[1]。");
    }

    #[test]
    fn entities_become_their_characters_also_where_they_were_escaped_twice() {
        assert_eq!(without_markup("T&lt;37&deg;C&nbsp;&amp;&#32;&#x8840;"), "T<37°C & 血");
        assert_eq!(without_markup("a&amp;lt;br /&amp;gt;b"), "a\nb");
        assert_eq!(without_markup("血压&lt;90"), "血压<90");
    }
}
