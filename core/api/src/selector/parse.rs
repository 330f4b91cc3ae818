//! The parser of label selectors. Its complaints are upstream's, since clients show them.

use super::ParseSelectorError;
use super::labels::{Operator, Requirement};
use crate::label;

/// The conditions of a selector, in the order written.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, ParseSelectorError> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            Token::Word(_) | Token::Symbol("!") => {
                let requirement = parser
                    .requirement()
                    .map_err(|err| ParseSelectorError(format!("unable to parse requirement: {err}")))?;
                requirements.push(requirement);
                match parser.next() {
                    Token::End => return Ok(requirements),
                    Token::Symbol(",") => match parser.peek() {
                        Token::Word(_) | Token::Symbol("!") => {}
                        other => return Err(found(other, ", expected: identifier after ','")),
                    },
                    other => return Err(found(other, ", expected: ',' or 'end of string'")),
                }
            }
            other => return Err(found(other, ", expected: !, identifier, or 'end of string'")),
        }
    }
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value, or one of the words `in` and `notin`.
    Word(&'a str),
    /// An operator, parenthesis or comma.
    Symbol(&'a str),
    End,
}

fn found(token: Token<'_>, rest: &str) -> ParseSelectorError {
    let text = match token {
        Token::Word(text) | Token::Symbol(text) => text,
        Token::End => "",
    };
    ParseSelectorError(format!("found '{text}'{rest}"))
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    const BLANK: &[char] = &[' ', '\t', '\r', '\n'];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(BLANK);
    while !rest.is_empty() {
        let symbol = ["==", "!="].into_iter().find(|symbol| rest.starts_with(symbol)).map(str::len);
        let length = symbol.or_else(|| rest.starts_with(SPECIAL).then_some(1));
        let token;
        if let Some(length) = length {
            (token, rest) = rest.split_at(length);
            tokens.push(Token::Symbol(token));
        } else {
            let end = rest.find(|character| SPECIAL.contains(&character) || BLANK.contains(&character));
            (token, rest) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Word(token));
        }
        rest = rest.trim_start_matches(BLANK);
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, ParseSelectorError> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(found(other, ", expected: identifier")),
        };
        let problems = label::key_problems(key);
        if !problems.is_empty() {
            // Upstream prints an empty path so.
            return Err(ParseSelectorError(format!("<nil>: Invalid value: {key:?}: {}", problems.join("; "))));
        }
        if negated {
            return Requirement::checked(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::checked(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::checked(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, ParseSelectorError> {
        Ok(match self.next() {
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            other => return Err(found(other, ", expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// The single value of a comparison; nothing at all is the empty value.
    fn value(&mut self) -> Result<String, ParseSelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            other => Err(found(other, ", expected: identifier")),
        }
    }

    /// The values in parentheses, without repetition; a missing one is the empty value.
    fn values(&mut self) -> Result<Vec<String>, ParseSelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(found(other, " expected: '('")),
        }
        let mut values: Vec<String> = Vec::new();
        loop {
            let value = match self.peek() {
                Token::Word(word) => {
                    self.next();
                    word
                }
                Token::Symbol("," | ")") => "",
                other if values.is_empty() => return Err(found(other, ", expected: ',', ')' or identifier")),
                other => return Err(found(other, ", expected: ',', or identifier")),
            };
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(found(other, ", expected: ',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_text_says_why() {
        let texts =
            ["a b", "a,", ",a", "a in", "a in (b", "a in (", "=b", "a=(", "!", "a=b c", "a!b", "a>x", "a in (b c)"];
        let lines: Vec<String> =
            texts.iter().map(|text| format!("{text}  →  {}", requirements(text).unwrap_err())).collect();
        expect![[r#"
            a b  →  unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
            a,  →  found '', expected: identifier after ','
            ,a  →  found ',', expected: !, identifier, or 'end of string'
            a in  →  unable to parse requirement: found '' expected: '('
            a in (b  →  unable to parse requirement: found '', expected: ',' or ')'
            a in (  →  unable to parse requirement: found '', expected: ',', ')' or identifier
            =b  →  found '=', expected: !, identifier, or 'end of string'
            a=(  →  unable to parse requirement: found '(', expected: identifier
            !  →  unable to parse requirement: found '', expected: identifier
            a=b c  →  found 'c', expected: ',' or 'end of string'
            a!b  →  unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt
            a>x  →  unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer
            a in (b c)  →  unable to parse requirement: found 'c', expected: ',' or ')'"#]].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn bad_keys_and_values_are_named() {
        let err = requirements("-a=b").unwrap_err().to_string();
        assert!(err.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"), "{err}");
        let err = requirements("a=-b").unwrap_err().to_string();
        assert!(err.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid"), "{err}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-c]|in|notin|[=!(),<> ü]){0,30}") {
            if let Ok(labels) = super::super::Labels::parse(&text) {
                prop_assert_eq!(super::super::Labels::parse(&labels.to_string()), Ok(labels));
            }
        }
    }
}
