"""Row expressions: SQL over the columns of one event, checked before Spark sees them.

An expression may use operators, literals and the functions listed here, all of which depend on the event alone. So a
view is a function of the log: no clock, no random number, no other row.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from sqlglot.dialects.spark import Spark
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from tideline.errors import DefinitionError

ROW_FUNCTIONS = frozenset(
    """abs acos array array_contains asin atan atan2 bround cast cbrt ceil ceiling char_length character_length
    coalesce concat concat_ws contains cos date date_add date_format date_from_unix_date date_sub date_trunc
    datediff day dayofmonth dayofweek dayofyear decimal degrees div elt endswith exp extract find_in_set floor
    get_json_object greatest hour if ifnull initcap instr int bigint double float string isnan isnotnull isnull
    lcase least left length levenshtein ln locate log log10 log2 lower lpad ltrim make_date map md5 minute mod
    month named_struct negative nullif nvl nvl2 parse_url pmod positive pow power quarter radians regexp_count
    regexp_extract regexp_like regexp_replace repeat replace reverse right rlike round rpad rtrim second sha1
    sha2 shiftleft shiftright sign signum sin size split split_part sqrt startswith struct substr substring
    substring_index tan timestamp timestamp_micros timestamp_millis timestamp_seconds to_date to_timestamp
    translate trim trunc try_add try_cast try_divide try_element_at try_multiply try_subtract try_to_date
    try_to_timestamp ucase unix_date unix_micros unix_millis unix_seconds upper url_decode weekday weekofyear
    width_bucket xxhash64 year""".split()
)
_AGGREGATES = frozenset(
    """any approx_count_distinct approx_percentile array_agg avg bit_and bit_or bit_xor bool_and bool_or
    collect_list collect_set corr count count_if first first_value hll_sketch_agg kurtosis last last_value max
    max_by mean median min min_by mode percentile percentile_approx skewness std stddev stddev_pop stddev_samp
    sum var_pop var_samp variance""".split()
)
_OPERATORS = frozenset(
    "and or not in between like rlike ilike case when then else is distinct from as escape all".split()
)
_FORBIDDEN = {"over": "a window", "select": "a subquery"}
_BARE_FUNCTIONS = frozenset(
    """current_catalog current_database current_date current_schema current_time current_timestamp current_timezone
    current_user localtimestamp now session_user user""".split()
)
_CLOCK_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
_TIME_WORDS = frozenset(
    "cast date timestamp timestamp_ltz timestamp_ntz to_date to_timestamp try_cast try_to_date".split()
) | {"try_to_timestamp"}
SPECIAL_COLUMNS = ("_key", "_headers", "_timestamp")


LONGEST = 32_768
DEEPEST = 100


def _check_size(sql: str) -> None:
    depths = accumulate((letter == "(") - (letter == ")") for letter in sql)
    if len(sql) > LONGEST or max(depths, default=0) > DEEPEST:
        limits = f"at most {LONGEST} letters and brackets {DEEPEST} deep, with the columns' expressions put in"
        raise DefinitionError("BAD_EXPRESSION", expression=sql[:100], reason=limits)


def tokens(sql: str) -> list[Token]:
    """The tokens of one expression. Raises DefinitionError where it cannot be read, or is more than one."""
    _check_size(sql)
    try:
        found = Spark().tokenize(sql)
    except SqlglotError as error:
        raise DefinitionError("BAD_EXPRESSION", expression=sql, reason=str(error).splitlines()[0]) from None
    if not found or any(token.token_type is TokenType.SEMICOLON for token in found):
        raise DefinitionError("BAD_EXPRESSION", expression=sql, reason="expected one SQL expression")
    if re.search(r"--|/\*", sql) and sum(len(token.comments) for token in found):
        raise DefinitionError("BAD_EXPRESSION", expression=sql, reason="comments belong in the catalog's Python")
    return list(_whole_texts(sql, found))


def _whole_texts(sql: str, found: Iterable[Token]) -> Iterator[Token]:
    """The tokens, with a text that holds a quote twice as one, as Spark reads it: `'it''s'`."""
    held: Token | None = None
    for token in found:
        texts = held is not None and held.token_type is token.token_type is TokenType.STRING
        if held is not None and texts and held.end + 1 == token.start and sql[held.end] == sql[token.start]:
            text = f"{held.text}{sql[token.start]}{token.text}"
            held = Token(held.token_type, text, held.line, held.col, held.start, token.end, held.comments)
            continue
        if held is not None:
            yield held
        held = token
    if held is not None:
        yield held


def has_quotes(sql: str) -> bool:
    """Whether a text in an expression holds a quote, which sqlglot's parser reads in another way than Spark."""
    return any(token.token_type is TokenType.STRING and re.search("['\"]", token.text) for token in tokens(sql))


def _is_word(token: Token) -> bool:
    return token.token_type not in (TokenType.STRING, TokenType.NUMBER) and bool(re.match(r"[A-Za-z_]", token.text))


def check_row_expression(sql: str, columns: Iterable[str] = ()) -> None:
    """Raises DefinitionError unless `sql` uses only functions of a single event; `columns` are the names it may use."""
    found = tokens(sql)
    names = {column.lower() for column in columns}
    words = {token.text.lower() for token in found if _is_word(token)}
    for token, following in zip(found, [*found[1:], None], strict=True):
        name = token.text.lower()
        called = following is not None and following.token_type is TokenType.L_PAREN
        if token.token_type is TokenType.STRING and name.strip() in _CLOCK_WORDS and words & _TIME_WORDS:
            raise DefinitionError("NOT_DETERMINISTIC", expression=sql, function=f"'{token.text}'")
        if not _is_word(token):
            continue
        if name in _BARE_FUNCTIONS and name not in names and not called:
            raise DefinitionError("NOT_DETERMINISTIC", expression=sql, function=name)
        if token.token_type is not TokenType.IDENTIFIER or called:
            _check_word(sql, name, called)


def _check_word(sql: str, name: str, called: bool) -> None:
    if name in _FORBIDDEN:
        expected = "an expression over the columns of one event"
        raise DefinitionError("NOT_A_ROW_EXPRESSION", expression=sql, found=_FORBIDDEN[name], expected=expected)
    if not called or name in _OPERATORS or name in ROW_FUNCTIONS:
        return
    if name in _AGGREGATES:
        expected = "a measure, such as Sum or Count, over a row expression"
        raise DefinitionError(
            "NOT_A_ROW_EXPRESSION", expression=sql, found=f"the aggregate {name}()", expected=expected
        )
    raise DefinitionError(
        "FUNCTION_NOT_ALLOWED",
        expression=sql,
        function=name,
        similar=difflib.get_close_matches(name, ROW_FUNCTIONS, 3),
        expected="a deterministic function of one event (docs/catalog.md lists them)",
    )


def substitute(sql: str, columns: Mapping[str, str]) -> str:
    """`sql` with every name in `columns` replaced by its expression in parentheses; all else stays as written."""
    found, pieces, last = tokens(sql), [], 0
    by_name = {name.lower(): text for name, text in columns.items()}
    for index, token in enumerate(found):
        before = found[index - 1].token_type if index else None
        after = found[index + 1].token_type if index + 1 < len(found) else None
        named = _is_word(token) and token.text.lower() in by_name
        if named and before is not TokenType.DOT and before is not TokenType.ALIAS and after is not TokenType.L_PAREN:
            pieces += [sql[last : token.start], f"({by_name[token.text.lower()]})"]
            last = token.end + 1
    whole = "".join([*pieces, sql[last:]])
    _check_size(whole)
    return whole


def expand_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Derived columns with the derived columns that each uses, declared before it, put in their place."""
    expanded: dict[str, str] = {}
    for name, sql in columns.items():
        expanded[name] = substitute(sql, expanded)
    return expanded


def names_used(sqls: Iterable[str], known: Iterable[str]) -> set[str]:
    """Which of the `known` column names stand in any of the expressions."""
    by_name = {name.lower(): name for name in known}
    words = {token.text.lower() for sql in sqls for token in tokens(sql) if _is_word(token)}
    return {by_name[word] for word in words if word in by_name}


def may_be_used(sqls: Iterable[str], known: Iterable[str]) -> set[str]:
    """The `known` column names but for those that certainly stand in none of the expressions."""
    text = "\n".join(sqls).upper().lower()  # two letters that Spark takes for one are one here
    return {name for name in known if not name.isascii() or name.lower() in text}


def normalise(sql: str) -> str:
    """The expression without differences of spelling: white space, and the case of words outside quotes."""
    return " ".join(_normal(token) for token in tokens(sql))


def _normal(token: Token) -> str:
    if token.token_type is TokenType.STRING:
        return repr(token.text)
    return f"`{token.text.lower()}`" if not token.text.isidentifier() and _is_word(token) else token.text.lower()
