//! Which tags can meet: whether two templates may give one name, and whether relations go round in a circle.

use std::collections::VecDeque;

use crate::route::Relation;
use crate::tag::Template;

/// A circle of relations.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Cycle {
    /// The relations on the way, by their place in the list.
    pub(super) path: Vec<usize>,
    /// Which tag on the right of the last one leads back to the first.
    pub(super) closing: usize,
}

/// Whether some name is given by both templates, whatever their captures find; or whether they share the class that
/// both are widened to when one finds nothing.
pub(super) fn overlaps(one: &Template, other: &Template) -> bool {
    let same_class = one
        .class()
        .is_some_and(|class| Some(class) == other.class());
    same_class || meet(&pieces(one), &pieces(other))
}

/// A character, or `None` for one or more of any.
type Pieces = Vec<Option<char>>;

fn pieces(template: &Template) -> Pieces {
    let mut inside = false;
    let mut pieces = Pieces::new();
    for c in template.as_str().chars() {
        match c {
            '{' => {
                inside = true;
                pieces.push(None);
            }
            '}' => inside = false,
            _ if inside => {}
            _ => pieces.push(Some(c)),
        }
    }
    pieces
}

/// Whether two lists of pieces have a text in common: walks both at once, each place once.
fn meet(one: &Pieces, other: &Pieces) -> bool {
    let mut seen = vec![false; (one.len() + 1) * (other.len() + 1)];
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        if std::mem::replace(&mut seen[i * (other.len() + 1) + j], true) {
            continue;
        }
        match (one.get(i), other.get(j)) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => {}
            (Some(Some(mine)), Some(Some(theirs))) if mine != theirs => {}
            (Some(mine), Some(theirs)) => {
                open.push((i + 1, j + 1));
                // What stands for several characters may go on while the other side moves.
                open.extend(mine.is_none().then_some((i, j + 1)));
                open.extend(theirs.is_none().then_some((i + 1, j)));
            }
        }
    }
    false
}

/// The circles among relations, each found once, from its first relation in the file.
pub(super) fn cycles(relations: &[&Relation]) -> Vec<Cycle> {
    (0..relations.len())
        .filter_map(|start| shortest(relations, start))
        .collect()
}

/// The shortest way from a relation back to itself over those after it.
fn shortest(relations: &[&Relation], start: usize) -> Option<Cycle> {
    let mut open = VecDeque::from([vec![start]]);
    let mut later: Vec<usize> = (start + 1..relations.len()).collect();
    while let Some(path) = open.pop_front() {
        let last = *path.last()?;
        let right = &relations[last].right;
        let leads_to = |next: usize| {
            right
                .iter()
                .position(|tag| overlaps(tag, &relations[next].left))
        };
        if let Some(closing) = leads_to(start) {
            return Some(Cycle { path, closing });
        }
        let near = |next: &usize| leads_to(*next).is_some();
        let (reached, left) = later.into_iter().partition(near);
        later = left;
        for next in Vec::into_iter(reached) {
            open.push_back([path.as_slice(), &[next]].concat());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a valid template")
    }

    #[test]
    fn templates_overlap_when_some_name_is_of_both() {
        for (one, other, expected) in [
            ("events", "events", true),
            ("events", "event", false),
            ("event:{a}", "event:{response.b}", true),
            ("event:{a}", "event:*", true),
            ("event:{a}", "event:5", true),
            ("event:{a}", "event:", false),
            ("event:{a}", "events", false),
            ("x:{a}:y", "x:5:{b}", true),
            ("x:{a}:y", "x:{b}:z", true),
            ("{a}:y", "x:{b}", true),
            ("a:{x}", "b:{x}", false),
        ] {
            assert_eq!(
                overlaps(&template(one), &template(other)),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                overlaps(&template(other), &template(one)),
                expected,
                "{other} {one}"
            );
        }
    }

    #[test]
    fn circles_are_found_once_and_by_the_shortest_way() {
        let relation = |left: &str, right: &[&str]| Relation {
            left: template(left),
            right: right.iter().map(|text| template(text)).collect(),
        };
        let list = [
            relation("a", &["z", "b"]),
            relation("b", &["c:{x}", "c:1"]),
            relation("c:{id}", &["d", "a"]),
            relation("e", &["e"]),
            relation("f:{id}", &["f:{id}:g"]),
            relation("h", &["a"]),
        ];
        let list: Vec<&Relation> = list.iter().collect();
        let expected = [(vec![0, 1, 2], 1), (vec![3], 0), (vec![4], 0)];
        let expected = expected.map(|(path, closing)| Cycle { path, closing });
        assert_eq!(cycles(&list), expected);
    }
}
