//! What a statement must not be before it is parsed: the parser goes down one level of the stack for each operator of a chain,
//! and takes twice the time for each `CASE` within another (sqlparser 0.62). Neither can be stopped from outside, so both
//! are bounded here (I9).

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};

use crate::{EngineOptions, QueryError};

/// Refuses what is too long or too deep to be parsed.
pub(crate) fn check(sql: &str, options: &EngineOptions) -> Result<(), QueryError> {
    let limit = |name, detail| Err(QueryError::Limit { name, detail });
    if sql.len() > options.sql_bytes_max {
        let detail = format!("the statement has {} bytes, {} are allowed", sql.len(), options.sql_bytes_max);
        return limit("sql_bytes_max", detail);
    }
    // What is no SQL at all is for the parser to explain.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    // Lists of literals are as flat as they are long.
    let flat = |token: &Token| {
        use Token::{Comma, Number, Period, SingleQuotedString, Whitespace};
        matches!(token, Whitespace(_) | Comma | Period | Number(..) | SingleQuotedString(_))
    };
    let count = tokens.iter().filter(|token| !flat(token)).count();
    if count > options.sql_words_max {
        let detail = format!("the statement has {count} words and signs, {} are allowed", options.sql_words_max);
        return limit("sql_words_max", detail);
    }
    let mut open = 0usize;
    for token in &tokens {
        let Token::Word(word) = token else { continue };
        match word.keyword {
            Keyword::CASE => open += 1,
            Keyword::END => open = open.saturating_sub(1),
            _ => {}
        }
        if open > options.sql_cases_max {
            let detail = format!("more than {} CASE stand within one another", options.sql_cases_max);
            return limit("sql_cases_max", detail);
        }
    }
    Ok(())
}
